package engine

import (
	"context"
	"errors"
	"io"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// stream is the outputs of one request seen by their consumer, who renders them into
// deltas of type D. What the loop needs is released by the loop: Close need not wait for
// a consumer.
type stream[D any] struct {
	engine  *Engine
	ready   chan struct{} // one of the mailboxes has something
	choices []choice[D]
}

// choice is one output of a request.
type choice[D any] struct {
	seq    *sequence
	seed   uint32
	render renderer[D]
	ended  bool
	out    output // what was taken last: its storage is used again
	delta  D      // scratch of next
}

// renderer turns output into deltas. It belongs to the consumer's goroutine.
type renderer[D any] interface {
	// add merges new output into d, and reports whether d is more now.
	add(d *D, o *output) bool
	// end merges what is left, and may refine the finish reason of the result.
	end(d *D, r *Result)
	// result puts a result into d.
	result(d *D, r *Result)
	io.Closer
}

// outputs says how to make the sequences and renderers of a request's outputs.
type outputs[D any] struct {
	n        int
	params   llama.SamplerParams
	sampler  func(llama.SamplerParams) (*llama.Sampler, error)
	sequence func(*llama.Sampler) (*sequence, error) // takes the sampler over, also where there is an error
	renderer func(index int) (renderer[D], error)
}

// start submits the sequences of a request that has its places, which they take over.
func (o *outputs[D]) start(ctx context.Context, e *Engine) (_ *stream[D], err error) {
	s := &stream[D]{engine: e}
	defer func() {
		if err != nil {
			for _, p := range s.choices {
				err = errors.Join(err, p.seq.sampler.Close(), p.render.Close())
			}
		}
	}()
	for i := range o.n {
		if err := ctx.Err(); err != nil { // a sampler with a grammar may take its time
			return nil, err
		}
		p, err := o.choice(i)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			s.ready = p.seq.out.ready
			o.params.Seed = p.seed
		}
		p.seq.out.ready = s.ready
		p.seq.release = func() { e.leaveRequest(1) }
		s.choices = append(s.choices, p)
	}
	for _, p := range s.choices {
		e.loop.submit(p.seq)
	}
	return s, nil
}

// choice makes the output of an index, whose seed is that much higher than the first one's.
func (o *outputs[D]) choice(index int) (p choice[D], err error) {
	params := o.params
	if index > 0 {
		params.Seed = uint32((uint64(params.Seed) + uint64(index)) % uint64(llama.RandomSeed))
	}
	if p.render, err = o.renderer(index); err != nil {
		return p, err
	}
	sampler, err := o.sampler(params)
	if err != nil {
		return p, errors.Join(err, p.render.Close())
	}
	p.seed = sampler.Seed()
	if p.seq, err = o.sequence(sampler); err != nil {
		return p, errors.Join(err, p.render.Close())
	}
	return p, nil
}

// each hands the deltas to the consumer. When it returns or panics, the sequences
// have ended and everything is released.
func (s *stream[D]) each(ctx context.Context, yield func(D, error) bool) {
	defer func() {
		s.cancel()
		for _, p := range s.choices {
			if err := p.render.Close(); err != nil {
				s.engine.params.Logger.Error("engine: a request was not released", "error", err)
			}
		}
	}()
	// Also while the consumer is busy.
	stop := context.AfterFunc(ctx, func() {
		for i := range s.choices { // the rest of a choice is the consumer's
			s.engine.loop.cancel(s.choices[i].seq)
		}
	})
	defer stop()
	for open := len(s.choices); open > 0; {
		select {
		case <-ctx.Done():
		case <-s.ready:
		}
		for i := range s.choices {
			p := &s.choices[i]
			if p.ended {
				continue
			}
			if ctx.Err() != nil {
				s.cancel()
				r := p.result()
				r.FinishReason = FinishCancelled
				p.fail(&r, ctx.Err(), yield)
				return
			}
			if !p.next(yield) {
				return
			}
			if p.ended {
				open--
			}
		}
	}
}

// next yields what a choice has more, if anything; false ends the request.
func (p *choice[D]) next(yield func(D, error) bool) bool {
	var ok, closed bool
	p.out, ok, closed = p.seq.out.take(output{text: p.out.text[:0], tokens: p.out.tokens[:0]}) // the deltas keep the probabilities
	d, empty := &p.delta, *new(D)
	*d = empty
	more := ok && p.render.add(d, &p.out)
	if !closed {
		return !more || yield(*d, nil)
	}
	p.ended = true
	r := p.result()
	if p.seq.err == nil {
		p.render.end(d, &r)
		return yield(*d, nil)
	}
	if !more || yield(*d, nil) {
		p.fail(&r, p.seq.err, yield)
	}
	return false
}

func (p *choice[D]) fail(r *Result, err error, yield func(D, error) bool) {
	var d D
	p.render.result(&d, r)
	yield(d, err)
}

// cancel ends the sequences, unless they have ended, and waits for that.
func (s *stream[D]) cancel() {
	for _, p := range s.choices {
		s.engine.loop.cancel(p.seq)
	}
	for _, p := range s.choices {
		<-p.seq.retired
	}
}

// result is valid once the sequence has ended.
func (p *choice[D]) result() Result {
	return Result{
		FinishReason: p.seq.reason,
		Usage:        Usage{Prompt: p.seq.prompt, Cached: min(p.seq.cached, p.seq.prompt), Computed: p.seq.computed, Output: p.seq.length() - p.seq.prompt, Drafted: p.seq.guesses.drafted, Accepted: p.seq.guesses.accepted},
		Timings:      p.seq.timings(),
		Seed:         p.seed,
	}
}
