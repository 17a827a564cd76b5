package llama

import "unicode/utf8"

// TextDecoder turns the pieces of tokens, which may end within a rune, into valid UTF-8. The zero value is ready. The
// result does not depend on where the pieces end: each byte that belongs to no rune becomes U+FFFD.
type TextDecoder struct {
	tail [utf8.UTFMax]byte
	n    int
}

// Push gives the text that is complete after piece; up to three bytes of an unfinished rune wait for the next one.
func (d *TextDecoder) Push(piece []byte) string { return string(d.Append(nil, piece)) }

// Append is Push that appends the text to dst, and returns it.
func (d *TextDecoder) Append(dst, piece []byte) []byte {
	if d.n == 0 && utf8.Valid(piece) {
		return append(dst, piece...)
	}
	for len(piece) > 0 {
		var b []byte // what can be decoded at once: the unfinished rune with what may end it, or the piece
		if d.n > 0 {
			n := copy(d.tail[d.n:], piece)
			b = d.tail[:d.n+n]
		} else {
			b = piece
		}
		if !utf8.FullRune(b) {
			d.n = copy(d.tail[:], b)
			break
		}
		r, size := utf8.DecodeRune(b)
		dst = utf8.AppendRune(dst, r)
		if size >= d.n {
			piece, d.n = piece[size-d.n:], 0
		} else { // a byte that begins nothing: what follows it is looked at again
			d.n = copy(d.tail[:], d.tail[size:d.n])
		}
	}
	return dst
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
