package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestPromptText(t *testing.T) {
	tests := []struct {
		name   string
		prompt string
		args   []string
		stdin  string
		want   string
		rest   string // what stays unread in stdin
	}{
		{name: "flag", prompt: "a", stdin: "s", want: "a", rest: "s"},
		{name: "arguments", args: []string{"a", "b"}, stdin: "s", want: "a b", rest: "s"},
		{name: "flag and arguments", prompt: "p", args: []string{"a", "b"}, stdin: "s", want: "p\n\na b", rest: "s"},
		{name: "stdin", stdin: "s\n", want: "s"},
		{name: "stdin keeps all but one newline", stdin: " s\n\n", want: " s\n"},
		{name: "dash alone", args: []string{"-"}, stdin: "s", want: "s"},
		{name: "flag and dash", prompt: "p", args: []string{"-"}, stdin: "s", want: "p\n\ns"},
		{name: "all three", prompt: "p", args: []string{"a", "-", "b"}, stdin: "s", want: "p\n\na b\n\ns"},
		{name: "dash with empty stdin", args: []string{"a", "-"}, want: "a"},
		{name: "flag is kept as it is", prompt: " a\n", want: " a\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdin := strings.NewReader(tt.stdin)
			got, err := promptText(t.Context(), tt.prompt, tt.args, stdin)
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if rest, _ := io.ReadAll(stdin); string(rest) != tt.rest {
				t.Errorf("left %q in stdin, want %q", rest, tt.rest)
			}
		})
	}
}

func TestPromptTextRefusesNothing(t *testing.T) {
	for name, args := range map[string][]string{"no arguments": nil, "dash": {"-"}, "empty argument": {""}} {
		t.Run(name, func(t *testing.T) {
			_, err := promptText(t.Context(), "", args, strings.NewReader("\n"))
			var f *failure
			if !errors.As(err, &f) || f.code != exitUsage || f.hint == "" {
				t.Errorf("got %v, want a usage error with a hint", err)
			}
		})
	}
}

func TestPromptTextTellsOfBrokenStdin(t *testing.T) {
	broken := errors.New("broken")
	if _, err := promptText(t.Context(), "", nil, io.MultiReader(strings.NewReader("s"), errReader{broken})); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of stdin", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
