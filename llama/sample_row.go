package llama

import (
	"math"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

func (r *SampleRow) addProbs(probs []native.Prob) {
	for _, p := range probs {
		r.Probs = append(r.Probs, TokenProb{Token: Token(p.Token), Logprob: p.Logprob})
	}
}

// SampleRow samples one token by the logits of the last decode, and accepts it, as DecodeSample does for each of its rows. The
// failure is in the row.
func (c *Context) SampleRow(r *SampleRow) {
	r.Token, r.Tokens, r.Probs = NullToken, r.Tokens[:0], r.Probs[:0]
	r.Err = c.sampleRow(r)
}

func (c *Context) sampleRow(r *SampleRow) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkOutput(r.Index); err != nil {
		return err
	}
	if r.NProbs < 0 || r.NProbs > mostProbs {
		return errorf(ErrInvalidParam, "NProbs = %d: want 0 to %d", r.NProbs, mostProbs)
	}
	if err := r.Sampler.hold(c); err != nil {
		return err
	}
	defer r.Sampler.letGo()
	probs := make([]native.Prob, r.NProbs)
	t, err := c.native.SampleRow(r.Sampler.native, int32(r.Index), probs)
	if err != nil {
		return fromNative(err, ErrFatal, "sample")
	}
	r.Token = Token(t)
	r.Tokens = append(r.Tokens, r.Token)
	r.addProbs(probs)
	return nil
}

// EditLogits calls f with the logits at a batch index of the last decode: one value per token of the vocabulary, not
// normalised, in llama.cpp's own memory, valid until f returns. What f writes there is what samples later see; -Inf forbids a
// token. f must not use the context.
//
// # Errors
//
//   - [ErrNoLogits], [ErrClosed]
//   - [ErrInvalidParam] where f has left NaN or +Inf: do not sample then
//
// C: llama_get_logits_ith
func (c *Context) EditLogits(i int, f func(logits []float32)) error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkOutput(i); err != nil {
		return err
	}
	logits, err := c.native.LogitsAt(int32(i), int(c.model.info.NTokens))
	if err != nil {
		return fromNative(err, ErrNoLogits, "logits")
	}
	f(logits)
	for t, l := range logits {
		if !(l <= math.MaxFloat32) { // llama.cpp sorts them and takes their exponentials
			return errorf(ErrInvalidParam, "the logit of token %d is %v now", t, l)
		}
	}
	return nil
}
