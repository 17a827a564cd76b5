package engine_test

import (
	"context"
	"encoding/json"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestManyRequestsLeaveNothing runs every kind of request, good, bad and left,
// again and again: goroutines, cells and places are as before.
func TestManyRequestsLeaveNothing(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 2, ChatTemplate: "{% for m in messages %}{{ m.content }}{% endfor %}"})
	tool := llama.Tool{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"}}}`)}
	kinds := []func(t *testing.T) error{
		func(t *testing.T) error {
			_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", MaxTokens: 2})
			return err
		},
		func(t *testing.T) error {
			_, err := collectChat(t, e, engine.ChatRequest{Messages: user("hi"), MaxTokens: 2, Schema: tool.Parameters})
			return err
		},
		func(t *testing.T) error {
			_, err := collectChat(t, e, engine.ChatRequest{Messages: user("hi"), MaxTokens: 2, Tools: []llama.Tool{tool}, ToolChoice: "required"})
			return err
		},
		func(t *testing.T) error {
			for _, err := range e.Chat(t.Context(), engine.ChatRequest{Messages: user("hi"), IgnoreEOS: true}) {
				return err // leaves in the middle
			}
			return nil
		},
		func(t *testing.T) error {
			ctx, cancel := context.WithCancel(t.Context())
			for range e.Generate(ctx, endless()) {
				cancel()
			}
			cancel()
			return nil
		},
		func(t *testing.T) error {
			_, err := collectChat(t, e, engine.ChatRequest{Messages: user("hi"), Grammar: "root ::= ["})
			require.ErrorIs(t, err, llama.ErrInvalidGrammar)
			return nil
		},
		func(t *testing.T) error {
			_, err := collect(t, t.Context(), e, engine.Request{Prompt: "x", Grammar: `root ::= "a" [^\x00-\U0010ffff]`, IgnoreEOS: true})
			require.ErrorIs(t, err, llama.ErrGrammarRejected)
			return nil
		},
	}
	round := func() {
		for _, kind := range kinds {
			require.NoError(t, kind(t))
			requireIdle(t, e)
		}
	}
	round()
	before := runtime.NumGoroutine()
	for range 8 {
		round()
	}
	// A goroutine counts until it has run for the last time.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
	s := e.Stats()
	require.Equal(t, 9*uint64(len(kinds)-1), s.Finished+s.Cancelled+s.Failed, "all but the one that was refused")
	require.Zero(t, s.Waiting)
}

// TestFastConsumerBesideASlowOne: the fast one gets all of its output while the
// slow one, of another goroutine, takes nothing.
func TestFastConsumerBesideASlowOne(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 2})
	sleeping, wake := make(chan struct{}), make(chan struct{})
	slept := sync.OnceFunc(func() { close(sleeping) })
	slow, tokens := make(chan error, 1), 0
	go func() {
		var last error
		for d, err := range e.Generate(context.Background(), engine.Request{Prompt: france, MaxTokens: 30, Sampling: greedy(), IgnoreEOS: true}) {
			slept()
			<-wake
			tokens, last = tokens+len(d.Tokens), err
		}
		slept()
		slow <- last
	}()
	<-sleeping
	a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 40, Sampling: greedy(), IgnoreEOS: true})
	require.Len(t, a.tokens, 40)
	close(wake)
	require.NoError(t, <-slow)
	require.Equal(t, 30, tokens, "and the slow one loses nothing")
	requireIdle(t, e)
}

// TestToolsOfOneName: both can be called; which was meant, the arguments say.
func TestToolsOfOneName(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 512, MaxSequences: 1})
	tools := []llama.Tool{
		{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"a":{"const":1}},"required":["a"]}`)},
		{Name: "f", Parameters: json.RawMessage(`{"type":"object","properties":{"b":{"const":2}},"required":["b"]}`)},
	}
	a := chat(t, e, engine.ChatRequest{Messages: user("Call f."), Tools: tools, ToolChoice: "required", MaxTokens: 80, Sampling: greedy()})
	require.Equal(t, engine.FinishToolCalls, a.result.FinishReason)
	require.Len(t, a.calls, 1)
	require.Equal(t, "f", a.calls[0].Name)
	var arguments map[string]int
	require.NoError(t, json.Unmarshal([]byte(a.calls[0].Arguments), &arguments))
	require.Contains(t, []map[string]int{{"a": 1}, {"b": 2}}, arguments)
	requireIdle(t, e)
}
