package agent

import (
	"context"
	"encoding/json"
	"iter"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

func TestMain(m *testing.M) {
	// Other packages' tests want the cores too: threads that wait must not spin.
	if err := os.Setenv("OMP_WAIT_POLICY", "passive"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// openDefault is an engine of the default model, on one thread: two that wait for each
// other are slower, where other packages' tests want the cores.
func openDefault(t *testing.T, nctx int) *engine.Engine {
	t.Helper()
	m, err := hub.Pull(t.Context(), "default", hub.Options{})
	require.NoError(t, err)
	e, err := engine.Open(t.Context(), m.Path, engine.Params{NCtx: nctx, MaxSequences: 1, NThreads: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// reply is one message of a script.
type reply struct {
	command string // a call of bash
	tool    string // a call of another tool, with arguments
	args    string
	answer  string
	finish  engine.FinishReason
	output  int // tokens
	err     error
	hang    func() // called, and then nothing until the context ends
}

// script is an Engine that says what it was told to, and keeps what it was asked.
// What a real model says cannot be chosen.
type script struct {
	replies  []reply
	requests []engine.ChatRequest
}

func (s *script) Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	return func(yield func(engine.ChatDelta, error) bool) {
		reply := s.replies[min(len(s.requests), len(s.replies)-1)] // the last one again and again
		s.requests = append(s.requests, r)
		if reply.hang != nil {
			reply.hang()
			<-ctx.Done()
			yield(engine.ChatDelta{}, ctx.Err())
			return
		}
		if reply.err != nil {
			yield(engine.ChatDelta{}, reply.err)
			return
		}
		if reply.command != "" {
			reply.tool, reply.args = bashName, bashArguments(reply.command)
		}
		result := &engine.Result{FinishReason: engine.FinishStop, Usage: engine.Usage{Prompt: 10, Output: max(reply.output, 1)}}
		if reply.tool != "" {
			result.FinishReason = engine.FinishToolCalls
			// In pieces, as they come from a model.
			half := len(reply.args) / 2
			if !yield(engine.ChatDelta{ToolCalls: []engine.ToolCallDelta{{ID: "call_x", Name: reply.tool, Arguments: reply.args[:half]}}}, nil) ||
				!yield(engine.ChatDelta{ToolCalls: []engine.ToolCallDelta{{Arguments: reply.args[half:]}}}, nil) {
				return
			}
		} else if !yield(engine.ChatDelta{Content: reply.answer}, nil) {
			return
		}
		if reply.finish != "" {
			result.FinishReason = reply.finish
		}
		yield(engine.ChatDelta{Result: result}, nil)
	}
}

// collect runs some task to its end.
func collect(t *testing.T, c Config) (events []Event, done Done, err error) {
	t.Helper()
	return collectTask(t, c, "do it")
}

func collectTask(t *testing.T, c Config, task string) (events []Event, done Done, err error) {
	t.Helper()
	for event, e := range Run(t.Context(), c, task) {
		require.NoError(t, err, "an error is the last")
		events = append(events, event)
		err = e
	}
	if len(events) > 0 {
		done, _ = events[len(events)-1].(Done)
	}
	return events, done, err
}

// results are those among the events.
func results(events []Event) (all []Result) {
	for _, e := range events {
		if r, ok := e.(Result); ok {
			all = append(all, r)
		}
	}
	return all
}

func command(t *testing.T, c Call) string {
	t.Helper()
	var a bashCall
	require.NoError(t, json.Unmarshal(c.Arguments, &a))
	return a.Command
}
