package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errInterrupt is a Ctrl-C at the prompt.
var errInterrupt = errors.New("interrupted")

const (
	firstPrompt = "> "
	morePrompt  = ". "
	quotes      = `"""`
	mostLine    = 16 << 20 // bytes of one line of input
)

// lineReader gives the lines of the input.
type lineReader interface {
	// next returns a line without its end. more says that it came out of a paste that
	// goes on: the lines of one paste are one message. io.EOF is the end.
	next(ctx context.Context, prompt string) (line string, more bool, err error)
}

// readMessage reads the lines of one message. verbatim says that it was quoted, and
// so is no command. An input that ends within a message ends the message.
func readMessage(ctx context.Context, r lineReader) (message string, verbatim bool, err error) {
	var parts []string
	prompt, inQuotes := firstPrompt, false
	for {
		line, more, err := r.next(ctx, prompt)
		if errors.Is(err, io.EOF) && len(parts) > 0 {
			return strings.Join(parts, "\n"), verbatim, nil
		}
		if err != nil {
			return "", false, err
		}
		prompt = morePrompt
		if rest, ok := strings.CutPrefix(line, quotes); ok && len(parts) == 0 {
			line, inQuotes, verbatim = rest, true, true
			more = line == "" // a line of its own
			if more {
				parts = append(parts, "")
				continue
			}
		}
		if inQuotes {
			body, end := strings.CutSuffix(line, quotes)
			parts = append(parts, body)
			if end {
				return strings.Trim(strings.Join(parts, "\n"), "\n"), true, nil
			}
			continue
		}
		body, goesOn := strings.CutSuffix(line, `\`)
		parts = append(parts, body)
		if !goesOn && !more {
			return strings.Join(parts, "\n"), verbatim, nil
		}
	}
}

// lines reads stdin, whose reads nothing can interrupt: each is done by a goroutine,
// which is left behind, at most one of them, when ctx or an interrupt comes first.
type lines struct {
	std        stdio
	interrupts <-chan struct{}
	prompting  bool // stdin is a terminal
	editor     *editor
	scanner    *bufio.Scanner
	pending    chan line // of a read that was left behind; nil is none
}

type line struct {
	text string
	more bool
	err  error
}

// newLines edits lines where stdin and stdout are terminals that can.
func newLines(std stdio, interrupts <-chan struct{}, edit bool) *lines {
	l := &lines{std: std, interrupts: interrupts, prompting: isTerminal(std.in)}
	if edit && l.prompting && isTerminal(std.out) {
		l.editor = newEditor(std.in.(*os.File), std.out)
		return l
	}
	l.scanner = bufio.NewScanner(std.in)
	l.scanner.Buffer(nil, mostLine)
	return l
}

func (l *lines) next(ctx context.Context, prompt string) (text string, more bool, err error) {
	if l.editor != nil {
		state, failed := term.MakeRaw(l.editor.fd)
		if failed != nil {
			return "", false, fmt.Errorf("the terminal: %w", failed)
		}
		defer func() { err = errors.Join(err, term.Restore(l.editor.fd, state)) }()
	} else if l.prompting {
		fmt.Fprint(l.std.err, prompt)
	}
	if l.pending == nil {
		l.pending = make(chan line, 1)
		go func(done chan<- line) { done <- l.read(prompt) }(l.pending)
	}
	select {
	case r := <-l.pending:
		l.pending = nil
		if errors.Is(r.err, io.EOF) && l.prompting {
			fmt.Fprint(l.std.err, "\r\n") // the next prompt is the shell's
		}
		return r.text, r.more, r.err
	case <-l.interrupts:
		fmt.Fprint(l.std.err, "\r\n")
		return "", false, errInterrupt
	case <-ctx.Done():
		return "", false, ctx.Err()
	}
}

func (l *lines) read(prompt string) line {
	if l.editor != nil {
		return l.editor.read(prompt)
	}
	if l.scanner.Scan() {
		return line{text: strings.TrimSuffix(l.scanner.Text(), "\r")}
	}
	err := l.scanner.Err()
	if err == nil {
		err = io.EOF
	}
	return line{err: err}
}
