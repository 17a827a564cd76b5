package llama

import (
	"math"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// RandomSeed asks for a seed that differs each time (LLAMA_DEFAULT_SEED).
const RandomSeed uint32 = 0xFFFFFFFF

// SamplerParams says how a token is chosen. Every field's zero value turns that sampler off, so that the zero value of the
// struct is greedy: the most probable token. The order is that of llama.cpp's tools: logit bias, penalties, DRY, top-n-sigma,
// top-k, typical, top-p, min-p, XTC, temperature; then a draw with the seed.
type SamplerParams struct {
	Seed        uint32  // of the draw; RandomSeed = another one each time
	Temperature float32 // 0 = greedy
	TopK        int32   // keep the k most probable tokens
	TopP        float32 // keep the most probable tokens that make up p of the probability; 1 = off too
	MinP        float32 // keep tokens at least p times as probable as the first
	TypicalP    float32 // locally typical sampling; 1 = off too
	TopNSigma   float32 // keep tokens within n standard deviations of the best logit

	XTCProbability, XTCThreshold float32 // exclude top choices
	DynatempRange                float32 // temperature by entropy within Temperature ± range
	DynatempExponent             float32 // 0 = 1

	RepeatPenalty    float32 // divides the logits of seen tokens; 1 = off too
	FrequencyPenalty float32 // subtracted per occurrence
	PresencePenalty  float32 // subtracted once
	PenaltyLastN     int32   // how many last tokens the penalties see; 0 = 64

	DRYMultiplier    float32 // penalty for repeated sequences; 0 = off
	DRYBase          float32 // 0 = 1.75
	DRYAllowedLength int32   // 0 = 2
	DRYPenaltyLastN  int32   // 0 = 64

	// LogitBias is added to the logits of tokens; -Inf forbids one.
	LogitBias map[Token]float32
	// Grammar in GBNF constrains the text; its first rule is "root". See [CheckGrammar].
	Grammar string
}

// minTemperature is the smallest one that llama.cpp can divide logits by; less is as good as 0.
const minTemperature = 1e-30

// DefaultSamplerParams are the defaults of llama.cpp's tools: temperature 0.8, top-k 40, top-p 0.95, min-p 0.05.
func DefaultSamplerParams() SamplerParams {
	return SamplerParams{Seed: RandomSeed, Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05}
}

func (p *SamplerParams) check(v *Vocab) error {
	for _, f := range []struct {
		name   string
		v      float32
		lo, hi float64
	}{
		{"Temperature", p.Temperature, 0, 1e6}, {"TopP", p.TopP, 0, 1}, {"MinP", p.MinP, 0, 1}, {"TypicalP", p.TypicalP, 0, 1},
		{"TopNSigma", p.TopNSigma, 0, 1e6}, {"XTCProbability", p.XTCProbability, 0, 1}, {"XTCThreshold", p.XTCThreshold, 0, 1},
		{"DynatempRange", p.DynatempRange, 0, 1e6}, {"DynatempExponent", p.DynatempExponent, 0, 1e6},
		{"RepeatPenalty", p.RepeatPenalty, 0, 1e6}, {"FrequencyPenalty", p.FrequencyPenalty, -1e6, 1e6}, {"PresencePenalty", p.PresencePenalty, -1e6, 1e6},
		{"DRYMultiplier", p.DRYMultiplier, 0, 1e6}, {"DRYBase", p.DRYBase, 0, 1e6},
	} {
		if x := float64(f.v); math.IsNaN(x) || x < f.lo || x > f.hi {
			return errorf(ErrInvalidParam, "%s = %v: want %v to %v", f.name, f.v, f.lo, f.hi)
		}
	}
	if p.RepeatPenalty != 0 && p.RepeatPenalty < 1e-6 {
		return errorf(ErrInvalidParam, "RepeatPenalty = %v is too small", p.RepeatPenalty)
	}
	for _, f := range []struct {
		name string
		v    int32
	}{
		{"TopK", p.TopK}, {"PenaltyLastN", p.PenaltyLastN}, {"DRYAllowedLength", p.DRYAllowedLength}, {"DRYPenaltyLastN", p.DRYPenaltyLastN},
	} {
		if f.v < 0 || f.v > 1<<20 {
			return errorf(ErrInvalidParam, "%s = %d: want 0 to %d", f.name, f.v, 1<<20)
		}
	}
	for t, b := range p.LogitBias {
		if err := v.check(t); err != nil {
			return err
		}
		if math.IsNaN(float64(b)) || math.IsInf(float64(b), 1) {
			return errorf(ErrInvalidParam, "LogitBias of token %d is %v", t, b)
		}
	}
	return nil
}

func (p *SamplerParams) native() *native.SamplerParams {
	or := func(v, standard float32) float32 {
		if v == 0 {
			return standard
		}
		return v
	}
	orInt := func(v, standard int32) int32 {
		if v == 0 {
			return standard
		}
		return v
	}
	temperature := p.Temperature
	if temperature < minTemperature {
		temperature = 0
	}
	np := &native.SamplerParams{
		Seed: p.Seed, Temp: temperature, TopK: p.TopK, TopP: or(p.TopP, 1), MinP: p.MinP, TypP: or(p.TypicalP, 1),
		TopNSigma: or(p.TopNSigma, -1), XTCProbability: p.XTCProbability, XTCThreshold: p.XTCThreshold,
		DynatempRange: p.DynatempRange, DynatempExponent: or(p.DynatempExponent, 1),
		PenaltyRepeat: or(p.RepeatPenalty, 1), PenaltyFreq: p.FrequencyPenalty, PenaltyPresent: p.PresencePenalty,
		PenaltyLastN: orInt(p.PenaltyLastN, 64), DryMultiplier: p.DRYMultiplier, DryBase: or(p.DRYBase, 1.75),
		DryAllowedLength: orInt(p.DRYAllowedLength, 2), DryPenaltyLastN: orInt(p.DRYPenaltyLastN, 64),
		Grammar: p.Grammar,
	}
	for t := range p.LogitBias {
		np.BiasToken = append(np.BiasToken, int32(t))
	}
	slices.Sort(np.BiasToken)
	for _, t := range np.BiasToken {
		np.Bias = append(np.Bias, p.LogitBias[Token(t)])
	}
	return np
}
