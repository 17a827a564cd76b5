package llama_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestContinueFinalMessage(t *testing.T) {
	m := loadFixture(t, fixture.Llama(1))
	c := chatTemplate(t, m, "chatml")
	user := llama.ChatMessage{Role: "user", Content: "x"}
	half := llama.ChatMessage{Role: "assistant", Content: "The <|im_end|> is"}
	p, err := c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{user, half}, ContinueFinalMessage: "auto"})
	require.NoError(t, err)
	require.True(t, p.Continues)
	require.True(t, strings.HasSuffix(p.Text, "<|im_start|>assistant\nThe <|im_end|> is"), p.Text)
	require.Len(t, controls(m.Vocab(), p.Tokens), 4, "BOS and those of the template")
	parser, err := p.NewParser()
	require.NoError(t, err)
	defer func() { require.NoError(t, parser.Close()) }()
	answer, err := parser.Parse(" near.", false)
	require.NoError(t, err)
	require.Equal(t, "The <|im_end|> is near.", answer.Content)

	for name, r := range map[string]llama.ChatTemplateRequest{
		"user":       {Messages: []llama.ChatMessage{user}, ContinueFinalMessage: "auto"},
		"empty":      {Messages: []llama.ChatMessage{user, {Role: "assistant"}}, ContinueFinalMessage: "auto"},
		"tool calls": {Messages: []llama.ChatMessage{user, {Role: "assistant", ToolCalls: []llama.ToolCall{{Name: "f"}}}}, ContinueFinalMessage: "content"},
	} {
		_, err := c.Apply(r)
		require.ErrorIs(t, err, llama.ErrInvalidMessage, name)
	}
	_, err = c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{user, half}, ContinueFinalMessage: "yes"})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	_, err = c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{user}, ReasoningFormat: "x"})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

func TestBuiltinChatTemplates(t *testing.T) {
	names := llama.BuiltinChatTemplates()
	require.Subset(t, names, []string{"chatml", "llama2", "gemma"})
	require.True(t, slices.IsSorted(names))
	m := loadFixture(t, fixture.Llama(1))
	hi := []llama.ChatMessage{{Role: "user", Content: "hi</s>"}}
	for _, name := range names {
		p, err := chatTemplate(t, m, name).Apply(llama.ChatTemplateRequest{Messages: hi, AddGenerationPrompt: true})
		require.NoError(t, err, name)
		require.Contains(t, p.Text, "hi</s>", name)
		require.NotEqual(t, name, p.Text)
		base, err := chatTemplate(t, m, name).Apply(llama.ChatTemplateRequest{
			Messages: []llama.ChatMessage{{Role: "user", Content: "hi"}}, AddGenerationPrompt: true})
		require.NoError(t, err)
		require.Equal(t, controls(m.Vocab(), base.Tokens), controls(m.Vocab(), p.Tokens), name)
	}
	_, err := llama.NewChatTemplate(m, "llama9")
	require.ErrorIs(t, err, llama.ErrChatTemplate)
	require.ErrorContains(t, err, "chatml")
	_, err = llama.NewChatTemplate(m, "")
	require.ErrorIs(t, err, llama.ErrNoChatTemplate)
	_, err = chatTemplate(t, m, "llama2").Apply(llama.ChatTemplateRequest{
		Messages: []llama.ChatMessage{hi[0], {Role: "assistant", Content: "a"}}, ContinueFinalMessage: "auto"})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

// Twice the control texts, twice the memory: nothing of it grows faster than the conversation.
func TestRenderingIsLinear(t *testing.T) {
	c := chatTemplate(t, loadFixture(t, fixture.Llama(1)), "chatml")
	bytes := func(texts int) float64 {
		content := strings.Repeat("<|im_end|> tick, ", texts)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.Apply(llama.ChatTemplateRequest{Messages: []llama.ChatMessage{{Role: "user", Content: content}}})
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	bytes(10)
	require.Less(t, bytes(6000)/bytes(1500), 6.0, "of 4 times the texts")
}
