package engine_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// endless is a request that ends only when it is made to.
func endless() engine.Request {
	return engine.Request{Prompt: "Once upon a time", Sampling: greedy(), IgnoreEOS: true, ContextShift: true}
}

func TestCancelByContext(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tokens, after := 0, 0
	var last error
	var result *engine.Result
	for d, err := range e.Generate(ctx, endless()) {
		if ctx.Err() != nil {
			after += len(d.Tokens)
		}
		last, result = err, d.Result
		if tokens += len(d.Tokens); tokens >= 3 {
			cancel()
		}
	}
	require.Equal(t, context.Canceled, last)
	require.Zero(t, after, "output after the cancellation")
	require.NotNil(t, result)
	require.Equal(t, engine.FinishCancelled, result.FinishReason)
	require.GreaterOrEqual(t, result.Usage.Output, tokens)
	requireIdle(t, e)
	require.Equal(t, uint64(1), e.Stats().Cancelled)

	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		_, err := collect(t, ctx, e, endless())
		require.Equal(t, context.DeadlineExceeded, err)
		requireIdle(t, e)
	})
	t.Run("before the start", func(t *testing.T) {
		_, err := collect(t, ctx, e, endless())
		require.Equal(t, context.Canceled, err)
		_, err = e.CountTokens(ctx, engine.ChatRequest{Messages: user("hi")})
		require.Equal(t, context.Canceled, err)
	})
	t.Run("during a long prompt", func(t *testing.T) {
		e := newEngine(t, engine.Params{NBatch: 64})
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		word := generate(t, e, engine.Request{Prompt: france, MaxTokens: 1, Sampling: greedy()}).tokens[0]
		before := e.Stats()
		go func() {
			for ctx.Err() == nil && e.Stats().PromptTokens == before.PromptTokens {
				time.Sleep(time.Millisecond)
			}
			cancel()
		}()
		a, err := collect(t, ctx, e, engine.Request{Tokens: slices.Repeat([]llama.Token{word}, 1000)})
		require.Equal(t, context.Canceled, err)
		require.Zero(t, a.result.Usage.Output)
		require.Less(t, e.Stats().PromptTokens-before.PromptTokens, uint64(1000))
		requireIdle(t, e)
	})
}

// TestCancelWhileTheConsumerIsBusy: the sequence is freed although nobody
// takes its output.
func TestCancelWhileTheConsumerIsBusy(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 1})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, err := range e.Generate(ctx, endless()) {
		if err != nil {
			require.Equal(t, context.Canceled, err)
			break
		}
		cancel()
		// The only sequence is free for another request while we sit here.
		a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 2, Sampling: greedy()})
		require.Len(t, a.tokens, 2)
	}
	requireIdle(t, e)
}

func TestManyCancelsLeakNothing(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	want := generate(t, e, engine.Request{Prompt: france, MaxTokens: 3, Sampling: greedy()})
	for i := range 100 {
		n := 0
		for _, err := range e.Generate(context.Background(), endless()) {
			require.NoError(t, err)
			if n++; n > i%3 {
				break
			}
		}
		requireIdle(t, e)
	}
	require.Equal(t, uint64(100), e.Stats().Cancelled)
	got := generate(t, e, engine.Request{Prompt: france, MaxTokens: 3, Sampling: greedy()})
	require.Equal(t, want.tokens, got.tokens, "a cell of an earlier request is left")
}

func TestNeighboursSurviveACancel(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = collect(t, ctx, e, endless()) })
	n := 0
	for d, err := range e.Generate(context.Background(), engine.Request{Prompt: france, MaxTokens: 16, Sampling: greedy(), IgnoreEOS: true}) {
		require.NoError(t, err)
		if n += len(d.Tokens); n > 3 {
			cancel()
		}
	}
	require.Equal(t, 16, n)
	wg.Wait()
	requireIdle(t, e)
}

func TestConsumerPanics(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 1})
	require.PanicsWithValue(t, "mine", func() {
		for range e.Generate(context.Background(), endless()) {
			panic("mine")
		}
	})
	requireIdle(t, e)
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 1})
}

// TestSlowConsumer: a consumer that takes nothing delays no other, and gets
// everything later, merged.
func TestSlowConsumer(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 2})
	const n = 20
	tokens, deltas := 0, 0
	for d, err := range e.Generate(context.Background(), engine.Request{Prompt: france, MaxTokens: n, Sampling: greedy(), IgnoreEOS: true}) {
		require.NoError(t, err)
		if deltas++; deltas == 1 {
			generate(t, e, engine.Request{Prompt: france, MaxTokens: n + 5, Sampling: greedy(), IgnoreEOS: true})
		}
		tokens += len(d.Tokens)
	}
	require.Equal(t, n, tokens)
	require.LessOrEqual(t, deltas, 3, "what waited is merged")
}

// TestStopStringEndsASlowConsumersSequence: the stop string is found although
// the consumer is not looking.
func TestStopStringEndsASlowConsumersSequence(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 1})
	r := endless()
	r.Stop = []string{"a"}
	for d, err := range e.Generate(context.Background(), r) {
		require.NoError(t, err)
		if d.Result == nil {
			generate(t, e, engine.Request{Prompt: france, MaxTokens: 1}) // needs the only sequence
		}
	}
}

func TestQueueFull(t *testing.T) {
	e := newEngine(t, engine.Params{MaxSequences: 1, MaxQueue: 1})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started := make(chan struct{})
	var wg sync.WaitGroup
	start := sync.OnceFunc(func() { close(started) })
	wg.Go(func() {
		for range e.Generate(ctx, endless()) {
			start()
		}
	})
	<-started
	var queued error
	wg.Go(func() { _, queued = collect(t, ctx, e, endless()) })
	require.Eventually(t, func() bool { return e.Stats().Waiting == 1 }, time.Minute, time.Millisecond)
	_, err := collect(t, context.Background(), e, endless())
	require.ErrorIs(t, err, engine.ErrBusy)
	require.Equal(t, uint64(1), e.Stats().Rejected)
	cancel()
	wg.Wait()
	require.Equal(t, context.Canceled, queued)
	requireIdle(t, e)
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 1})
}
