package sandbox

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Plain is output as a line printer would have it: text for a model, a log or JSON, with
// nothing in it that a terminal would act upon. It is valid UTF-8 and holds no control
// character but newline and tab. [Result] and [ExecResult] keep the output raw.
//
//   - Escape sequences are dropped: CSI, OSC (titles, clipboard, links), DCS, APC, PM, SOS
//     and all others, after ESC or a C1 character, as UTF-8 or as the byte 0x80 to 0x9f.
//     One that is not terminated ends with its line at the latest, and not with the output.
//   - A carriage return and a backspace move back, and what follows replaces what was
//     there, as on a screen: of a progress bar the last state remains. CR LF is a newline.
//     Erasing a line or its rest (EL) and going to its first column (CHA) are followed,
//     other movement is not.
//   - Vertical tab and form feed are newlines; other control characters are dropped, NUL
//     and DEL among them.
//   - Bytes that are no UTF-8 become U+FFFD, one for each broken character; a character
//     that is cut by the end of b, as by Limits.Output, is dropped.
//
// What moves back does so within the last 65,536 characters of a line.
func Plain(b []byte) string {
	var text strings.Builder
	w := NewPlainWriter(&text)
	_, _ = w.Write(b) // a strings.Builder takes everything
	_ = w.Close()
	return text.String()
}

// PlainWriter passes on what is written to it as [Plain] makes it, line by line. It is
// for one goroutine at a time.
type PlainWriter struct {
	to      io.Writer
	held    []byte // the beginning of a character
	state   func(*PlainWriter, rune)
	line    []rune
	at      int    // in line: where the next character goes
	params  []byte // of a CSI, the first few
	emitted bytes.Buffer
	err     error
}

// NewPlainWriter returns a PlainWriter that writes to w.
func NewPlainWriter(w io.Writer) *PlainWriter {
	return &PlainWriter{to: w, state: (*PlainWriter).ground}
}

// Write returns the error of the writer below, which it is then given no more.
func (w *PlainWriter) Write(b []byte) (int, error) {
	rest := b
	if len(w.held) > 0 {
		rest = slices.Concat(w.held, b)
	}
	for len(rest) > 0 && utf8.FullRune(rest) {
		r, n := utf8.DecodeRune(rest)
		if r == utf8.RuneError && n == 1 {
			r, n = broken(rest)
		}
		if n == 0 {
			break
		}
		w.state(w, r)
		rest = rest[n:]
	}
	w.held = append([]byte(nil), rest...)
	if err := w.flush(); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close passes on what is left of the last line. It does not close the writer below.
func (w *PlainWriter) Close() error {
	w.held = nil
	w.emit()
	return w.flush()
}

func (w *PlainWriter) flush() error {
	if w.err == nil && w.emitted.Len() > 0 {
		_, w.err = w.to.Write(w.emitted.Bytes())
	}
	w.emitted.Reset()
	return w.err
}

// broken is the rune for bytes that are no UTF-8, and how many of them it stands for: a C1
// character of an 8-bit terminal, or what is there of a character; 0 if more may come of it.
func broken(b []byte) (rune, int) {
	if b[0] >= 0x80 && b[0] <= 0x9f {
		return rune(b[0]), 1
	}
	whole, n := 1, 1
	for lead := byte(0xc0); whole < utf8.UTFMax && b[0] >= lead; lead = lead>>1 | 0x80 {
		whole++
	}
	for n < whole && n < len(b) && !utf8.RuneStart(b[n]) {
		n++
	}
	if n < whole && n == len(b) {
		return 0, 0
	}
	return utf8.RuneError, n
}

// Control characters, and the introducers of strings.
const (
	bel, can, sub, esc, del = 0x07, 0x18, 0x1a, 0x1b, 0x7f
	dcs, sos, csi, st       = 0x90, 0x98, 0x9b, 0x9c
	osc, pm, apc            = 0x9d, 0x9e, 0x9f
)

const longestLine = 1 << 16 // characters that are held back

func (w *PlainWriter) ground(r rune) {
	switch {
	case r == '\n', r == '\v', r == '\f':
		w.emit()
		w.emitted.WriteByte('\n')
	case r == '\r':
		w.at = 0
	case r == '\b':
		w.at = max(w.at-1, 0)
	case r == esc:
		w.state = (*PlainWriter).escape
	case r == csi:
		w.params, w.state = w.params[:0], (*PlainWriter).control
	case r == dcs, r == sos, r == osc, r == pm, r == apc:
		w.state = (*PlainWriter).text
	case r < ' ' && r != '\t', between(r, del, 0x9f):
	default:
		w.put(r)
	}
}

func (w *PlainWriter) put(r rune) {
	if w.at == len(w.line) {
		w.line = append(w.line, r)
	}
	w.line[w.at] = r
	w.at++
	if w.at >= longestLine {
		w.emit()
	}
}

// emit ends what can still be changed.
func (w *PlainWriter) emit() {
	for _, r := range w.line {
		w.emitted.WriteRune(r)
	}
	w.line, w.at = w.line[:0], 0
}

// back is for a character that ends a sequence and is none of it.
func (w *PlainWriter) back(r rune) {
	w.state = (*PlainWriter).ground
	w.ground(r)
}

// escape follows ESC.
func (w *PlainWriter) escape(r rune) {
	w.state = (*PlainWriter).ground
	switch {
	case r == '[':
		w.ground(csi)
	case r == ']', r == 'P', r == 'X', r == '^', r == '_':
		w.state = (*PlainWriter).text
	case between(r, ' ', '/'):
		w.state = (*PlainWriter).intermediate
	case !between(r, '0', '~'):
		w.ground(r)
	}
}

func (w *PlainWriter) intermediate(r rune) {
	switch {
	case between(r, ' ', '/'):
	case between(r, '0', '~'):
		w.state = (*PlainWriter).ground
	default:
		w.back(r)
	}
}

// control is within a CSI.
func (w *PlainWriter) control(r rune) {
	switch {
	case between(r, ' ', '?'):
		if len(w.params) < 2 {
			w.params = append(w.params, byte(r))
		}
	case between(r, '@', '~'):
		w.state = (*PlainWriter).ground
		w.move(r, string(w.params))
	default:
		w.back(r)
	}
}

// move follows what programs use beside a carriage return to write a line again.
func (w *PlainWriter) move(final rune, params string) {
	switch string(final) + params {
	case "K", "K0":
		w.line = w.line[:w.at]
	case "K2":
		w.line, w.at = w.line[:0], 0
	case "G", "G1":
		w.at = 0
	}
}

// text is within the string of an OSC, DCS, APC, PM or SOS.
func (w *PlainWriter) text(r rune) {
	switch r {
	case esc: // the string ends: by ST, or by another sequence
		w.state = (*PlainWriter).terminator
	case bel, st, can, sub:
		w.state = (*PlainWriter).ground
	case '\n':
		w.back(r)
	}
}

func (w *PlainWriter) terminator(r rune) {
	if r == '\\' {
		w.state = (*PlainWriter).ground
		return
	}
	w.escape(r)
}

func between(r, low, high rune) bool { return low <= r && r <= high }
