package engine_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestIgnoreEOSWithAGrammar: a grammar that is finished ends the request, since
// there is nothing else to sample.
func TestIgnoreEOSWithAGrammar(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 2})
	xtc := &llama.SamplerParams{Temperature: 1, XTCProbability: 1, XTCThreshold: 0.01}
	tests := []struct {
		name string
		r    engine.Request
		want string
	}{
		{"schema", engine.Request{Schema: json.RawMessage(`{"const":true}`)}, "true"},
		{"grammar", engine.Request{Grammar: `root ::= "ab"`}, "ab"},
		{"of the sampler", engine.Request{Sampling: &llama.SamplerParams{Grammar: `root ::= "ab"`}}, "ab"},
		{"with a draw", engine.Request{Grammar: `root ::= "ab"`, Sampling: xtc}, "ab"},
		{"empty", engine.Request{Grammar: `root ::= ""`}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.r.Prompt, tt.r.IgnoreEOS, tt.r.MaxTokens = "x", true, 20
			if tt.r.Sampling == nil {
				tt.r.Sampling = greedy()
			}
			a := generate(t, e, tt.r)
			require.Equal(t, tt.want, a.text)
			require.Equal(t, engine.FinishStop, a.result.FinishReason)
			requireIdle(t, e)
		})
	}
	t.Run("which may go on", func(t *testing.T) {
		a := generate(t, e, engine.Request{Prompt: "x", Grammar: `root ::= [a-z]+`, IgnoreEOS: true, MaxTokens: 8, Sampling: greedy()})
		require.Equal(t, engine.FinishLength, a.result.FinishReason)
		require.Len(t, a.tokens, 8)
	})
	t.Run("in a chat", func(t *testing.T) {
		for _, r := range []engine.ChatRequest{
			{Schema: json.RawMessage(`{"const":true}`)},
			{Grammar: `root ::= "true"`},
			{Sampling: &llama.SamplerParams{Grammar: `root ::= "true"`}},
		} {
			r.Messages, r.IgnoreEOS, r.MaxTokens = user("hi"), true, 20
			if r.Sampling == nil {
				r.Sampling = greedy()
			}
			a := chat(t, e, r)
			require.Equal(t, "true", a.content)
			require.Equal(t, engine.FinishStop, a.result.FinishReason)
		}
	})
	requireIdle(t, e)
}

// TestDeadGrammar: a grammar without any continuation fails its own request.
func TestDeadGrammar(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 2})
	for _, grammar := range []string{`root ::= [^\x00-\U0010ffff]`, `root ::= "a" [^\x00-\U0010ffff]`} {
		for _, ignore := range []bool{false, true} {
			_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Grammar: grammar, MaxTokens: 9, Sampling: greedy(), IgnoreEOS: ignore})
			require.ErrorIs(t, err, llama.ErrGrammarRejected, "%s, %t", grammar, ignore)
			_, err = collectChat(t, e, engine.ChatRequest{Messages: user("x"), Grammar: grammar, MaxTokens: 9, IgnoreEOS: ignore})
			require.ErrorIs(t, err, llama.ErrGrammarRejected)
		}
	}
	t.Run("of which the request bans the only token", func(t *testing.T) {
		v := e.Model().Vocab()
		bias := map[llama.Token]float32{}
		for id := range llama.Token(v.NTokens()) {
			if !v.IsEOG(id) {
				bias[id] = float32(math.Inf(-1))
			}
		}
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Grammar: `root ::= "a"`, MaxTokens: 9, Sampling: &llama.SamplerParams{LogitBias: bias}, IgnoreEOS: true})
		require.ErrorIs(t, err, llama.ErrGrammarRejected)
	})
	t.Run("that never ends", func(t *testing.T) {
		a := generate(t, e, engine.Request{Prompt: "x", Grammar: `root ::= "a" root`, MaxTokens: 9, Sampling: greedy()})
		require.Equal(t, engine.FinishLength, a.result.FinishReason)
	})
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 2})
	requireIdle(t, e)
}

// TestLLGuidanceIsRefused: llama.cpp hands such a grammar to a library that it
// is not built with.
func TestLLGuidanceIsRefused(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 1})
	for _, grammar := range []string{"%llguidance {}\nstart: /a/", " %llguidance {}", "root ::= \"a\"\n%llguidance {}"} {
		_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Grammar: grammar})
		require.ErrorIs(t, err, llama.ErrInvalidGrammar, grammar)
		_, err = collectChat(t, e, engine.ChatRequest{Messages: user("x"), Grammar: grammar})
		require.ErrorIs(t, err, llama.ErrInvalidGrammar, grammar)
		_, err = collectChat(t, e, engine.ChatRequest{Messages: user("x"), Sampling: &llama.SamplerParams{Grammar: grammar}})
		require.ErrorIs(t, err, llama.ErrInvalidGrammar, grammar)
	}
	requireIdle(t, e)
}
