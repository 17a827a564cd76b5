package engine_test

import (
	"context"
	"errors"
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
	return engine.Request{Prompt: "Once upon a time", Sampling: greedy(), IgnoreEOS: true}
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
		time.AfterFunc(20*time.Millisecond, cancel)
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
	require.Eventually(t, func() bool { return e.Stats().Waiting == 1 }, 10*time.Second, time.Millisecond)
	_, err := collect(t, context.Background(), e, endless())
	require.ErrorIs(t, err, engine.ErrBusy)
	require.Equal(t, uint64(1), e.Stats().Rejected)
	cancel()
	wg.Wait()
	require.Equal(t, context.Canceled, queued)
	requireIdle(t, e)
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 1})
}

func TestClose(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	e, err := engine.New(m, engine.Params{NCtx: 512, MaxSequences: 2, NThreads: 1})
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	running := make(chan struct{}, 100)
	for i := range errs {
		wg.Go(func() {
			for _, err := range e.Generate(context.Background(), endless()) {
				errs[i] = err
				select {
				case running <- struct{}{}:
				default:
				}
			}
		})
	}
	<-running
	for range 3 {
		wg.Go(func() { require.NoError(t, e.Close()) })
	}
	wg.Wait()
	for i, err := range errs {
		require.ErrorIs(t, err, engine.ErrClosed, "request %d", i)
	}
	_, err = collect(t, context.Background(), e, endless())
	require.ErrorIs(t, err, engine.ErrClosed)
	_, err = e.CountTokens(context.Background(), engine.ChatRequest{Messages: user("hi")})
	require.ErrorIs(t, err, engine.ErrClosed)
	require.NoError(t, e.Close())
	require.NoError(t, (*engine.Engine)(nil).Close())
	requireIdle(t, e)
}

func TestCloseWhileIterating(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	e, err := engine.New(m, engine.Params{NCtx: 512, NThreads: 1})
	require.NoError(t, err)
	var last error
	for _, err := range e.Generate(context.Background(), endless()) {
		if last = err; err == nil {
			require.NoError(t, e.Close())
		}
	}
	require.ErrorIs(t, last, engine.ErrClosed)
}

func TestInvalidRequests(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 1})
	var invalid *engine.ErrInvalid
	tests := []struct {
		name  string
		r     engine.Request
		field string
		is    error
	}{
		{"no prompt", engine.Request{Tokens: []llama.Token{}}, "Request.Prompt", nil},
		{"two prompts", engine.Request{Prompt: "x", Tokens: []llama.Token{1}}, "Request.Tokens", nil},
		{"negative", engine.Request{Prompt: "x", MaxTokens: -1}, "Request.MaxTokens", nil},
		{"empty stop", engine.Request{Prompt: "x", Stop: []string{"a", ""}}, "Request.Stop[1]", nil},
		{"bad stop", engine.Request{Prompt: "x", Stop: []string{"\xff"}}, "Request.Stop[0]", nil},
		{"many stops", engine.Request{Prompt: "x", Stop: make([]string, 1000)}, "Request.Stop", nil},
		{"two constraints", engine.Request{Prompt: "x", Grammar: `root ::= "a"`, Schema: []byte("{}")}, "Request.Schema", nil},
		{"token", engine.Request{Tokens: []llama.Token{1 << 30}}, "", llama.ErrInvalidToken},
		{"negative token", engine.Request{Tokens: []llama.Token{-1}}, "", llama.ErrInvalidToken},
		{"grammar", engine.Request{Prompt: "x", Grammar: "root ::= ("}, "", llama.ErrInvalidGrammar},
		{"schema", engine.Request{Prompt: "x", Schema: []byte(`{"type":`)}, "", llama.ErrInvalidSchema},
		{"sampling", engine.Request{Prompt: "x", Sampling: &llama.SamplerParams{TopP: -1}}, "", llama.ErrInvalidParam},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := collect(t, context.Background(), e, tt.r)
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			} else {
				require.True(t, errors.As(err, &invalid), "%v", err)
				require.Equal(t, tt.field, invalid.Field)
			}
		})
	}
	_, err := collectChat(t, e, engine.ChatRequest{Messages: user("x"), MaxTokens: -1})
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, "ChatRequest.MaxTokens", invalid.Field)
	_, err = collectChat(t, e, engine.ChatRequest{})
	require.ErrorIs(t, err, llama.ErrInvalidMessage)
	requireIdle(t, e)
	require.Zero(t, e.Stats().Steps)

	m := e.Model()
	for _, p := range []engine.Params{{MaxSequences: -1}, {MaxSequences: 257}, {MaxQueue: -1}, {NBatch: -1}, {NUBatch: 1 << 30}, {NCtx: 2}, {NCtx: -1}} {
		_, err := engine.New(m, p)
		require.ErrorAs(t, err, &invalid, "%+v", p)
	}
	_, err = engine.Open(context.Background(), t.TempDir()+"/absent.gguf", engine.Params{})
	require.Error(t, err)
}
