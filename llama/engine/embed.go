package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// EmbedOptions say what Embed makes of a text. The zero value is sensible.
type EmbedOptions struct {
	// Pooling makes one vector of those of the tokens: llama.PoolingAuto takes the
	// model's own, which an embedding model has, or else PoolingMean. PoolingNone
	// gives those of all tokens, one after the other.
	Pooling llama.PoolingType
	// Norm is what a vector is divided by; never done with PoolingNone.
	Norm Norm
	// Usage, where set, gets the number of tokens.
	Usage *Usage
}

// Norm is the length that a vector gets.
type Norm int

// What a vector is divided by (llama.cpp's embd_normalize).
const (
	NormL2   Norm = iota // its length: the dot product of two is their cosine
	NormNone             // nothing
	NormL1               // the sum of its absolute values
	NormMax              // its largest absolute value, and multiplied by 32760
)

// ErrText says which text or document of a call failed, and why.
type ErrText struct {
	Index int
	Err   error
}

func (e *ErrText) Error() string { return fmt.Sprintf("engine: text %d: %v", e.Index, e.Err) }

func (e *ErrText) Unwrap() error { return e.Err }

// Embed gives a vector of llama.Model.NEmbdOut values for each text, in their
// order. Texts of simultaneous calls share batches, in turn. The first call
// makes a second context on the model, for Params.NCtxEmbed tokens, which lives
// until Close; requests that generate go on beside it. A text of a control
// token, such as "<|im_end|>", is text.
//
// # Errors
//
//   - the error of ctx, which ends the call at once; [ErrBusy], [ErrClosed], [*ErrInvalid]
//   - [*ErrText] around [*llama.ErrContextFull] for a text longer than Params.NCtxEmbed or the model allow: nothing is
//     cut off; or around what llama.Vocab.Tokenize says. Nothing was computed
//   - [llama.ErrUnsupported] for a model that cannot; [*llama.ErrInsufficientMemory] when the context does not fit
//   - [*llama.DecodeError] when a batch failed; [*ErrWorkerDied] with Params.Isolated
//
// C: llama_decode, llama_get_embeddings_ith
func (e *Engine) Embed(ctx context.Context, texts []string, o EmbedOptions) ([][]float32, error) {
	if e.worker != nil {
		out, usage, err := isolatedEmbed(ctx, e.worker, embedCall{Texts: texts, Pooling: o.Pooling, Norm: o.Norm})
		return o.give(out, usage, err)
	}
	return e.embed(ctx, len(texts), o, func(i int) ([]llama.Token, error) {
		return e.model.Vocab().Tokenize(texts[i], true, false)
	})
}

// EmbedTokens is Embed of texts that are tokens already; none are added.
//
// # Errors
//
// As Embed, and [*ErrText] around [llama.ErrInvalidToken].
func (e *Engine) EmbedTokens(ctx context.Context, texts [][]llama.Token, o EmbedOptions) ([][]float32, error) {
	if e.worker != nil {
		out, usage, err := isolatedEmbed(ctx, e.worker, embedCall{Tokens: texts, Pooling: o.Pooling, Norm: o.Norm})
		return o.give(out, usage, err)
	}
	return e.embed(ctx, len(texts), o, func(i int) ([]llama.Token, error) {
		n := llama.Token(e.model.Vocab().NTokens())
		if k := slices.IndexFunc(texts[i], func(t llama.Token) bool { return t < 0 || t >= n }); k >= 0 {
			return nil, fmt.Errorf("token %d: %w", texts[i][k], llama.ErrInvalidToken)
		}
		return slices.Clone(texts[i]), nil // it may be read a little longer than ctx lasts
	})
}

func (e *Engine) embed(ctx context.Context, n int, o EmbedOptions, tokens func(i int) ([]llama.Token, error)) ([][]float32, error) {
	switch {
	case o.Pooling == llama.PoolingAuto && slices.Contains([]llama.PoolingType{llama.PoolingNone, llama.PoolingRank}, e.model.PoolingType()):
		o.Pooling = llama.PoolingMean
	case o.Pooling == llama.PoolingAuto:
		o.Pooling = e.model.PoolingType()
	case o.Pooling < 0 || o.Pooling >= llama.PoolingRank:
		return nil, invalid("EmbedOptions.Pooling", "%v: want none, mean, cls or last; Rerank ranks", o.Pooling)
	}
	if o.Norm < NormL2 || o.Norm > NormMax {
		return nil, invalid("EmbedOptions.Norm", "%d is none of the constants", o.Norm)
	}
	out, usage, err := e.runEmbed(ctx, n, o.Pooling, tokens)
	if o.Pooling != llama.PoolingNone && err == nil {
		for _, v := range out {
			o.Norm.apply(v)
		}
	}
	return o.give(out, usage, err)
}

// give is what Embed returns.
func (o EmbedOptions) give(out [][]float32, usage Usage, err error) ([][]float32, error) {
	if err != nil {
		return nil, err
	}
	if o.Usage != nil {
		*o.Usage = usage
	}
	return out, nil
}

// runEmbed computes n texts.
func (e *Engine) runEmbed(ctx context.Context, n int, pooling llama.PoolingType, tokens func(i int) ([]llama.Token, error)) ([][]float32, Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, Usage{}, err
	}
	if err := e.enterRequest(1); err != nil {
		return nil, Usage{}, err
	}
	defer e.leaveRequest(1)
	emb, err := e.embedders.get(e, pooling == llama.PoolingRank)
	if err != nil {
		return nil, Usage{}, err
	}
	job := newEmbedJob(n, pooling)
	var usage Usage
	for i := range n {
		if err := ctx.Err(); err != nil {
			return nil, Usage{}, err
		}
		toks, err := tokens(i)
		switch {
		case err != nil:
		case len(toks) == 0:
			err = invalid("texts", "a text without tokens has no embedding")
		case len(toks) > emb.most:
			err = &llama.ErrContextFull{Have: len(toks), Max: emb.most}
		}
		if err != nil {
			return nil, Usage{}, &ErrText{Index: i, Err: err}
		}
		job.texts[i] = toks
		usage.Prompt += len(toks)
	}
	usage.Computed = usage.Prompt
	if n > 0 {
		err = emb.run(ctx, job)
	}
	return job.out, usage, err
}

// apply divides a vector by its norm; a vector of zeros stays one.
func (n Norm) apply(v []float32) {
	var sum float64
	for _, x := range v {
		a := math.Abs(float64(x))
		switch n {
		case NormL2:
			sum += a * a
		case NormL1:
			sum += a
		case NormMax:
			sum = max(sum, a/32760)
		}
	}
	switch {
	case n == NormNone || sum == 0:
		return
	case n == NormL2:
		sum = math.Sqrt(sum)
	}
	scale := float32(1 / sum)
	for i := range v {
		v[i] *= scale
	}
}
