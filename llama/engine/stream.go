package engine

import (
	"context"
	"io"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// stream is one request seen by its consumer, who renders the output of the
// sequence into deltas of type D. What the loop needs is released by the loop:
// Close need not wait for a consumer.
type stream[D any] struct {
	engine *Engine
	seq    *sequence
	seed   uint32
	render renderer[D]
}

// renderer turns text into deltas. It belongs to the consumer's goroutine.
type renderer[D any] interface {
	// add merges new text and tokens into d, and reports whether d is more now.
	add(d *D, text string, tokens []llama.Token) bool
	// end merges what is left and the result, whose finish reason it may refine.
	end(d *D, r *Result)
	io.Closer
}

// startStream submits a sequence whose request has a place, which it takes over.
func startStream[D any](e *Engine, seq *sequence, render renderer[D]) *stream[D] {
	s := &stream[D]{engine: e, seq: seq, seed: seq.sampler.Seed(), render: render}
	seq.release = e.leaveRequest
	e.loop.submit(seq)
	return s
}

// each hands the deltas to the consumer. When it returns or panics, the
// sequence has ended and everything is released.
func (s *stream[D]) each(ctx context.Context, yield func(D, error) bool, last func(*Result) D) {
	defer func() {
		s.cancel()
		if err := s.render.Close(); err != nil {
			s.engine.params.Logger.Error("engine: a request was not released", "error", err)
		}
	}()
	// Also while the consumer is busy.
	stop := context.AfterFunc(ctx, func() { s.engine.loop.cancel(s.seq) })
	defer stop()
	for {
		select {
		case <-ctx.Done():
		case <-s.seq.out.ready:
		}
		if ctx.Err() != nil {
			s.cancel()
			r := s.result()
			r.FinishReason = FinishCancelled
			yield(last(&r), ctx.Err())
			return
		}
		out, ok, closed := s.seq.out.take()
		var d D
		more := ok && s.render.add(&d, string(out.text), out.tokens)
		if !closed {
			if more && !yield(d, nil) {
				return
			}
			continue
		}
		r := s.result()
		if s.seq.err == nil {
			s.render.end(&d, &r)
			yield(d, nil)
		} else if !more || yield(d, nil) {
			yield(last(&r), s.seq.err)
		}
		return
	}
}

// cancel ends the sequence, unless it has ended, and waits for that.
func (s *stream[D]) cancel() {
	s.engine.loop.cancel(s.seq)
	<-s.seq.retired
}

// result is valid once the sequence has ended.
func (s *stream[D]) result() Result {
	return Result{
		FinishReason: s.seq.reason,
		Usage:        Usage{Prompt: s.seq.prompt, Cached: min(s.seq.cached, s.seq.prompt), Computed: s.seq.computed, Output: s.seq.length() - s.seq.prompt},
		Timings:      s.seq.timings(),
		Seed:         s.seed,
	}
}
