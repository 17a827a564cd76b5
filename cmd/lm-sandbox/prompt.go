package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// promptText joins the parts of the prompt.
func promptText(ctx context.Context, prompt string, args []string, stdin io.Reader) (string, error) {
	var parts, words []string
	if prompt != "" {
		parts = append(parts, prompt)
	}
	readStdin := prompt == "" && len(args) == 0
	for _, a := range args {
		if a == "-" {
			readStdin = true
		} else {
			words = append(words, a)
		}
	}
	if text := strings.Join(words, " "); text != "" {
		parts = append(parts, text)
	}
	if readStdin {
		if isTerminal(stdin) && len(parts) == 0 && len(args) == 0 {
			return "", usage(errors.New("no prompt"), "write it after 'run', or pipe it in")
		}
		text, err := readAll(ctx, stdin)
		if err != nil {
			return "", fmt.Errorf("reading the prompt from stdin: %w", err)
		}
		if text = strings.TrimSuffix(text, "\n"); text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return "", usage(errors.New("the prompt is empty"), "write it after 'run', or pipe it in")
	}
	return strings.Join(parts, "\n\n"), nil
}

// readAll reads r to its end, or until ctx ends: a read of a terminal or a pipe cannot be
// interrupted, so the goroutine that does it is left to the end of the process.
func readAll(ctx context.Context, r io.Reader) (string, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(r)
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-done:
		return string(r.text), r.err
	}
}
