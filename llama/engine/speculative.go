package engine

import (
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Speculative says how tokens are guessed: several guesses are computed in one step
// with the token before them, and those that are what the sampler draws are tokens
// that cost no step of their own. The output is what it is without, as far as the
// logits are the same (they differ in their last bits in a batch of another shape).
// Any sampler, grammar or schema works with it; requests with a Processor do without.
//
// How many tokens are guessed is found out while the engine runs: as many as pay,
// by what a guess has cost and how often the request's last ones were right. Steps
// that compute prompts have no guesses.
//
// The zero value is off.
type Speculative struct {
	// NGram, 2 to 16, looks the last NGram tokens up in what the request had before,
	// prompt and output, and guesses that what followed there follows again. It costs
	// nothing, and is for output that repeats its input or itself: edits, extracts,
	// code, JSON. 3 is a good value; 0 = off.
	NGram int
	// DraftModel is the file of a smaller model with the same vocabulary, which is
	// loaded beside the model and guesses where NGram finds nothing; "" = none. Its
	// cache has as many cells as that of the model.
	DraftModel string
	// MaxDraft is the most tokens that are guessed at once for one request; 0 = 8, at
	// most 63.
	MaxDraft int
}

const (
	defaultDraft = 8
	mostDraft    = 63
	leastNGram   = 2
	mostNGram    = 16
)

func (s *Speculative) on() bool { return s.NGram > 0 || s.DraftModel != "" }

// complete checks the parameters and fills in the default.
func (s *Speculative) complete() error {
	switch {
	case s.NGram != 0 && (s.NGram < leastNGram || s.NGram > mostNGram):
		return invalid("Params.Speculative.NGram", "%d: want 0, or %d to %d", s.NGram, leastNGram, mostNGram)
	case s.MaxDraft < 0 || s.MaxDraft > mostDraft:
		return invalid("Params.Speculative.MaxDraft", "%d: want 0 to %d", s.MaxDraft, mostDraft)
	case s.MaxDraft > 0 && !s.on():
		return invalid("Params.Speculative.MaxDraft", "set without NGram and DraftModel")
	case s.MaxDraft == 0 && s.on():
		s.MaxDraft = defaultDraft
	}
	return nil
}

// checkSpeculative refuses memory that cannot forget guesses.
func (p *Params) checkSpeculative(m *llama.Model) error {
	switch {
	case !p.Speculative.on():
		return nil
	case !canForget(m):
		return fmt.Errorf("engine: Params.Speculative: this model's memory cannot forget tokens that were guessed wrongly, leave it zero: %w", llama.ErrUnsupported)
	case m.NSWA() > 0 && p.Layout == LayoutStreams && !p.SWAFull:
		// llama.cpp computes sequences of unequal length in parts, and the window has moved on with the first
		return fmt.Errorf("engine: Params.Speculative: with a sliding window it needs LayoutUnified or SWAFull: %w", llama.ErrUnsupported)
	}
	return nil
}

func canForget(m *llama.Model) bool { return m.CanGenerate() && !m.IsRecurrent() && !m.IsHybrid() }

// outputs is how many tokens of a step can be sampled from.
func (p *Params) outputs(sequences int) int {
	if !p.Speculative.on() {
		return sequences
	}
	return max(sequences, min(p.NBatch, p.MaxSequences*(1+p.Speculative.MaxDraft)))
}
