package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// answer is what 'run --json' prints. Durations are in milliseconds.
type answer struct {
	Text         string              `json:"text"`
	Reasoning    string              `json:"reasoning,omitempty"`
	FinishReason engine.FinishReason `json:"finish_reason"`
	Usage        answerUsage         `json:"usage"`
	Timings      answerTimings       `json:"timings"`
	Seed         uint32              `json:"seed"`
	Model        string              `json:"model"`
}

type answerUsage struct {
	Prompt   int `json:"prompt"`
	Cached   int `json:"cached"`
	Computed int `json:"computed"`
	Output   int `json:"output"`
	Drafted  int `json:"drafted,omitempty"`
	Accepted int `json:"accepted,omitempty"`
}

type answerTimings struct {
	Queue  float64 `json:"queue_ms"`
	Prompt float64 `json:"prompt_ms"`
	Decode float64 `json:"decode_ms"`
}

// stream writes the answer to stdout and the reasoning to stderr, as they come.
func stream(std stdio, deltas iter.Seq2[engine.ChatDelta, error]) error {
	var failed error
	last := ""
	for d, err := range deltas {
		if err != nil {
			failed = requestFailure(err)
			break
		}
		if _, err := io.WriteString(std.err, d.Reasoning); err != nil {
			return fmt.Errorf("writing to stderr: %w", err)
		}
		if _, err := io.WriteString(std.out, d.Content); err != nil {
			return fmt.Errorf("writing to stdout: %w", err)
		}
		last = cmp.Or(d.Content, last)
	}
	if isTerminal(std.out) && last != "" && !strings.HasSuffix(last, "\n") {
		_, err := io.WriteString(std.out, "\n")
		return errors.Join(failed, err)
	}
	return failed
}

// collect gathers the whole answer, or with an error as much of it as there is.
func collect(deltas iter.Seq2[engine.ChatDelta, error]) (answer, error) {
	var text, reasoning strings.Builder
	var r engine.Result
	var failed error
	for d, err := range deltas {
		text.WriteString(d.Content)
		reasoning.WriteString(d.Reasoning)
		if d.Result != nil {
			r = *d.Result
		}
		if err != nil {
			failed = requestFailure(err)
			if r.FinishReason == "" && errors.Is(err, context.Canceled) {
				r.FinishReason = engine.FinishCancelled
			}
		}
	}
	return answer{
		Text: text.String(), Reasoning: reasoning.String(), FinishReason: r.FinishReason, Seed: r.Seed,
		Usage:   answerUsage(r.Usage),
		Timings: answerTimings{milliseconds(r.Timings.Queue), milliseconds(r.Timings.Prompt), milliseconds(r.Timings.Decode)},
	}, failed
}
