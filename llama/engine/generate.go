package engine

import (
	"cmp"
	"context"
	"iter"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Generate continues a text. Each range over the iterator is one request, and
// ends with exactly one of
//
//   - a delta with the Result, or with Request.N the last of them;
//   - an error, once and last. Beside it the Result, where the request got as
//     far as the queue, tells what was done;
//   - the consumer's break, return or panic.
//
// A request that is cancelled, by ctx or by leaving the loop, ends with the
// step in flight: no delta follows, and when the range statement is left its
// sequence and cells are free. A slow consumer delays nobody: its deltas are
// merged.
//
// # Errors
//
//   - the error of ctx; [ErrBusy], [ErrClosed], [*ErrInvalid]
//   - [*llama.ErrContextFull] for a prompt longer than the context; nothing was computed. An output that fills the
//     context is no error, its finish reason is "context"
//   - [llama.ErrInvalidToken], [llama.ErrInvalidParam]
//   - [llama.ErrInvalidGrammar], [llama.ErrInvalidSchema], [llama.ErrInvalidRegex]; [llama.ErrGrammarBudget] for a grammar
//     that takes too long or grows too large; [llama.ErrGrammarRejected] where it leaves no token
//   - [llama.ErrUnsupported] for what the model cannot: ContextShift, or generating at all
//   - [*ErrProcessor] of Request.Processor; [*ErrWorkerDied] with Params.Isolated
//   - [*llama.DecodeError] when the step failed; the engine goes on
func (e *Engine) Generate(ctx context.Context, r Request) iter.Seq2[Delta, error] {
	if e.worker != nil {
		return isolatedStream(ctx, e.worker, "generate", "Request", r, func(d *Delta) **Result { return &d.Result })
	}
	return func(yield func(Delta, error) bool) {
		s, err := e.startGenerate(ctx, r)
		if err != nil {
			yield(Delta{}, err)
			return
		}
		s.each(ctx, yield)
	}
}

func (e *Engine) startGenerate(ctx context.Context, r Request) (_ *stream[Delta], err error) {
	t, err := e.termsOf(&r)
	if err != nil {
		return nil, err
	}
	if err := e.admit(ctx, &t); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			e.leaveRequest(t.outputs())
		}
	}()
	prompt := r.Tokens
	if prompt == nil {
		if err := e.checkLength(len(r.Prompt)); err != nil {
			return nil, err
		}
		if prompt, err = e.model.Vocab().Tokenize(r.Prompt, true, r.ParseSpecial); err != nil {
			return nil, err
		}
	} else if r.Prompt != "" {
		return nil, invalid("Request.Tokens", "set together with Prompt")
	}
	if err := e.checkPrompt(prompt); err != nil {
		return nil, err
	}
	form := constraint{schema: r.Schema, grammar: r.Grammar, regex: r.Regex, choices: r.Choices}
	params, err := e.sampling(t.kind, r.Sampling, form, r.IgnoreEOS)
	if err != nil {
		return nil, err
	}
	g, err := form.gbnf()
	if err != nil {
		return nil, err
	}
	params.Grammar = cmp.Or(g, params.Grammar)
	if err := e.tryCompile(ctx, r.Schema, params.Grammar); err != nil {
		return nil, err
	}
	if len(r.Schema) > 0 {
		if params.Grammar, err = llama.SchemaToGrammar(r.Schema); err != nil {
			return nil, err
		}
	}
	o := outputs[Delta]{
		n: t.outputs(), params: params,
		sampler:  func(p llama.SamplerParams) (*llama.Sampler, error) { return llama.NewSampler(e.model, p) },
		renderer: func(i int) (renderer[Delta], error) { return textRenderer{index: i, probs: e.probs(r.Logprobs)}, nil },
	}
	o.sequence = func(s *llama.Sampler) (*sequence, error) {
		text := &textStream{vocab: e.model.Vocab(), stops: newStopMatcher(r.Stop)}
		var unforced func() (*llama.Sampler, error)
		if r.IgnoreEOS {
			unforced = func() (*llama.Sampler, error) {
				return llama.NewSampler(e.model, llama.SamplerParams{Grammar: params.Grammar})
			}
		}
		return e.newSequence(ctx, &t, prompt, s, text, unforced)
	}
	return o.start(ctx, e)
}

// textRenderer is the renderer of Generate: text as it is.
type textRenderer struct {
	index int
	probs probs
}

func (t textRenderer) add(d *Delta, o *output) bool {
	d.Index = t.index
	d.Text += string(o.text)
	d.Tokens = append(d.Tokens, o.tokens...)
	d.Logprobs = t.probs.append(d.Logprobs, o.probs)
	return true
}

func (t textRenderer) end(d *Delta, r *Result)    { t.result(d, r) }
func (t textRenderer) result(d *Delta, r *Result) { d.Index, d.Result = t.index, r }
func (textRenderer) Close() error                 { return nil }
