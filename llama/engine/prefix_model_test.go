package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestPrefixUsage: requests that come together and begin alike say truly what was
// computed and what memory had, and each of them continues its own prompt.
func TestPrefixUsage(t *testing.T) {
	const requests = 16
	e := newEngine(t, engine.Params{NCtx: 2048, MaxSequences: requests})
	begin := strings.Repeat("Paris is the capital of France. Rome is the capital of Italy. Madrid is the capital of Spain. ", 8)
	countries, cities := []string{"France", "Italy", "Spain"}, []string{"Paris", "Rome", "Madrid"}
	shared, err := e.Model().Vocab().Tokenize(begin, true, false)
	require.NoError(t, err)
	answers := make([]answer, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			a, err := collect(t, context.Background(), e, engine.Request{Prompt: begin + "The capital of " + countries[i%3] + " is", MaxTokens: 4, Sampling: greedy()})
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = a
		})
	}
	wg.Wait()
	computed, tails := 0, 0
	for i, a := range answers {
		require.Contains(t, a.text, cities[i%3])
		u := a.result.Usage
		require.Equal(t, u.Prompt, u.Cached+u.Computed, "%+v", u)
		computed += u.Computed
		tails += u.Prompt - len(shared)
	}
	require.LessOrEqual(t, computed, len(shared)+tails+requests*16)

	scoped := generate(t, e, engine.Request{Prompt: begin + "The capital of France is", MaxTokens: 1, Sampling: greedy(), CacheScope: "another"})
	require.Zero(t, scoped.result.Usage.Cached)
	s := e.Stats()
	require.Positive(t, s.Kept)
	require.Positive(t, s.CellsKept)
	requireIdle(t, e)
}
