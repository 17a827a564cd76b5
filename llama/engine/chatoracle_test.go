package engine

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/chatoracle"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// Every answer of llama.cpp's test-chat.cpp, by number, in pieces: the deltas
// add up to the message that llama.cpp reads in the whole.
func TestOracleChatDeltas(t *testing.T) {
	m, err := llama.LoadModel(context.Background(), fixture.Llama(1).WithBytesOnly().Write(t), llama.ModelParams{})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	templates := map[string]*llama.ChatTemplate{}
	rng := rand.New(rand.NewPCG(1, 2))
	answers := 0
	for number, c := range chatoracle.Cases(t) {
		if c.Answer == nil {
			continue
		}
		answers++
		template := templates[c.Template]
		if template == nil {
			template, err = llama.NewChatTemplate(m, c.Template)
			require.NoError(t, err)
			defer func() { require.NoError(t, template.Close()) }()
			templates[c.Template] = template
		}
		prompt, err := template.Apply(c.Request())
		require.NoError(t, err)
		for _, most := range []int{1, 40} { // bytes per piece, or a few more
			got := inPieces(t, prompt, c.Answer, func() int { return 1 + rng.IntN(most) })
			if !sameMessage(c.Answer, got) {
				t.Errorf("case %d, pieces of %d: %q\nwant %+v\ngot  %+v", number, most, c.Answer.Input, c.Answer.Want(), got)
			}
		}
	}
	t.Logf("%d answers", answers)
	require.GreaterOrEqual(t, answers, 461)
}

// inPieces sends an answer through the renderer and adds up the deltas, with
// what a continued message has already.
func inPieces(t *testing.T, prompt *llama.ChatPrompt, a *chatoracle.Answer, size func() int) llama.ChatMessage {
	t.Helper()
	render, err := newChatRenderer(prompt, false)
	require.NoError(t, err)
	defer func() { require.NoError(t, render.Close()) }()
	got := render.sent
	got.Role = "assistant"
	for text := a.Input; text != ""; {
		n := min(size(), len(text))
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		var d ChatDelta
		render.add(&d, &output{text: []byte(text[:n])})
		text = text[n:]
		addDelta(t, &got, d)
	}
	finish := FinishStop
	if a.Partial {
		finish = FinishLength
	}
	var d ChatDelta
	render.end(&d, &Result{FinishReason: finish})
	addDelta(t, &got, d)
	return got
}

func addDelta(t *testing.T, m *llama.ChatMessage, d ChatDelta) {
	t.Helper()
	m.Content += d.Content
	m.ReasoningContent += d.Reasoning
	for _, c := range d.ToolCalls {
		if c.Name != "" {
			require.Len(t, m.ToolCalls, c.Index, "calls begin in their order")
			require.NotEmpty(t, c.ID)
			m.ToolCalls = append(m.ToolCalls, llama.ToolCall{ID: c.ID, Name: c.Name})
		} else {
			require.Empty(t, c.ID)
		}
		require.Less(t, c.Index, len(m.ToolCalls))
		m.ToolCalls[c.Index].Arguments += c.Arguments
	}
}

// sameMessage takes any ID for a call whose ID comes after its arguments, or
// never: the call has begun before.
func sameMessage(a *chatoracle.Answer, got llama.ChatMessage) bool {
	want := a.Want()
	if want.Content != got.Content || want.ReasoningContent != got.ReasoningContent || len(want.ToolCalls) != len(got.ToolCalls) {
		return false
	}
	for i, w := range want.ToolCalls {
		g := got.ToolCalls[i]
		late := w.ID == "" || strings.Index(a.Input, w.ID) > strings.Index(a.Input, w.Name)
		if w.Name != g.Name || w.ID != g.ID && !late || !sameJSON(w.Arguments, g.Arguments) {
			return false
		}
	}
	return true
}

func sameJSON(a, b string) bool {
	var x, y any
	if a == b || json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}
