package engine

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// hermesTemplate describes tools and marks reasoning in forms that many models
// use; llama.cpp derives grammar and parser from it.
const hermesTemplate = `{%- if tools %}{{ '<|im_start|>system\nYou can call functions:' }}
{%- for t in tools %}{{ '\n' }}{{ t | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}
{%- if m.reasoning_content %}{{ '<think>\n' + m.reasoning_content + '\n</think>\n\n' }}{% endif %}
{%- if m.content %}{{ m.content }}{% endif %}
{%- if m.tool_calls %}{%- for c in m.tool_calls %}{{ '\n<tool_call>\n{"name": "' + c.function.name + '", "arguments": ' }}{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{% endif %}
{{- '<|im_end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// TestChatRenderer reads answers with the parsers of llama.cpp: whatever the
// pieces are, the deltas add up to the message.
func TestChatRenderer(t *testing.T) {
	file, err := hub.Pull(context.Background(), "", hub.Options{})
	require.NoError(t, err)
	m, err := llama.LoadModel(context.Background(), file.Path, llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	template, err := llama.NewChatTemplate(m, hermesTemplate)
	require.NoError(t, err)
	defer func() { require.NoError(t, template.Close()) }()
	tool := llama.Tool{Name: "add", Parameters: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}}}`)}

	plain, err := llama.NewChatTemplate(m, "")
	require.NoError(t, err)
	defer func() { require.NoError(t, plain.Close()) }()

	tests := []struct {
		name, text string
		tools      bool
		finish     FinishReason // as the loop gives it
		want       llama.ChatMessage
		wantFinish FinishReason
	}{
		{"content", "Hällo 😀.", false, FinishStop, llama.ChatMessage{Content: "Hällo 😀."}, FinishStop},
		{"content, cut", "Hello", false, FinishLength, llama.ChatMessage{Content: "Hello"}, FinishLength},
		{"nothing", "", false, FinishStop, llama.ChatMessage{}, FinishStop},
		{"reasoning", "<think>\nLet me see.\n</think>\n\nYes.", false, FinishStop, llama.ChatMessage{ReasoningContent: "Let me see.\n", Content: "Yes."}, FinishStop},
		{"tool call", "Sure.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": \"é\"}}\n</tool_call>", true, FinishStop,
			llama.ChatMessage{Content: "Sure.\n", ToolCalls: []llama.ToolCall{{Name: "add", Arguments: `{"a": 1, "b": "é"}`}}}, FinishToolCalls},
		{"tool call, cut", "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1", true, FinishLength,
			llama.ChatMessage{ToolCalls: []llama.ToolCall{{Name: "add", Arguments: `{"a": 1`}}}, FinishLength},
		{"tool call in text", `{"tool_calls": [{"name": "add", "arguments": {"b": "é"}}]}`, true, FinishStop,
			llama.ChatMessage{ToolCalls: []llama.ToolCall{{Name: "add", Arguments: `{"b": "é"}`}}}, FinishToolCalls},
		{"tool call in text, fenced", "```json\n{\"tool_calls\": [{\"name\": \"add\", \"arguments\": {}}]}\n```", true, FinishStop,
			llama.ChatMessage{ToolCalls: []llama.ToolCall{{Name: "add", Arguments: `{}`}}}, FinishToolCalls},
		{"response in text", `{"response": "Hällo \"😀\"."}`, true, FinishStop, llama.ChatMessage{Content: `Hällo "😀".`}, FinishStop},
		{"response in text, cut", `{"response": "Hällo \u00`, true, FinishLength, llama.ChatMessage{Content: "Hällo "}, FinishLength},
		{"in text, cut before anything is said", `{"tool_c`, true, FinishLength, llama.ChatMessage{}, FinishLength},
		{"in text, ended in the middle", `{"tool_c`, true, FinishStop, llama.ChatMessage{Content: `{"tool_c`}, FinishStop},
		{"in text, nothing to say", `{"response": ""}`, true, FinishStop, llama.ChatMessage{}, FinishStop},
		{"white space", "\n\n", false, FinishStop, llama.ChatMessage{Content: "\n\n"}, FinishStop},
		{"white space before JSON, cut", "\n \n", false, FinishLength, llama.ChatMessage{Content: "\n \n"}, FinishLength},
		{"white space before JSON, stopped", "\n", false, FinishStop, llama.ChatMessage{Content: "\n"}, FinishStop},
		{"white space before JSON", "\n{}", false, FinishStop, llama.ChatMessage{Content: "{}"}, FinishStop},
		{"in text, but no JSON", "Hello", true, FinishStop, llama.ChatMessage{Content: "Hello"}, FinishStop},
		{"no tool call after all", "Just text", true, FinishStop, llama.ChatMessage{Content: "Just text"}, FinishStop},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := ChatRequest{Messages: []llama.ChatMessage{{Role: "user", Content: "hi"}}}
			if tt.tools {
				r.Tools = []llama.Tool{tool}
			}
			e := &Engine{template: ownTemplate{template}, maxSeq: 1024, longestPiece: func() int { return 1 }}
			if strings.Contains(tt.name, "before JSON") {
				r.Schema = json.RawMessage(`{"type":"object"}`)
			}
			if strings.Contains(tt.name, "in text") {
				e.template = ownTemplate{plain}
			}
			prompt, inText, err := e.applyTemplate(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, strings.Contains(tt.name, "in text"), inText)
			for _, size := range []int{1, 3, 1000} {
				c, err := newChatRenderer(prompt, inText)
				require.NoError(t, err)
				var deltas []ChatDelta
				runes := []rune(tt.text)
				for len(runes) > 0 {
					n := min(size, len(runes))
					var d ChatDelta
					c.add(&d, &output{text: []byte(string(runes[:n]))})
					deltas = append(deltas, d)
					runes = runes[n:]
				}
				result := Result{FinishReason: tt.finish}
				var last ChatDelta
				c.end(&last, &result)
				require.NoError(t, c.Close())
				got := joinDeltas(t, append(deltas, last))
				for i := range got.ToolCalls {
					require.NotEmpty(t, got.ToolCalls[i].ID)
					got.ToolCalls[i].ID = ""
				}
				require.Equal(t, tt.want, got, "pieces of %d", size)
				require.Equal(t, tt.wantFinish, last.Result.FinishReason)
			}
		})
	}
}

func joinDeltas(t *testing.T, deltas []ChatDelta) (m llama.ChatMessage) {
	for _, d := range deltas {
		m.Content += d.Content
		m.ReasoningContent += d.Reasoning
		for _, c := range d.ToolCalls {
			if c.Index == len(m.ToolCalls) {
				m.ToolCalls = append(m.ToolCalls, llama.ToolCall{ID: c.ID, Name: c.Name})
			}
			require.Less(t, c.Index, len(m.ToolCalls))
			m.ToolCalls[c.Index].Arguments += c.Arguments
		}
	}
	return m
}
