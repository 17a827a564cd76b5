package server

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// twice answers with two choices, whose tokens have probabilities.
func twice() *scripted {
	return &scripted{chat: func(_ context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			probs := func(text string, p float32) []engine.TokenLogprobs {
				one := engine.TokenLogprob{Token: 1, Logprob: p, Text: text}
				return []engine.TokenLogprobs{{TokenLogprob: one, Top: []engine.TokenLogprob{one, {Token: 2, Logprob: float32(math.Inf(-1)), Text: "\xff"}}}}
			}
			for _, d := range []engine.ChatDelta{
				{Index: 1, Content: "b", Logprobs: probs("b", -0.5)},
				{Index: 0, Content: "a", Logprobs: probs("a", -0.25)},
				{Index: 0, Result: &engine.Result{FinishReason: engine.FinishStop, Usage: engine.Usage{Prompt: 9, Computed: 9, Output: 1}}},
				{Index: 1, Result: &engine.Result{FinishReason: engine.FinishLength, Usage: engine.Usage{Prompt: 9, Cached: 8, Computed: 1, Output: 2}}},
			} {
				if !yield(d, nil) {
					return
				}
			}
		}
	}}
}

func TestChoices(t *testing.T) {
	url := start(t, newServer(t, Options{Engine: twice()}))
	post := func(body string) string {
		resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(body))
		require.NoError(t, err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode, "%s", data)
		return string(data)
	}
	const body = `"n":2,"logprobs":true,"top_logprobs":2,"messages":[{"role":"user","content":"hi"}]}`
	var whole completion
	require.NoError(t, json.Unmarshal([]byte(post(`{`+body)), &whole))
	require.Len(t, whole.Choices, 2)
	for i, want := range []string{"a", "b"} {
		c := whole.Choices[i]
		require.Equal(t, i, c.Index)
		require.Equal(t, want, *c.Message.Content)
		require.Len(t, c.Logprobs.Content, 1)
		p := c.Logprobs.Content[0]
		require.Equal(t, want, p.Token)
		require.Equal(t, []int{int(want[0])}, p.Bytes)
		require.Len(t, p.TopLogprobs, 2)
		require.Equal(t, tokenLogprob{Token: "\uFFFD", Logprob: -9999, Bytes: []int{255}}, p.TopLogprobs[1])
	}
	require.Equal(t, "stop", *whole.Choices[0].FinishReason)
	require.Equal(t, "length", *whole.Choices[1].FinishReason)
	require.Equal(t, usage{PromptTokens: 9, CompletionTokens: 3, TotalTokens: 12}, *whole.Usage)

	texts, finished, probs := [2]string{}, 0, 0
	for line := range strings.Lines(post(`{"stream":true,` + body)) {
		data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var chunk completion
		require.NoError(t, json.Unmarshal([]byte(data), &chunk))
		c := chunk.Choices[0]
		if c.Delta.Content != nil {
			texts[c.Index] += *c.Delta.Content
		}
		if c.FinishReason != nil {
			finished++
		}
		if c.Logprobs != nil {
			probs++
		}
	}
	require.Equal(t, [2]string{"a", "b"}, texts)
	require.Equal(t, 2, finished)
	require.Equal(t, 2, probs)
}
