package main

import (
	"bytes"
	"errors"
	"io"
	"os"

	"golang.org/x/term"
)

const ctrlC = 3

// editor edits lines on a terminal in raw mode.
type editor struct {
	fd       int
	screen   io.Writer
	keys     *keys
	terminal *term.Terminal
}

func newEditor(in *os.File, screen io.Writer) *editor {
	e := &editor{fd: int(in.Fd()), screen: screen, keys: &keys{in: in}}
	e.begin()
	return e
}

// begin forgets the line that is being edited.
func (e *editor) begin() {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.screen}, "")
	if e.terminal != nil {
		t.History = e.terminal.History
	}
	e.terminal = t
}

// read returns the next line. The terminal must be in raw mode.
func (e *editor) read(prompt string) line {
	if width, height, err := term.GetSize(e.fd); err == nil && width > 0 && height > 0 {
		_ = e.terminal.SetSize(width, height) // of an empty line: nothing is drawn
	}
	e.terminal.SetPrompt(prompt)
	e.terminal.SetBracketedPasteMode(true)
	defer e.terminal.SetBracketedPasteMode(false)
	text, err := e.terminal.ReadLine()
	switch {
	case errors.Is(err, term.ErrPasteIndicator):
		return line{text: text, more: true}
	case errors.Is(err, errInterrupt):
		_, _ = io.WriteString(e.screen, "^C\r\n")
		e.begin()
	}
	return line{text: text, err: err}
}

// keys makes an error of Ctrl-C. term.Terminal takes it for the end of the input, as
// it does Ctrl-D, and stays there.
type keys struct {
	in   io.Reader
	buf  [256]byte
	rest []byte
}

func (k *keys) Read(p []byte) (int, error) {
	if len(k.rest) == 0 {
		n, err := k.in.Read(k.buf[:])
		if n == 0 {
			return 0, err
		}
		k.rest = k.buf[:n]
	}
	if k.rest[0] == ctrlC {
		k.rest = k.rest[1:]
		return 0, errInterrupt
	}
	typed, _, _ := bytes.Cut(k.rest, []byte{ctrlC})
	n := copy(p, typed)
	k.rest = k.rest[n:]
	return n, nil
}
