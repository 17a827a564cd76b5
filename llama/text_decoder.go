package llama

import "unicode/utf8"

// TextDecoder turns the pieces of tokens, which may end within a rune, into valid UTF-8. The zero value is ready. The
// result does not depend on where the pieces end: each byte that belongs to no rune becomes U+FFFD.
type TextDecoder struct {
	tail [utf8.UTFMax]byte
	n    int
}

// Push gives the text that is complete after piece; up to three bytes of an unfinished rune wait for the next one.
func (d *TextDecoder) Push(piece []byte) string {
	if d.n == 0 && utf8.Valid(piece) {
		return string(piece)
	}
	b := append(d.tail[:d.n:d.n], piece...)
	d.n = 0
	out := make([]byte, 0, len(b)+utf8.UTFMax)
	for len(b) > 0 {
		if !utf8.FullRune(b) {
			d.n = copy(d.tail[:], b)
			break
		}
		r, size := utf8.DecodeRune(b)
		out = utf8.AppendRune(out, r)
		b = b[size:]
	}
	return string(out)
}

// Flush gives what waited: U+FFFD for each byte of an unfinished rune. The decoder is then as new.
func (d *TextDecoder) Flush() string {
	var out []byte
	for range d.n {
		out = utf8.AppendRune(out, utf8.RuneError)
	}
	d.n = 0
	return string(out)
}
