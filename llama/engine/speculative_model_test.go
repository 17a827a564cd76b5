package engine_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// speculations are the ways to guess, each with a model for it.
func speculations(t *testing.T) map[string]struct {
	model *fixture.File
	how   engine.Speculative
} {
	type speculation = struct {
		model *fixture.File
		how   engine.Speculative
	}
	target, draft := fixture.Speculative()
	path := draft.Write(t)
	return map[string]speculation{
		"n-gram":         {fixture.Llama(2), engine.Speculative{NGram: 2}},
		"draft model":    {target, engine.Speculative{DraftModel: path, MaxDraft: 5}},
		"both":           {target, engine.Speculative{NGram: 3, DraftModel: path}},
		"sliding window": {fixture.Gemma3(), engine.Speculative{NGram: 2, MaxDraft: 12}},
	}
}

// TestSpeculative: whatever is guessed, the output is what it is without.
func TestSpeculative(t *testing.T) {
	requests := map[string]engine.Request{
		"greedy":  {Prompt: "again and again and again", MaxTokens: 150, IgnoreEOS: true, Sampling: greedy()},
		"seed":    {Prompt: "once upon a time", MaxTokens: 150, Sampling: &llama.SamplerParams{Seed: 3, Temperature: 0.3, TopK: 5}},
		"penalty": {Prompt: "aaaa bbbb aaaa", MaxTokens: 100, IgnoreEOS: true, Sampling: &llama.SamplerParams{RepeatPenalty: 1.2, PenaltyLastN: 64}},
		"grammar": {Prompt: "x", MaxTokens: 200, Sampling: greedy(), Grammar: `root ::= ("ab" "cd" "12")+ "end"`},
		"schema":  {Prompt: "x", MaxTokens: 200, Sampling: greedy(), Schema: []byte(`{"type":"array","items":{"enum":[1,22,333]},"minItems":3,"maxItems":20}`)},
		"ended":   {Prompt: "x", MaxTokens: 200, IgnoreEOS: true, Sampling: greedy(), Grammar: `root ::= "abababababababababababab"`},
		"choices": {Prompt: "again and again", MaxTokens: 60, N: 3, Sampling: &llama.SamplerParams{Seed: 5, Temperature: 0.2, TopK: 4}, Logprobs: 2},
	}
	for name, s := range speculations(t) {
		t.Run(name, func(t *testing.T) {
			plain := openFixture(t, s.model, engine.Params{NCtx: 2048, MaxSequences: 6})
			e := openFixture(t, s.model, engine.Params{NCtx: 2048, MaxSequences: 6, Speculative: s.how})
			engine.GuessAlways(e)
			want := map[string][][]llama.Token{}
			for what, r := range requests {
				want[what] = outputsOf(t, plain, r)
			}
			text := generate(t, plain, requests["greedy"]).text
			stop := requests["greedy"]
			runes := []rune(text)
			stop.Stop = []string{string(runes[len(runes)/2 : len(runes)/2+3])}
			stopped := generate(t, plain, stop)

			var wg sync.WaitGroup
			for range 3 {
				for what, r := range requests {
					wg.Go(func() {
						got := outputsOf(t, e, r)
						for i := range got {
							if !slices.Equal(want[what][i], got[i]) {
								t.Errorf("%s, output %d: %v, without guesses %v", what, i, got[i], want[what][i])
							}
						}
					})
				}
				wg.Go(func() {
					a, err := collect(t, context.Background(), e, stop)
					if err != nil || a.text != stopped.text || a.result.FinishReason != engine.FinishStop {
						t.Errorf("stop string: %q, %v: want %q", a.text, err, stopped.text)
					}
				})
			}
			wg.Wait()
			for n := range 12 {
				r := requests["greedy"]
				r.MaxTokens = 20 + n
				a := generate(t, e, r)
				require.Equal(t, want["greedy"][0][:r.MaxTokens], a.tokens)
				require.LessOrEqual(t, a.result.Usage.Accepted, a.result.Usage.Drafted)
			}
			stats := e.Stats()
			t.Logf("drafted %d, accepted %d of %d tokens in %d steps", stats.Drafted, stats.Accepted, stats.OutputTokens, stats.Steps)
			require.Positive(t, stats.Accepted)
			require.LessOrEqual(t, stats.Accepted, stats.Drafted)
			require.Zero(t, stats.Failed)
			requireIdle(t, e)
		})
	}
}

// outputsOf are the tokens of each output of a request.
func outputsOf(t *testing.T, e *engine.Engine, r engine.Request) [][]llama.Token {
	outputs := make([][]llama.Token, max(1, r.N))
	for d, err := range e.Generate(context.Background(), r) {
		if err != nil {
			t.Error(err)
			break
		}
		outputs[d.Index] = append(outputs[d.Index], d.Tokens...)
	}
	return outputs
}

// TestSpeculativeInterleavings: in too little memory, and among requests that end at any
// time, guesses change nothing.
func TestSpeculativeInterleavings(t *testing.T) {
	for name, s := range speculations(t) {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(7, 10))
			e := openFixture(t, s.model, engine.Params{NCtx: 384, NBatch: 48, MaxSequences: 5, Speculative: s.how})
			engine.GuessAlways(e)
			beginnings := [][]llama.Token{{1}, randomTokens(r, 20), randomTokens(r, 50)}
			requireInterleaved(t, e, r, 40, func() engine.Request {
				prompt := slices.Concat(beginnings[r.IntN(len(beginnings))], randomTokens(r, 1+r.IntN(20)))
				return engine.Request{Tokens: prompt, MaxTokens: 1 + r.IntN(100), IgnoreEOS: true, Sampling: greedy()}
			})
			require.Positive(t, e.Stats().Accepted)
		})
	}
}

func TestSpeculativeRefused(t *testing.T) {
	plain := fixture.Llama(2)
	path := plain.Write(t)
	unlike := fixture.Llama(1)
	for i, kv := range unlike.KV {
		if tokens, ok := kv.Value.([]string); ok && kv.Key == "tokenizer.ggml.tokens" {
			tokens = slices.Clone(tokens)
			tokens[len(tokens)-1] += "!"
			unlike.KV[i].Value = tokens
		}
	}
	other := unlike.Write(t)
	for _, tt := range []struct {
		name   string
		model  *fixture.File
		params engine.Params
		want   error
		text   string
	}{
		{"one token", plain, engine.Params{Speculative: engine.Speculative{NGram: 1}}, nil, "Speculative.NGram"},
		{"too many", plain, engine.Params{Speculative: engine.Speculative{NGram: 2, MaxDraft: 64}}, nil, "Speculative.MaxDraft"},
		{"nothing that guesses", plain, engine.Params{Speculative: engine.Speculative{MaxDraft: 4}}, nil, "Speculative.MaxDraft"},
		{"recurrent", fixture.Mamba(), engine.Params{Speculative: engine.Speculative{NGram: 3}}, llama.ErrUnsupported, "forget"},
		{"hybrid", fixture.Jamba(), engine.Params{Speculative: engine.Speculative{NGram: 3}}, llama.ErrUnsupported, "forget"},
		{"window in streams", fixture.Gemma3(), engine.Params{Layout: engine.LayoutStreams, Speculative: engine.Speculative{NGram: 3}}, llama.ErrUnsupported, "LayoutUnified"},
		{"no file", plain, engine.Params{Speculative: engine.Speculative{DraftModel: path + ".not"}}, fs.ErrNotExist, "DraftModel"},
		{"another vocabulary", plain, engine.Params{Speculative: engine.Speculative{DraftModel: other}}, nil, "same family"},
		{"recurrent draft", plain, engine.Params{Speculative: engine.Speculative{DraftModel: fixture.Mamba().Write(t)}}, llama.ErrUnsupported, "DraftModel"},
	} {
		for _, isolated := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, isolated=%v", tt.name, isolated), func(t *testing.T) {
				p := tt.params
				p.NCtx, p.NThreads, p.Isolated = 256, 1, isolated
				e, err := engine.Open(t.Context(), tt.model.Write(t), p)
				if err == nil {
					require.NoError(t, e.Close())
				}
				require.ErrorContains(t, err, tt.text)
				if tt.want != nil {
					require.ErrorIs(t, err, tt.want)
					return
				}
				var invalid *engine.ErrInvalid
				require.ErrorAs(t, err, &invalid)
				require.True(t, strings.HasPrefix(invalid.Field, "Params.Speculative."), invalid.Field)
			})
		}
	}
}

// TestSpeculativeIsolated: a worker process guesses as this one does.
func TestSpeculativeIsolated(t *testing.T) {
	e, err := engine.Open(t.Context(), fixture.Llama(2).Write(t), engine.Params{NCtx: 1024, NThreads: 1, Isolated: true, Speculative: engine.Speculative{NGram: 2}})
	require.NoError(t, err)
	defer e.Close()
	a := generate(t, e, engine.Request{Prompt: "again and again and again", MaxTokens: 200, IgnoreEOS: true, Sampling: greedy()})
	require.Positive(t, a.result.Usage.Accepted)
	require.Equal(t, uint64(a.result.Usage.Accepted), e.Stats().Accepted)
}
