package engine

import (
	"fmt"
	"runtime/debug"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// LogitsProcessor is a sampler in Go: it sees the logits of the next token, one per
// token of the vocabulary and not normalised, before the samplers of the request do, and
// may change them. -Inf forbids a token; where only one other is left, that one is
// chosen. tokens are the prompt and the output so far; they must not be changed. Both
// slices are valid until it returns.
//
// It runs on the goroutine that computes the steps: every request of the engine waits for
// it, and it must neither call the engine nor end the goroutine (runtime.Goexit). Calls
// for one request follow each other; those for several never run at the same time. A
// request with a processor costs a call into C more per token, and its neighbours, too,
// come back to Go after each step.
//
// An error or a panic ends its request with [*ErrProcessor], and no other one. A worker process
// cannot call it: with Params.Isolated the request is refused with [*ErrInvalid].
type LogitsProcessor func(tokens []llama.Token, logits []float32) error

// ErrProcessor says that the Processor of a request has failed.
type ErrProcessor struct {
	Err   error  // what it returned, or its panic
	Stack []byte // of the panic; nil where it was none
}

func (e *ErrProcessor) Error() string { return fmt.Sprintf("engine: Request.Processor: %v", e.Err) }

func (e *ErrProcessor) Unwrap() error { return e.Err }

// call turns a panic into an error.
func (p LogitsProcessor) call(tokens []llama.Token, logits []float32) (err error) {
	defer func() {
		if v := recover(); v != nil {
			cause, ok := v.(error)
			if !ok {
				cause = fmt.Errorf("%v", v)
			}
			err = &ErrProcessor{Err: fmt.Errorf("panic: %w", cause), Stack: debug.Stack()}
		}
	}()
	if err := p(tokens, logits); err != nil {
		return &ErrProcessor{Err: err}
	}
	return nil
}

// process samples the token of a sequence with a processor.
func (d *contextDecoder) process(f *feed, index int) {
	f.tokens, f.probs = nil, nil
	tokens := f.seq.tokens[:len(f.seq.tokens):len(f.seq.tokens)]
	var failed error
	err := d.ctx.EditLogits(index, func(logits []float32) { failed = f.seq.process.call(tokens, logits) })
	switch {
	case failed != nil:
		f.err = failed
	case err != nil:
		f.err = &ErrProcessor{Err: err}
	default:
		row := llama.SampleRow{Index: index, Sampler: f.seq.sampler, NProbs: f.seq.nProbs}
		d.ctx.SampleRow(&row)
		f.tokens, f.probs, f.err = row.Tokens, row.Probs, row.Err
	}
}
