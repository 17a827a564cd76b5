package engine

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func TestToolParserWholeAnswers(t *testing.T) {
	tests := []struct {
		name, text string
		content    string
		calls      []llama.ToolCall
	}{
		{"response", `{"response": "a\"b\n\u00e9 \ud83d\ude00"}`, "a\"b\né 😀", nil},
		{"white space", " {\n \"response\" :\t\"x\" } ", "x", nil},
		{"one call", `{"tool_calls": [{"name": "f", "arguments": {"a": [1, "}"], "b": {}}}]}`, "",
			[]llama.ToolCall{{Name: "f", Arguments: `{"a": [1, "}"], "b": {}}`}}},
		{"two calls", `{"tool_calls":[{"name":"f","arguments":{}},{"name":"g","arguments":{"x":-1.5e3}}]}`, "",
			[]llama.ToolCall{{Name: "f", Arguments: `{}`}, {Name: "g", Arguments: `{"x":-1.5e3}`}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := parseToolAnswer(tt.text, false)
			require.NoError(t, err)
			require.Equal(t, llama.ChatMessage{Role: "assistant", Content: tt.content, ToolCalls: tt.calls}, m)
		})
	}
}

func TestToolParserRefusesOtherText(t *testing.T) {
	for _, text := range []string{"", "hello", `{"response": "x"`, `{"other": 1}`, `[]`, `{"response": 5}`, `{"tool_calls": {}}`, `{"response": "\x"}`} {
		_, err := parseToolAnswer(text, false)
		require.Error(t, err, text)
	}
}

// requireGrowing parses every beginning of text and checks that each message
// continues the one before, so that differences can be streamed.
func requireGrowing(t *testing.T, text string) {
	var last llama.ChatMessage
	for n := range len(text) + 1 {
		m, err := parseToolAnswer(text[:n], true)
		require.NoError(t, err, "%q", text[:n])
		require.True(t, strings.HasPrefix(m.Content, last.Content), "%q does not continue %q", m.Content, last.Content)
		require.True(t, utf8.ValidString(m.Content) || !utf8.ValidString(text[:n]))
		require.GreaterOrEqual(t, len(m.ToolCalls), len(last.ToolCalls))
		for i, c := range last.ToolCalls {
			require.Equal(t, c.Name, m.ToolCalls[i].Name)
			require.True(t, strings.HasPrefix(m.ToolCalls[i].Arguments, c.Arguments), "%q does not continue %q", m.ToolCalls[i].Arguments, c.Arguments)
		}
		last = m
	}
}

func TestToolParserGrows(t *testing.T) {
	requireGrowing(t, `{"response": "a\"b\\\n\u00e9\ud83d\ude00 😀 é \ud800x"}`)
	requireGrowing(t, `{"tool_calls": [ {"name": "fé\n", "arguments": {"a": [1, "}\""], "b": {"c": null}}}, {"name":"g","arguments":[true]}]} `)
}

func FuzzToolParser(f *testing.F) {
	f.Add("text", "name", `{"a":[1,"x"]}`)
	f.Add("😀\u0000\"", "\\", `"s"`)
	f.Add("é", "f", `[[],{},-0.5,null,true,"\ud83d\ude00"]`)
	f.Add("", "0", strings.Repeat("4", 400)) // no float64
	f.Fuzz(func(t *testing.T, content, name, arguments string) {
		if !utf8.ValidString(content) || !utf8.ValidString(name) {
			return // JSON strings are UTF-8
		}
		response, err := json.Marshal(toolAnswer{Response: content})
		require.NoError(t, err)
		if content != "" {
			m, err := parseToolAnswer(string(response), false)
			require.NoError(t, err)
			require.Equal(t, content, m.Content)
			requireGrowing(t, string(response))
		}
		if !json.Valid([]byte(arguments)) || !utf8.ValidString(arguments) {
			_, _ = parseToolAnswer(`{"tool_calls":[{"name":"f","arguments":`+arguments+`}]}`, true) // must not panic
			return
		}
		calls, err := json.Marshal(toolAnswer{ToolCalls: []toolCallText{{name, json.RawMessage(arguments)}, {name, json.RawMessage(arguments)}}})
		require.NoError(t, err)
		same, err := json.Marshal(json.RawMessage(arguments)) // as Marshal writes it above
		require.NoError(t, err)
		m, err := parseToolAnswer(string(calls), false)
		require.NoError(t, err)
		require.Len(t, m.ToolCalls, 2)
		for _, c := range m.ToolCalls {
			require.Equal(t, name, c.Name)
			require.Equal(t, string(same), c.Arguments)
		}
		requireGrowing(t, string(calls))
	})
}
