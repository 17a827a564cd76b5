package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// output yields these deltas, then err if there is one.
func output(err error, deltas ...engine.ChatDelta) iter.Seq2[engine.ChatDelta, error] {
	return func(yield func(engine.ChatDelta, error) bool) {
		for _, d := range deltas {
			if !yield(d, nil) {
				return
			}
		}
		if err != nil {
			yield(engine.ChatDelta{}, err)
		}
	}
}

func TestCollect(t *testing.T) {
	result := &engine.Result{
		FinishReason: engine.FinishLength, Seed: 7,
		Usage:   engine.Usage{Prompt: 4, Cached: 1, Computed: 3, Output: 2},
		Timings: engine.Timings{Queue: time.Microsecond, Prompt: 1500 * time.Microsecond, Decode: time.Second},
	}
	got, err := collect(output(nil, engine.ChatDelta{Reasoning: "hm"}, engine.ChatDelta{Content: "a"}, engine.ChatDelta{Content: "b", Result: result}))
	want := answer{
		Text: "ab", Reasoning: "hm", FinishReason: engine.FinishLength, Seed: 7,
		Usage: answerUsage{Prompt: 4, Cached: 1, Computed: 3, Output: 2}, Timings: answerTimings{Queue: .001, Prompt: 1.5, Decode: 1000},
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

// An interrupted answer is as much of it as there is.
func TestCollectCancelled(t *testing.T) {
	got, err := collect(output(context.Canceled, engine.ChatDelta{Content: "a"}))
	if !errors.Is(err, context.Canceled) || got.Text != "a" || got.FinishReason != engine.FinishCancelled {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestStream(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		code int
	}{
		"whole":          {nil, exitOK},
		"broken":         {errors.New("broken"), exitFailure},
		"context full":   {&llama.ErrContextFull{Have: 2, Max: 1}, exitFailure},
		"invalid schema": {llama.ErrInvalidSchema, exitUsage},
		"invalid value":  {&engine.ErrInvalid{Field: "Request.MaxTokens", Reason: "negative"}, exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := stream(stdio{nil, &stdout, &stderr}, output(tt.err, engine.ChatDelta{Reasoning: "hm"}, engine.ChatDelta{Content: "a"}))
			if stdout.String() != "a" || stderr.String() != "hm" {
				t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("got %v, want %v", err, tt.err)
			}
			if code := report(t.Context(), &stderr, err); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
		})
	}
}
