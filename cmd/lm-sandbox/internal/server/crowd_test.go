package server

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

func sharedVocab(t *testing.T) *llama.Vocab {
	t.Helper()
	e, _ := realEngine(t)
	return e.Model().Vocab()
}

// idle waits until nothing runs, waits or holds cells in e.
func idle(t *testing.T, e *engine.Engine) {
	t.Helper()
	require.Eventually(t, func() bool {
		s := e.Stats()
		return s.Running == 0 && s.Waiting == 0 && s.CellsReserved == 0
	}, 25*time.Second, 5*time.Millisecond)
}

// 32 clients at once, half of them streaming, on an engine of 8 sequences: each gets
// an answer of its own, which a grammar makes certain for two thirds of them.
func TestCrowd(t *testing.T) {
	c, name := serveReal(t)
	var clients sync.WaitGroup
	for i := range 32 {
		clients.Go(func() {
			params := ask(fmt.Sprintf("Repeat the number %d.", 1000+i), 6)
			var options []option.RequestOption
			if i%3 != 0 {
				options = append(options, option.WithJSONSet("grammar", fmt.Sprintf(`root ::= "%d"`, 1000+i)))
			}
			var answer openai.ChatCompletion
			if i%2 == 0 {
				whole, err := c.Chat.Completions.New(t.Context(), params, options...)
				if !assert.NoError(t, err) {
					return
				}
				answer = *whole
			} else {
				params.StreamOptions.IncludeUsage = openai.Bool(true)
				stream := c.Chat.Completions.NewStreaming(t.Context(), params, options...)
				var sum openai.ChatCompletionAccumulator
				for stream.Next() {
					assert.True(t, sum.AddChunk(stream.Current()))
				}
				if !assert.NoError(t, stream.Err()) {
					return
				}
				answer = sum.ChatCompletion
			}
			assert.Equal(t, name, answer.Model)
			if assert.Len(t, answer.Choices, 1) {
				assert.NotEmpty(t, answer.Choices[0].Message.Content)
				if len(options) > 0 {
					assert.Equal(t, strconv.Itoa(1000+i), answer.Choices[0].Message.Content)
				}
			}
			assert.LessOrEqual(t, answer.Usage.CompletionTokens, int64(6))
		})
	}
	clients.Wait()
	e, _ := realEngine(t)
	idle(t, e)
}

// Clients that leave in mid-stream free their sequences, and those that stay are served.
func TestCrowdLeaves(t *testing.T) {
	c, _ := serveReal(t)
	e, _ := realEngine(t)
	idle(t, e)
	before := e.Stats()
	const leavers = 12 // more than run at once: some leave the queue
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var clients sync.WaitGroup
	for range leavers {
		clients.Go(func() {
			// One that leaves during the first token has no stream to close: the error is its own.
			stream := c.Chat.Completions.NewStreaming(ctx, ask("Count for ever.", -1), option.WithJSONSet("ignore_eos", true))
			for stream.Next() {
			}
			assert.ErrorIs(t, stream.Err(), context.Canceled)
			_ = stream.Close()
		})
	}
	require.Eventually(t, func() bool {
		s := e.Stats()
		return s.Running == s.MaxSequences && s.Waiting == leavers-s.MaxSequences && s.OutputTokens > before.OutputTokens+20
	}, 25*time.Second, 5*time.Millisecond)
	leave()
	clients.Wait()
	idle(t, e)
	after := e.Stats()
	assert.Equal(t, before.Cancelled+leavers, after.Cancelled)
	assert.Equal(t, before.Finished, after.Finished)
	_, err := c.Chat.Completions.New(t.Context(), ask("hi", 2))
	require.NoError(t, err)
}

// A client whose stream a shutdown cuts learns why, and its sequence is freed.
func TestShutdownCutsStreams(t *testing.T) {
	e, name := realEngine(t)
	s := newServer(t, Options{Engine: e, ModelName: name, ShutdownGrace: 50 * time.Millisecond})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	c := newClient("http://" + ln.Addr().String())
	stream := c.Chat.Completions.NewStreaming(t.Context(), ask("Count for ever.", -1), option.WithJSONSet("ignore_eos", true))
	require.True(t, stream.Next())
	cancel()
	for stream.Next() {
	}
	require.ErrorContains(t, stream.Err(), "shutting down")
	require.NoError(t, stream.Close())
	require.NoError(t, <-served)
	idle(t, e)
}

// Requests to an engine that was closed first are told to come back.
func TestEngineClosed(t *testing.T) {
	e, name := realEngine(t)
	small, err := engine.New(e.Model(), engine.Params{NCtx: 64, MaxSequences: 1, NThreads: 1})
	require.NoError(t, err)
	require.NoError(t, small.Close())
	c := newClient(start(t, newServer(t, Options{Engine: small, ModelName: name})))
	_, err = c.Chat.Completions.New(t.Context(), ask("hi", 1))
	requireAPIError(t, err, 503, "closing")
}
