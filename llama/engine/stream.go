package engine

import (
	"context"
	"io"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// stream carries the output of one sequence from the loop to the consumer of
// an iterator, as deltas of type D. A goroutine of its own turns tokens into
// text, finds stop strings and renders deltas, so that neither the loop nor a
// slow consumer does it, and a stop string ends the sequence even while the
// consumer is busy. That goroutine, not the consumer, releases everything:
// Close need not wait for a consumer.
type stream[D any] struct {
	engine *Engine
	seq    *sequence
	text   textStream
	render renderer[D]
	box    *mailbox[D]

	// Valid once box is closed.
	result Result
	err    error

	done chan struct{} // closed when everything is released
}

// renderer turns text into deltas. It belongs to the stream's goroutine, which
// closes it.
type renderer[D any] interface {
	// add merges new text and tokens into d, and reports whether d is more now.
	add(d *D, text string, tokens []llama.Token) bool
	// end merges what is left and the result, whose finish reason it may refine.
	end(d *D, r *Result)
	io.Closer
}

func startStream[D any](e *Engine, seq *sequence, text textStream, render renderer[D]) *stream[D] {
	s := &stream[D]{engine: e, seq: seq, text: text, render: render, box: newMailbox[D](), done: make(chan struct{})}
	e.loop.submit(seq)
	go s.run()
	return s
}

func (s *stream[D]) run() {
	defer close(s.done) // when the place is free again
	defer s.engine.leaveRequest()
	output, stoppedAt := s.pump()
	<-s.seq.retired
	s.result = Result{
		FinishReason: s.seq.reason,
		Usage:        Usage{Prompt: s.seq.prompt, Computed: s.seq.computed, Output: output},
		Timings:      s.seq.timings(),
		Seed:         s.seq.sampler.Seed(),
	}
	switch {
	case s.err != nil:
	case !stoppedAt.IsZero():
		// Whatever the loop did meanwhile, the output ended here.
		s.result.FinishReason = FinishStop
		s.result.Timings.Decode = min(s.result.Timings.Decode, stoppedAt.Sub(s.seq.first))
	default:
		s.err = s.seq.err
	}
	if s.err == nil {
		s.box.put(func(d *D) bool { s.render.end(d, &s.result); return true })
	}
	for _, c := range []io.Closer{s.seq.sampler, s.render} {
		if err := c.Close(); err != nil {
			s.engine.params.Logger.Error("engine: a request was not released", "error", err)
		}
	}
	s.box.close()
}

// pump renders tokens until the sequence has ended. It returns how many of them
// are output, and when a stop string was found.
func (s *stream[D]) pump() (output int, stoppedAt time.Time) {
	for ended := false; !ended; {
		<-s.seq.out.ready
		var tokens []llama.Token
		tokens, _, ended = s.seq.out.take()
		if s.err != nil || !stoppedAt.IsZero() {
			continue // sampled while the stop string was being found
		}
		text, n, stopped, err := s.text.push(tokens)
		if ended && !stopped && err == nil {
			var rest string
			rest, stopped = s.text.flush()
			text += rest
		}
		if stopped || err != nil {
			s.engine.loop.finish(s.seq, FinishStop)
			s.err, stoppedAt = err, time.Now()
		}
		output += n
		if n > 0 || text != "" {
			s.box.put(func(d *D) bool { return s.render.add(d, text, tokens[:n]) })
		}
	}
	return output, stoppedAt
}

// each hands the deltas to the consumer. When it returns or panics, the
// sequence has ended and everything is released.
func (s *stream[D]) each(ctx context.Context, yield func(D, error) bool, last func(*Result) D) {
	cancel := func() {
		s.engine.loop.finish(s.seq, FinishCancelled)
		<-s.done
	}
	defer cancel()
	// Also while the consumer is busy.
	stop := context.AfterFunc(ctx, func() { s.engine.loop.finish(s.seq, FinishCancelled) })
	defer stop()
	for {
		select {
		case <-ctx.Done():
		case <-s.box.ready:
		}
		if ctx.Err() != nil {
			cancel()
			s.result.FinishReason = FinishCancelled
			yield(last(&s.result), ctx.Err())
			return
		}
		d, ok, closed := s.box.take()
		switch {
		case closed && s.err != nil:
			if !ok || yield(d, nil) {
				yield(last(&s.result), s.err)
			}
			return
		case ok && !yield(d, nil), closed:
			return
		}
	}
}
