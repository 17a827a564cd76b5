package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestEnginesTakeTurns: engines of one model work at once, and one of them can be
// closed and left at any time.
func TestEnginesTakeTurns(t *testing.T) {
	first := openFixture(t, fixture.Llama(2), engine.Params{NCtx: 512})
	p := engine.Params{NCtx: 512, NThreads: 2}
	second, err := engine.New(first.Model(), p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, second.Close()) })
	third, err := engine.New(first.Model(), p)
	require.NoError(t, err)

	r := engine.Request{Prompt: "It was a dark and stormy night", MaxTokens: 100, Sampling: greedy(), IgnoreEOS: true}
	want := generate(t, first, r).tokens
	var wg sync.WaitGroup
	for i, e := range []*engine.Engine{first, second, first, second} {
		wg.Go(func() {
			for j := range 3 {
				a, err := collect(t, context.Background(), e, r)
				if err != nil || len(a.tokens) != r.MaxTokens || i == 0 && j == 0 && a.tokens[0] != want[0] {
					t.Errorf("engine %d: %d tokens, error %v", i, len(a.tokens), err)
				}
			}
		})
	}
	begun := make(chan struct{})
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(begun) })
		endless := r
		endless.MaxTokens, endless.ContextShift = 0, true
		for _, err := range third.Generate(context.Background(), endless) {
			if once(); err != nil && !errors.Is(err, engine.ErrClosed) {
				t.Error(err)
			}
		}
	})
	<-begun
	require.NoError(t, third.Close())
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, err := range second.Generate(ctx, engine.Request{Prompt: "x", ContextShift: true, IgnoreEOS: true}) {
		if err != nil {
			require.Equal(t, context.Canceled, err)
		}
		cancel()
	}
	wg.Wait()
	requireIdle(t, first)
	requireIdle(t, second)
}
