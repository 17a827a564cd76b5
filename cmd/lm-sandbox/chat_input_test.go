package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// pasted is an input whose lines with "|" before them come out of one paste.
type pasted []string

func (p *pasted) next(context.Context, string) (string, bool, error) {
	if len(*p) == 0 {
		return "", false, io.EOF
	}
	text, more := strings.CutPrefix((*p)[0], "|")
	*p = (*p)[1:]
	return text, more, nil
}

func TestReadMessage(t *testing.T) {
	type message struct {
		text     string
		verbatim bool
	}
	for name, tt := range map[string]struct {
		lines []string
		want  []message
	}{
		"lines":             {[]string{"one", "", "two"}, []message{{"one", false}, {"", false}, {"two", false}}},
		"backslash":         {[]string{`one\`, `two \`, "three", "four"}, []message{{"one\ntwo \nthree", false}, {"four", false}}},
		"backslash at end":  {[]string{`one\`}, []message{{"one", false}}},
		"quotes":            {[]string{`"""`, "one", "", `two\`, `"""`, "three"}, []message{{"one\n\ntwo\\", true}, {"three", false}}},
		"quotes with text":  {[]string{`"""one`, `two"""`}, []message{{"one\ntwo", true}}},
		"quotes on a line":  {[]string{`"""/help"""`, "/help"}, []message{{"/help", true}, {"/help", false}}},
		"empty quotes":      {[]string{`""""""`, "x"}, []message{{"", true}, {"x", false}}},
		"quotes not closed": {[]string{`"""`, "one"}, []message{{"\none", true}}},
		"quotes inside":     {[]string{`say """ twice`}, []message{{`say """ twice`, false}}},
		"paste":             {[]string{"|one", "|two", "three", "four"}, []message{{"one\ntwo\nthree", false}, {"four", false}}},
	} {
		t.Run(name, func(t *testing.T) {
			input := pasted(tt.lines)
			var got []message
			for {
				text, verbatim, err := readMessage(t.Context(), &input)
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				got = append(got, message{text, verbatim})
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestParseCommand(t *testing.T) {
	for message, want := range map[string][]string{
		"/help":            {"help", ""},
		"/system  Be  it.": {"system", "Be  it."},
		"/":                {"", ""},
		"/etc/hosts":       nil,
		"/Help":            nil,
		" /help":           nil,
		"help":             nil,
	} {
		name, argument, ok := parseCommand(message)
		require.Equal(t, want != nil, ok, message)
		if ok {
			require.Equal(t, want, []string{name, argument}, message)
		}
	}
}

// Keys come in reads of any size; a Ctrl-C is an error of its own and loses nothing.
func TestKeys(t *testing.T) {
	for _, size := range []int{1, 3, 256} {
		k := &keys{in: strings.NewReader("ab\x03\x03cd\x04")}
		var got string
		for {
			p := make([]byte, size)
			n, err := k.Read(p)
			got += string(p[:n])
			if errors.Is(err, errInterrupt) {
				got += "!"
				continue
			}
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
		require.Equal(t, "ab!!cd\x04", got)
	}
}

func TestConversationFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "c.json")
	want := []llama.ChatMessage{{Role: "system", Content: "s"}, {Role: "user", Content: "a <|im_end|> & \"b\"\n"}, {Role: "assistant", Content: "ü"}}
	require.NoError(t, saveConversation(name, want))
	got, err := loadConversation(name)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, saveConversation(name, nil), "an earlier conversation is replaced")
	got, err = loadConversation(name)
	require.NoError(t, err)
	require.Empty(t, got)

	other := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(other, []byte("package main\n"), 0o600))
	require.ErrorContains(t, saveConversation(other, want), "not replaced")
	text, err := os.ReadFile(other)
	require.NoError(t, err)
	require.Equal(t, "package main\n", string(text))
	require.ErrorIs(t, saveConversation(filepath.Join(dir, "none", "c.json"), want), os.ErrNotExist)
	require.Error(t, saveConversation(dir, want))
	require.Error(t, saveConversation("", want))

	for text, complaint := range map[string]string{
		``:     "not a conversation",
		`[]`:   "not a conversation",
		`{}`:   "no \"messages\"",
		`null`: "no \"messages\"",
		`{"messages":[{"role":"tool","content":"x"}]}`:                                 "role \"tool\"",
		`{"messages":[{"role":"user","content":"x"},{"role":"system","content":"x"}]}`: "role \"system\"",
		`{"messages":[{"role":"user<|im_end|>","content":"x"}]}`:                       "role",
		`{"messages":[{"role":"user","content":["x"]}]}`:                               "not a conversation",
	} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		_, err := loadConversation(name)
		require.ErrorContains(t, err, complaint, text)
	}
	_, err = loadConversation("/dev/zero")
	require.ErrorContains(t, err, "not a file")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "nothing else is left")
}

func TestPlainText(t *testing.T) {
	var b strings.Builder
	n, err := plainText{&b}.Write([]byte("a\x1b[31mb\r\nü\tc\u009bd\x07\x00"))
	require.NoError(t, err)
	require.Equal(t, 18, n)
	require.Equal(t, "a[31mb\nü\tcd", b.String())
}
