//go:build long

package engine_test

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestGemmaShares: Gemma's window is 512. A sequence passes 2000; others share its first 600 tokens and go on like a
// context that never shared; eight of them reach position 4000.
func TestGemmaShares(t *testing.T) {
	m, err := load("gemma3-270m")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	text, err := m.Vocab().Tokenize(strings.Repeat("One two three four five six seven eight nine ten, and then we begin again with another number. ", 300), true, false)
	require.NoError(t, err)
	begin := text[:600]
	prompt := func(i, n int) engine.Request {
		return engine.Request{Tokens: slices.Concat(begin, text[601+i:1+i+n]), MaxTokens: 32, IgnoreEOS: true, Sampling: greedy(), Logprobs: 8}
	}
	e, err := engine.New(m, engine.Params{NCtx: 40_000, MaxSequences: 8})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	fresh, err := engine.New(m, engine.Params{NCtx: 8192, MaxSequences: 1, Cache: engine.CacheParams{HostBytes: -1}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, fresh.Close()) })

	generate(t, e, prompt(0, 2000))
	generate(t, e, prompt(3, 700)) // the second one marks where they part
	third := generate(t, e, prompt(5, 700))
	require.GreaterOrEqual(t, third.result.Usage.Cached, 600)
	alone := generate(t, fresh, prompt(5, 700))
	require.Equal(t, alone.tokens, third.tokens)
	require.Len(t, third.logprobs, 32)
	for i, p := range third.logprobs {
		for j, top := range p.Top {
			require.InDelta(t, math.Exp(float64(alone.logprobs[i].Top[j].Logprob)), math.Exp(float64(top.Logprob)), 0.02, "token %d, place %d", i, j)
		}
	}

	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a, err := collect(t, t.Context(), e, prompt(20+i, 3968))
			if err != nil {
				t.Error(err)
				return
			}
			if u := a.result.Usage; u.Cached < 600 || u.Output != 32 {
				t.Errorf("request %d: %+v", i, u)
			}
		})
	}
	wg.Wait()
	requireIdle(t, e)
}
