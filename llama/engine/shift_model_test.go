package engine_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// openFixture makes an engine of a tiny model with exact arithmetic.
func openFixture(t testing.TB, f *fixture.File, p engine.Params) *engine.Engine {
	t.Helper()
	p.NThreads, p.FlashAttn = 1, llama.FlashAttnOff
	e, err := engine.Open(context.Background(), f.Write(t), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// TestContextShift goes on far beyond the context, as the same operations on a bare
// context do.
func TestContextShift(t *testing.T) {
	const n = 700
	e := openFixture(t, fixture.Llama(2), engine.Params{NCtx: 256, MaxSequences: 2})
	full := e.Stats().Cells
	prompt, err := e.Model().Vocab().Tokenize("It was a dark and stormy night", true, false)
	require.NoError(t, err)
	for _, keep := range []int{0, -1} {
		r := engine.Request{Tokens: prompt, MaxTokens: n, Sampling: greedy(), IgnoreEOS: true, ContextShift: true, NKeep: keep}
		before := e.Stats().Shifted
		a := generate(t, e, r)
		require.Equal(t, engine.FinishLength, a.result.FinishReason)
		require.Equal(t, engine.Usage{Prompt: len(prompt), Computed: len(prompt), Output: n}, a.result.Usage)
		require.Greater(t, e.Stats().Shifted, before+2)
		if keep = 1; r.NKeep < 0 {
			keep = len(prompt)
		}
		require.Equal(t, shiftByHand(t, e, prompt, keep, full, n), a.tokens)
		requireIdle(t, e)
	}

	t.Run("refused", func(t *testing.T) {
		for name, f := range map[string]*fixture.File{"sliding window": fixture.Gemma3(), "recurrent": fixture.Mamba()} {
			e := openFixture(t, f, engine.Params{NCtx: 256})
			_, err := collect(t, context.Background(), e, engine.Request{Prompt: "x", ContextShift: true})
			require.ErrorIs(t, err, llama.ErrUnsupported, name)
		}
		for _, r := range []engine.Request{{Prompt: "x", NKeep: 3}, {Prompt: "x", ContextShift: true, NKeep: -2}} {
			_, err := collect(t, context.Background(), e, r)
			var invalid *engine.ErrInvalid
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "Request.NKeep", invalid.Field)
		}
	})
}

// TestEndlessLetsOthersGo: whoever comes while the only place is taken by what never ends
// gets an answer, and that goes on afterwards.
func TestEndlessLetsOthersGo(t *testing.T) {
	all := speculations(t)
	delete(all, "sliding window") // cannot shift
	plain := all["n-gram"]
	plain.how = engine.Speculative{}
	all["plain"] = plain
	for name, s := range all {
		for _, layout := range []engine.Layout{engine.LayoutUnified, engine.LayoutStreams} {
			t.Run(fmt.Sprint(name, ", ", layout), func(t *testing.T) {
				e := openFixture(t, s.model, engine.Params{NCtx: 256, MaxSequences: 1, MaxWait: time.Minute, Speculative: s.how, Layout: layout})
				testEndless(t, e)
			})
		}
	}
}

func testEndless(t *testing.T, e *engine.Engine) {
	next, stop := iter.Pull2(e.Generate(t.Context(), engine.Request{Prompt: "x", IgnoreEOS: true, ContextShift: true}))
	defer stop()
	seen := func() int {
		d, err, ok := next()
		require.True(t, ok)
		require.NoError(t, err)
		return len(d.Tokens)
	}
	seen()
	for range 3 {
		a := generate(t, e, engine.Request{Prompt: "y", MaxTokens: 20, IgnoreEOS: true})
		require.Equal(t, 20, a.result.Usage.Output)
	}
	require.GreaterOrEqual(t, e.Stats().Preempted, uint64(3))
	seen() // what was there already
	for n := 0; n < e.Stats().Cells; {
		n += seen()
	}
}

// shiftByHand is greedy decoding with context shift by the calls of llama.cpp.
func shiftByHand(t *testing.T, e *engine.Engine, prompt []llama.Token, keep, full, n int) (out []llama.Token) {
	c, err := llama.NewContext(e.Model(), llama.ContextParams{NCtx: full, NThreads: 1, FlashAttn: llama.FlashAttnOff, KVUnified: true})
	require.NoError(t, err)
	defer c.Close()
	bias := map[llama.Token]float32{}
	v := e.Model().Vocab()
	for tok := range llama.Token(v.NTokens()) {
		if v.IsEOG(tok) {
			bias[tok] = -1e9
		}
	}
	s, err := llama.NewSampler(e.Model(), llama.SamplerParams{LogitBias: bias})
	require.NoError(t, err)
	defer s.Close()
	batch := llama.NewBatch(full)
	next, past := prompt, 0
	for len(out) < n {
		if past+len(next) > full {
			discard := (past + len(next) - keep) / 2
			require.NoError(t, c.Memory().SeqRemove(0, llama.Pos(keep), llama.Pos(keep+discard)))
			require.NoError(t, c.Memory().SeqAdd(0, llama.Pos(keep+discard), -1, llama.Pos(-discard)))
			past -= discard
		}
		batch.Clear()
		for i, tok := range next {
			_, err := batch.Add(tok, llama.Pos(past+i), 0, i == len(next)-1)
			require.NoError(t, err)
		}
		rows := []llama.SampleRow{{Index: len(next) - 1, Sampler: s}}
		require.NoError(t, c.DecodeSample(batch, rows))
		require.NoError(t, rows[0].Err)
		past += len(next)
		out = append(out, rows[0].Token)
		next = out[len(out)-1:]
	}
	return out
}
