//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"unsafe"
)

// Sampler is an opaque common_sampler.
type Sampler struct{ p *C.lm_sampler }

// NewSampler makes a sampler for a model's vocabulary.
func NewSampler(m Model, p *SamplerParams) (Sampler, error) {
	var pin runtime.Pinner // the struct holds pointers to Go memory for the duration of the call
	defer pin.Unpin()
	str := func(s string) (*C.char, C.size_t) {
		if s == "" {
			return nil, 0
		}
		pin.Pin(unsafe.StringData(s))
		return chars(s)
	}
	ints := func(s []int32) (*C.int32_t, C.size_t) {
		if len(s) == 0 {
			return nil, 0
		}
		pin.Pin(unsafe.SliceData(s))
		return ptr32(s), C.size_t(len(s))
	}
	cp := C.lm_sampler_params{
		seed: C.uint32_t(p.Seed), top_k: C.int32_t(p.TopK), penalty_last_n: C.int32_t(p.PenaltyLastN),
		dry_allowed_length: C.int32_t(p.DryAllowedLength), dry_penalty_last_n: C.int32_t(p.DryPenaltyLastN), mirostat: C.int32_t(p.Mirostat),
		min_keep: C.int32_t(p.MinKeep), adaptive_target: C.float(p.AdaptiveTarget), adaptive_decay: C.float(p.AdaptiveDecay),
		temp: C.float(p.Temp), top_p: C.float(p.TopP), min_p: C.float(p.MinP), typ_p: C.float(p.TypP), top_n_sigma: C.float(p.TopNSigma),
		xtc_probability: C.float(p.XTCProbability), xtc_threshold: C.float(p.XTCThreshold),
		dynatemp_range: C.float(p.DynatempRange), dynatemp_exponent: C.float(p.DynatempExponent),
		penalty_repeat: C.float(p.PenaltyRepeat), penalty_freq: C.float(p.PenaltyFreq), penalty_present: C.float(p.PenaltyPresent),
		dry_multiplier: C.float(p.DryMultiplier), dry_base: C.float(p.DryBase),
		mirostat_tau: C.float(p.MirostatTau), mirostat_eta: C.float(p.MirostatEta),
		grammar_kind: C.int32_t(p.GrammarKind), grammar_lazy: C.bool(p.GrammarLazy),
		thinking_budget: C.int32_t(p.ThinkingBudget),
	}
	list := func(texts []string) (*C.char, C.size_t) {
		if len(texts) == 0 {
			return nil, 0
		}
		return str(strings.Join(texts, "\x00") + "\x00")
	}
	cp.samplers, cp.n_samplers = str(p.Samplers)
	cp.dry_breakers, cp.n_dry_breakers = list(p.DryBreakers)
	cp.bias_token, cp.n_bias = ints(p.BiasToken)
	if len(p.Bias) > 0 {
		pin.Pin(unsafe.SliceData(p.Bias))
		cp.bias = (*C.float)(unsafe.Pointer(unsafe.SliceData(p.Bias)))
	}
	cp.preserved, cp.n_preserved = ints(p.Preserved)
	cp.grammar, cp.n_grammar = str(p.Grammar)
	cp.generation_prompt, cp.n_generation_prompt = str(p.GenerationPrompt)
	cp.thinking_start, cp.n_thinking_start = str(p.ThinkingStart)
	cp.thinking_ends, cp.n_thinking_ends = list(p.ThinkingEnds)
	cp.thinking_message, cp.n_thinking_message = str(p.ThinkingMessage)
	if len(p.Triggers) > 0 {
		triggers := make([]C.lm_trigger, len(p.Triggers))
		for i, t := range p.Triggers {
			triggers[i]._type, triggers[i].token = C.int32_t(t.Type), C.int32_t(t.Token)
			triggers[i].value, triggers[i].n_value = str(t.Value)
		}
		pin.Pin(unsafe.SliceData(triggers))
		cp.triggers, cp.n_triggers = unsafe.SliceData(triggers), C.size_t(len(triggers))
	}
	var s Sampler
	var cerr *C.char
	err := toError(C.lm_sampler_new(m.p, &cp, &s.p, &cerr), cerr)
	return s, err
}

// SamplerDefaults are those of common_params_sampling in the linked llama.cpp.
func SamplerDefaults() (SamplerParams, error) {
	var d C.lm_sampler_params
	if code := C.lm_sampler_defaults(&d); code != C.LM_OK {
		return SamplerParams{}, &Error{Code: int(code)}
	}
	return SamplerParams{
		Seed: uint32(d.seed), TopK: int32(d.top_k), PenaltyLastN: int32(d.penalty_last_n),
		DryAllowedLength: int32(d.dry_allowed_length), DryPenaltyLastN: int32(d.dry_penalty_last_n), Mirostat: int32(d.mirostat), MinKeep: int32(d.min_keep),
		Temp: float32(d.temp), TopP: float32(d.top_p), MinP: float32(d.min_p), TypP: float32(d.typ_p), TopNSigma: float32(d.top_n_sigma),
		XTCProbability: float32(d.xtc_probability), XTCThreshold: float32(d.xtc_threshold),
		DynatempRange: float32(d.dynatemp_range), DynatempExponent: float32(d.dynatemp_exponent),
		PenaltyRepeat: float32(d.penalty_repeat), PenaltyFreq: float32(d.penalty_freq), PenaltyPresent: float32(d.penalty_present),
		DryMultiplier: float32(d.dry_multiplier), DryBase: float32(d.dry_base), MirostatTau: float32(d.mirostat_tau), MirostatEta: float32(d.mirostat_eta),
		AdaptiveTarget: float32(d.adaptive_target), AdaptiveDecay: float32(d.adaptive_decay), ThinkingBudget: int32(d.thinking_budget),
		Samplers:    C.GoStringN(d.samplers, C.int(d.n_samplers)),
		DryBreakers: strings.Split(strings.TrimSuffix(C.GoStringN(d.dry_breakers, C.int(d.n_dry_breakers)), "\x00"), "\x00"),
	}, nil
}

// Free releases the sampler.
func (s Sampler) Free() { C.lm_sampler_free(s.p) }

// Working is the processor time in seconds that a grammar has taken so far in the call in flight.
func (s Sampler) Working() float64 { return float64(C.lm_sampler_working(s.p)) }

// Clone copies the sampler with its state.
func (s Sampler) Clone() (Sampler, error) {
	var c Sampler
	var cerr *C.char
	err := toError(C.lm_sampler_clone(s.p, &c.p, &cerr), cerr)
	return c, err
}

// Reset brings the sampler back to its first state.
func (s Sampler) Reset() error {
	var cerr *C.char
	return toError(C.lm_sampler_reset(s.p, &cerr), cerr)
}

// Accept feeds tokens; generated ones also advance the grammar.
func Accept[T ~int32](s Sampler, tokens []T, generated bool) error {
	var cerr *C.char
	p := (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(tokens)))
	return toError(C.lm_sampler_accept(s.p, p, C.size_t(len(tokens)), C.bool(generated), &cerr), cerr)
}

// CheckGrammar parses a GBNF grammar.
func CheckGrammar(m Model, gbnf string) error {
	var cerr *C.char
	p, n := chars(gbnf)
	return toError(C.lm_grammar_check(m.p, p, n, &cerr), cerr)
}

// SchemaToGrammar translates a JSON schema to GBNF.
func SchemaToGrammar(schema string) (string, error) {
	var out, cerr *C.char
	var n C.size_t
	p, size := chars(schema)
	if err := toError(C.lm_schema_to_grammar(p, size, &out, &n, &cerr), cerr); err != nil {
		return "", err
	}
	return takeString(out, n), nil
}
