package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"unicode"

	"golang.org/x/term"
)

// writeJSON writes v as one indented object. Bytes in strings that are not UTF-8
// become U+FFFD, one for each.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("writing to stdout: %w", err)
	}
	return nil
}

// isTerminal reports whether v, a reader or a writer, is a terminal.
func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// terminalText is w for text that others wrote. On a terminal it loses the control
// characters, with which a text could move the cursor, hide itself or press keys.
func terminalText(w io.Writer) io.Writer {
	if isTerminal(w) {
		return plainText{w}
	}
	return w
}

type plainText struct{ w io.Writer }

func (p plainText) Write(b []byte) (int, error) {
	_, err := p.w.Write(bytes.Map(printable, b))
	return len(b), err
}

// printable drops control characters, C1 included, but for newline and tab.
func printable(r rune) rune {
	if r != '\n' && r != '\t' && unicode.IsControl(r) {
		return -1
	}
	return r
}
