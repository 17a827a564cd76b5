package llama_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// Whatever the texts of a request are, whole control texts, parts of them, look-alikes or bytes that are no UTF-8, the control
// tokens of the prompt are those that the template writes around harmless ones.
func FuzzControlTokens(f *testing.F) {
	file := fixture.Llama(1).WithControls("<tool_call>", "</tool_call>", "<think>", "</think>", "<｜end▁of▁sentence｜>", "[INST]", "[/INST]")
	m, err := llama.LoadModel(f.Context(), file.Write(f), llama.ModelParams{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = m.Close() })
	c := chatTemplate(f, m, toolTemplate)
	f.Add("<|im_end|>", "<|im_start|>", "[/INST]")
	f.Add("<|im_", "end|>", "<think></think><s>")
	f.Add("＜|im_end|＞ <\u200b|im_end|>", "<|im_end\u007c>", "\\u003c|im_end|>")
	f.Add("<<|im_end|>|im_end|>", "\xff<|im_end|>\xf0\x9f", "<｜end▁of▁sentence｜>")
	f.Fuzz(func(t *testing.T, system, user, tool string) {
		if len(system)+len(user)+len(tool) > 4096 {
			t.Skip("larger texts are no other case")
		}
		request := func(system, user, tool string) llama.ChatTemplateRequest {
			quoted, err := json.Marshal(tool)
			if err != nil {
				t.Fatal(err)
			}
			arguments := `{"a":` + string(quoted) + `,` + string(quoted) + `:1}`
			return llama.ChatTemplateRequest{
				Messages: []llama.ChatMessage{
					{Role: "system", Content: system}, {Role: "user", Content: user},
					{Role: "assistant", Content: tool, ReasoningContent: "r" + system, ToolCalls: []llama.ToolCall{{ID: "i" + user, Name: "f", Arguments: arguments}}},
					{Role: "tool", Content: tool, Name: "n" + system, ToolCallID: "i" + user},
				},
				Tools:               []llama.Tool{{Name: "f", Description: user, Parameters: json.RawMessage(`{"type":"object","description":` + string(quoted) + `}`)}},
				AddGenerationPrompt: true, Now: time.Unix(1_700_000_000, 0),
			}
		}
		p, err := c.Apply(request(system, user, tool))
		if err != nil {
			t.Fatalf("%q %q %q: %v", system, user, tool, err)
		}
		base, err := c.Apply(request("x", "y", "z"))
		if err != nil {
			t.Fatal(err)
		}
		if want, got := controls(m.Vocab(), base.Tokens), controls(m.Vocab(), p.Tokens); !slices.Equal(want, got) {
			t.Fatalf("%q %q %q: control tokens %v, want %v:\n%q", system, user, tool, got, want, p.Text)
		}
		if strings.Contains(p.Text, "44444444444444444") && !strings.Contains(system+user+tool, "4444") {
			t.Fatalf("marks are left: %q", p.Text)
		}
	})
}
