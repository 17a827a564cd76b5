package llama

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// RandomSeed asks for a seed that differs each time (LLAMA_DEFAULT_SEED).
const RandomSeed uint32 = 0xFFFFFFFF

// SamplerType names one sampler of a chain, as llama.cpp's tools do (common_sampler_type).
type SamplerType string

// The samplers of a chain.
const (
	SamplerPenalties   SamplerType = "penalties"
	SamplerDRY         SamplerType = "dry"
	SamplerTopNSigma   SamplerType = "top_n_sigma"
	SamplerTopK        SamplerType = "top_k"
	SamplerTypicalP    SamplerType = "typ_p"
	SamplerTopP        SamplerType = "top_p"
	SamplerMinP        SamplerType = "min_p"
	SamplerXTC         SamplerType = "xtc"
	SamplerTemperature SamplerType = "temperature"
	SamplerInfill      SamplerType = "infill"     // for text between a beginning and an end; only in Samplers
	SamplerAdaptiveP   SamplerType = "adaptive_p" // takes the place of the draw, wherever it stands
)

// samplerChars are what llama.cpp calls the samplers in one character (common_sampler_type_to_chr).
var samplerChars = map[SamplerType]byte{
	SamplerPenalties: 'e', SamplerDRY: 'd', SamplerTopNSigma: 's', SamplerTopK: 'k', SamplerTypicalP: 'y', SamplerTopP: 'p',
	SamplerMinP: 'm', SamplerXTC: 'x', SamplerTemperature: 't', SamplerInfill: 'i', SamplerAdaptiveP: 'a',
}

// samplerOrder is llama.cpp's.
const samplerOrder = "edskypmxt"

const (
	mostSamplers    = 32
	mostBreakers    = 32 // llama.cpp goes through the vocabulary for each
	mostBreakerSize = 40 // what llama.cpp looks at
)

// Reasoning limits a part of the text that stands between two others, such as <think> and </think>: where it has had Budget
// tokens, Message and the end follow.
type Reasoning struct {
	Budget  int      // most tokens; 0 = it ends as soon as it has begun
	Message string   // said before the end where the budget ends the part
	Start   string   // texts of control tokens in Start and Ends are control tokens
	Ends    []string // any of them ends the part; the first one is what Budget puts there
}

// SamplerParams says how a token is chosen. Every field's zero value turns that sampler off, so that the zero value of the
// struct is greedy: the most probable token. Logit bias comes first, then the chain in the order of Samplers, then a draw
// with the seed. A value that turns its sampler off leaves it out of the chain.
type SamplerParams struct {
	Seed        uint32  // of the draw; RandomSeed = another one each time
	Temperature float32 // 0 = greedy
	TopK        int32   // keep the k most probable tokens
	TopP        float32 // keep the most probable tokens that make up p of the probability; 1 = off too
	MinP        float32 // keep tokens at least p times as probable as the first
	TypicalP    float32 // locally typical sampling; 1 = off too
	TopNSigma   float32 // keep tokens within n standard deviations of the best logit

	XTCProbability   float32 // how often the top choices are excluded: all but the last one above the threshold
	XTCThreshold     float32 // 0 = 0.1
	DynatempRange    float32 // temperature by entropy within Temperature ± range
	DynatempExponent float32 // 0 = 1

	RepeatPenalty    float32 // divides the logits of seen tokens; 1 = off too
	FrequencyPenalty float32 // subtracted per occurrence
	PresencePenalty  float32 // subtracted once
	PenaltyLastN     int32   // how many last tokens the penalties see; 0 = 64

	DRYMultiplier    float32 // penalty for repeated sequences; 0 = off
	DRYBase          float32 // 0 = 1.75
	DRYAllowedLength int32   // 0 = 2
	DRYPenaltyLastN  int32   // 0 = 64
	// DRYSequenceBreakers are texts that no repeated sequence goes over, at most 32 of 40 bytes; nil = "\n", ":", "\"" and "*".
	DRYSequenceBreakers []string

	// LogitBias is added to the logits of tokens; -Inf forbids one.
	LogitBias map[Token]float32
	// Grammar in GBNF constrains the text; its first rule is "root". See [CheckGrammar].
	Grammar string

	// Samplers is the chain; nil = penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, as in
	// llama.cpp's tools. With a Temperature of 0 the last step takes the best token that the others leave.
	Samplers []SamplerType
	// MinKeep is the least number of tokens that typical, top-p, min-p and XTC leave; 0 = 1.
	MinKeep int32
	// Mirostat 1 or 2 takes the place of the chain, except for Temperature: the draw keeps the text's surprise per token near
	// MirostatTau bits, learning with the rate MirostatEta. Not with a Temperature of 0.
	Mirostat    int32
	MirostatTau float32 // 0 = 5
	MirostatEta float32 // 0 = 0.1
	// AdaptiveTarget, above 0, prefers tokens of about this probability instead of drawing by it (adaptive-p).
	AdaptiveTarget float32
	AdaptiveDecay  float32 // how long it remembers: about 1/(1-decay) tokens; 0 = 0.9

	// Reasoning limits the model's reasoning; nil = no limit. [ChatPrompt.Sampler] sets Start and Ends where they are empty.
	Reasoning *Reasoning
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
		{"MirostatTau", p.MirostatTau, 0, 100}, {"MirostatEta", p.MirostatEta, 0, 1},
		{"AdaptiveTarget", p.AdaptiveTarget, 0, 1}, {"AdaptiveDecay", p.AdaptiveDecay, 0, 0.99},
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
		{"MinKeep", p.MinKeep},
	} {
		if f.v < 0 || f.v > 1<<20 {
			return errorf(ErrInvalidParam, "%s = %d: want 0 to %d", f.name, f.v, 1<<20)
		}
	}
	if err := p.checkChain(v); err != nil {
		return err
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

func (p *SamplerParams) checkChain(v *Vocab) error {
	if p.Mirostat < 0 || p.Mirostat > 2 {
		return errorf(ErrInvalidParam, "Mirostat = %d: want 0, 1 or 2", p.Mirostat)
	}
	if len(p.Samplers) > mostSamplers {
		return errorf(ErrInvalidParam, "Samplers has %d entries: want at most %d", len(p.Samplers), mostSamplers)
	}
	for i, s := range p.Samplers {
		if samplerChars[s] == 0 {
			return errorf(ErrInvalidParam, "Samplers[%d] is %q: want one of llama.Sampler…, such as %q", i, s, SamplerTopK)
		}
		if slices.Contains(p.Samplers[:i], s) {
			return errorf(ErrInvalidParam, "Samplers[%d] is %q, which is there already", i, s)
		}
		if s == SamplerInfill && v.EOT() == NullToken && v.EOS() == NullToken {
			return errorf(ErrInvalidParam, "Samplers[%d]: infill needs a vocabulary with an end of text", i)
		}
		if s == SamplerInfill && (p.TopK < 1 || p.TopK > mostInfill || !slices.Contains(p.Samplers[:i], SamplerTopK)) {
			return errorf(ErrInvalidParam, "Samplers[%d]: infill compares all tokens with each other: put top_k before it, with a TopK of 1 to %d", i, mostInfill)
		}
	}
	if len(p.DRYSequenceBreakers) > mostBreakers {
		return errorf(ErrInvalidParam, "DRYSequenceBreakers has %d entries: want at most %d", len(p.DRYSequenceBreakers), mostBreakers)
	}
	for i, b := range p.DRYSequenceBreakers {
		if b == "" || len(b) > mostBreakerSize || strings.ContainsRune(b, 0) {
			return errorf(ErrInvalidParam, "DRYSequenceBreakers[%d] has %d bytes: want 1 to %d without NUL", i, len(b), mostBreakerSize)
		}
		if slices.Contains(p.DRYSequenceBreakers[:i], b) {
			return errorf(ErrInvalidParam, "DRYSequenceBreakers[%d] is %q, which is there already", i, b)
		}
	}
	if r := p.Reasoning; r != nil {
		if r.Budget < 0 || r.Budget > math.MaxInt32 {
			return errorf(ErrInvalidParam, "Reasoning.Budget = %d: want at least 0", r.Budget)
		}
		if r.Start == "" != (len(r.Ends) == 0) || slices.Contains(r.Ends, "") {
			return errorf(ErrInvalidParam, "Reasoning: Start and Ends are set together and are not empty")
		}
		for _, s := range append([]string{r.Message, r.Start}, r.Ends...) {
			if len(s) > mostReasoningText || strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
				return errorf(ErrInvalidParam, "Reasoning: %.20q… has %d bytes: want at most %d of UTF-8 without NUL", s, len(s), mostReasoningText)
			}
		}
	}
	return nil
}

// mostInfill bounds the tokens that the infill sampler compares, each with all others.
const mostInfill = 256

// mostReasoningText bounds each text of a Reasoning, in bytes.
const mostReasoningText = 4096

// samplers is the chain as llama.cpp writes it.
func (p *SamplerParams) samplers() string {
	order := samplerOrder
	if p.Samplers != nil {
		var b strings.Builder
		for _, s := range p.Samplers {
			b.WriteByte(samplerChars[s])
		}
		order = b.String()
	}
	adaptive := strings.IndexByte(order, samplerChars[SamplerAdaptiveP]) >= 0
	switch {
	case p.AdaptiveTarget == 0 && adaptive:
		return strings.ReplaceAll(order, "a", "")
	case p.AdaptiveTarget > 0 && !adaptive:
		return order + "a"
	}
	return order
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
		TopNSigma: or(p.TopNSigma, -1), XTCProbability: p.XTCProbability, XTCThreshold: or(p.XTCThreshold, 0.1),
		DynatempRange: p.DynatempRange, DynatempExponent: or(p.DynatempExponent, 1),
		PenaltyRepeat: or(p.RepeatPenalty, 1), PenaltyFreq: p.FrequencyPenalty, PenaltyPresent: p.PresencePenalty,
		PenaltyLastN: orInt(p.PenaltyLastN, 64), DryMultiplier: p.DRYMultiplier, DryBase: or(p.DRYBase, 1.75),
		DryAllowedLength: orInt(p.DRYAllowedLength, 2), DryPenaltyLastN: orInt(p.DRYPenaltyLastN, 64),
		Grammar:  p.Grammar,
		Samplers: p.samplers(), MinKeep: p.MinKeep, DryBreakers: p.DRYSequenceBreakers,
		Mirostat: p.Mirostat, MirostatTau: or(p.MirostatTau, 5), MirostatEta: or(p.MirostatEta, 0.1),
		AdaptiveTarget: or(p.AdaptiveTarget, -1), AdaptiveDecay: or(p.AdaptiveDecay, 0.9), ThinkingBudget: -1,
	}
	if np.DryBreakers == nil {
		np.DryBreakers = []string{"\n", ":", "\"", "*"}
	}
	if r := p.Reasoning; r != nil {
		np.ThinkingBudget, np.ThinkingMessage, np.ThinkingStart, np.ThinkingEnds = int32(r.Budget), r.Message, r.Start, r.Ends
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
