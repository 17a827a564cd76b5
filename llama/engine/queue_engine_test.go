package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func TestAdmissionParams(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256})
	for field, r := range map[string]engine.Request{
		"Request.Priority": {Prompt: france, Priority: 101},
		"Request.Caller":   {Prompt: france, Caller: strings.Repeat("x", 2000)},
	} {
		_, err := collect(t, context.Background(), e, r)
		var invalid *engine.ErrInvalid
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
	}
	for field, p := range map[string]engine.Params{
		"Params.MaxCellsPerCaller": {MaxCellsPerCaller: -1},
		"Params.MaxWait":           {MaxWait: -1},
	} {
		_, err := engine.New(e.Model(), p)
		var invalid *engine.ErrInvalid
		require.ErrorAs(t, err, &invalid)
		require.Equal(t, field, invalid.Field)
	}
}

// TestQuotaBoundsARequest: one request of a caller gets no further than its quota.
func TestQuotaBoundsARequest(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxCellsPerCaller: 20})
	word := generate(t, e, engine.Request{Prompt: france, MaxTokens: 1, Sampling: greedy()}).tokens[0]
	long := make([]llama.Token, 21)
	for i := range long {
		long[i] = word
	}
	_, err := collect(t, context.Background(), e, engine.Request{Tokens: long})
	var full *llama.ErrContextFull
	require.ErrorAs(t, err, &full)
	require.Equal(t, llama.ErrContextFull{Have: 21, Max: 20}, *full)
	a := generate(t, e, engine.Request{Tokens: long[:10], Sampling: greedy(), IgnoreEOS: true})
	require.Equal(t, engine.FinishContext, a.result.FinishReason)
	require.Len(t, a.tokens, 11)
	requireIdle(t, e)
}

// TestLeavingTheQueue: a deadline, or MaxWait, ends a request that waits while
// another one runs.
func TestLeavingTheQueue(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 4096, MaxSequences: 1, MaxWait: 5 * time.Second})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	begun := make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	var wg sync.WaitGroup
	wg.Go(func() {
		for range e.Generate(ctx, endless()) {
			begin()
		}
	})
	<-begun
	short, stop := context.WithTimeout(ctx, 20*time.Millisecond)
	defer stop()
	_, err := collect(t, short, e, endless())
	require.Equal(t, context.DeadlineExceeded, err)
	require.Equal(t, 1, e.Stats().Running, "the other one still runs")
	require.Zero(t, e.Stats().Rejected)

	_, err = collect(t, ctx, e, endless())
	require.ErrorIs(t, err, engine.ErrBusy)
	require.Equal(t, uint64(1), e.Stats().Rejected)
	cancel()
	wg.Wait()
	requireIdle(t, e)
	require.Zero(t, e.Stats().Failed)
}
