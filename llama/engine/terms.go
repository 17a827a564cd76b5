package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// terms are what Request and ChatRequest have in common: how a request runs.
type terms struct {
	kind                   string // for errors
	scope, caller          string
	pace                   time.Duration
	priority               int
	maxTokens, n, logprobs int
	stops                  []string
	contextShift           bool
	nKeep                  int
	process                LogitsProcessor
	adapters               adapterSet
}

func (e *Engine) termsOf(r *Request) (t terms, err error) {
	t = terms{
		kind: "Request", scope: r.CacheScope, caller: r.Caller, pace: r.Pace, priority: r.Priority, maxTokens: r.MaxTokens, n: r.N,
		logprobs: r.Logprobs, stops: r.Stop, contextShift: r.ContextShift, nKeep: r.NKeep, process: r.Processor,
	}
	t.adapters, err = e.adapters.set(t.kind, r.Adapters)
	return t, err
}

func (e *Engine) termsOfChat(r *ChatRequest) (t terms, err error) {
	t = terms{
		kind: "ChatRequest", scope: r.CacheScope, caller: r.Caller, pace: r.Pace, priority: r.Priority, maxTokens: r.MaxTokens, n: r.N,
		logprobs: r.Logprobs, stops: r.Stop, contextShift: r.ContextShift, nKeep: r.NKeep, process: r.Processor,
	}
	t.adapters, err = e.adapters.set(t.kind, r.Adapters)
	return t, err
}

// bounds of what one request may bring, so that a single one cannot use up
// the memory of the process.
const (
	mostStops       = 256
	mostStopBytes   = 64 << 10
	mostCallerBytes = 1 << 10
	mostOutputs     = 128
	mostLogprobs    = 100
)

// outputs is N with its default.
func (t *terms) outputs() int { return max(t.n, 1) }

// check refuses what cannot be, before the request has a place.
func (t *terms) check() error {
	if t.priority < -mostPriority || t.priority > mostPriority {
		return invalid(t.kind+".Priority", "%d: want -%d to %d", t.priority, mostPriority, mostPriority)
	}
	if len(t.caller) > mostCallerBytes {
		return invalid(t.kind+".Caller", "%d bytes: want at most %d", len(t.caller), mostCallerBytes)
	}
	if t.maxTokens < 0 {
		return invalid(t.kind+".MaxTokens", "%d is negative", t.maxTokens)
	}
	if t.n < 0 || t.n > mostOutputs {
		return invalid(t.kind+".N", "%d: want 0 to %d", t.n, mostOutputs)
	}
	if t.logprobs < 0 || t.logprobs > mostLogprobs {
		return invalid(t.kind+".Logprobs", "%d: want 0 to %d", t.logprobs, mostLogprobs)
	}
	if len(t.stops) > mostStops {
		return invalid(t.kind+".Stop", "%d stop strings: want at most %d", len(t.stops), mostStops)
	}
	size := 0
	for i, s := range t.stops {
		size += len(s)
		switch {
		case s == "":
			return invalid(fmt.Sprintf("%s.Stop[%d]", t.kind, i), "empty")
		case !utf8.ValidString(s):
			return invalid(fmt.Sprintf("%s.Stop[%d]", t.kind, i), "not UTF-8, so it can never appear in the output")
		case size > mostStopBytes:
			return invalid(t.kind+".Stop", "more than %d bytes together", mostStopBytes)
		}
	}
	return nil
}

// newSequence prepares the sequence of a checked prompt. It takes the sampler
// over, also where there is an error. unforced, where the end is forbidden, makes a
// sampler that may end.
func (e *Engine) newSequence(ctx context.Context, t *terms, prompt []llama.Token, sampler *llama.Sampler, text textStage,
	unforced func() (*llama.Sampler, error)) (*sequence, error) {
	if err := sampler.AcceptPrompt(prompt); err != nil {
		return nil, errors.Join(err, sampler.Close())
	}
	// A full context can still give one token: it is sampled, not computed.
	room, reason := e.maxSeq-len(prompt)+1, FinishContext
	if t.maxTokens > 0 && t.maxTokens <= room {
		room, reason = t.maxTokens, FinishLength
	}
	seq := &sequence{
		prompt: len(prompt), key: key{scope: t.scope}, pace: e.pace(t.pace), limit: len(prompt) + room, limitReason: reason, tokens: slices.Clone(prompt),
		sampler: sampler, text: text, out: newMailbox[output](), retired: make(chan struct{}),
		nProbs: t.logprobs, process: t.process, priority: t.priority, caller: t.caller, call: callOf(ctx), newUnforced: unforced,
	}
	seq.adapt(t.adapters)
	if t.contextShift {
		e.letShift(seq, t.nKeep, t.maxTokens)
	}
	return seq, nil
}
