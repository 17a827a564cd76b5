package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Request is text to be continued as it is, without a chat template.
type Request struct {
	// Prompt is tokenised with the special tokens that the model adds to a
	// text. Texts of control tokens in it stay text, unless ParseSpecial.
	Prompt string
	// Tokens is used instead of Prompt, unchanged.
	Tokens []llama.Token
	// ParseSpecial makes control tokens of their texts in Prompt, such as
	// "<|im_start|>". Never set it for text of users.
	ParseSpecial bool
	// MaxTokens is the most tokens to sample; 0 = until the model ends its
	// text or the context is full.
	MaxTokens int
	// Stop are texts that end the output; they do not become part of it.
	Stop []string
	// Sampling; nil = llama.DefaultSamplerParams(). The zero SamplerParams are
	// greedy.
	Sampling *llama.SamplerParams
	// Schema is a JSON schema that the output follows; Grammar is a GBNF
	// grammar that it follows. At most one of them, and of Sampling.Grammar.
	Schema  json.RawMessage
	Grammar string
	// IgnoreEOS forbids the end-of-generation tokens, until a grammar or a
	// schema allows nothing else.
	IgnoreEOS bool
	// CacheScope separates callers: only requests of the same scope share what is
	// in the cache of the beginnings of their prompts. How fast an answer comes
	// tells whether somebody has asked the like before.
	CacheScope string
	// Pace is Params.Pace for the steps that this request waits for while it generates,
	// where it is shorter; 0 = that of the engine.
	Pace time.Duration
	// Priority, -100 to 100, says who is admitted first and gives up cells last: higher
	// ones. Where all places are taken, a request of a lower one that came later gives
	// its place up, and is computed again when there is room. Each Priority is worth a
	// wait of 10 s, so that nobody waits for ever.
	Priority int
	// Caller is who asks: requests of the same one share Params.MaxCellsPerCaller, and
	// callers who wait take turns. It separates no caches: CacheScope does.
	Caller string
	// ContextShift goes on where the context is full: half of the tokens behind the
	// first NKeep (and the BOS token) are dropped, again and again, and the model goes
	// on with what it half remembers. Without MaxTokens only the model ends such an
	// output. After each context of tokens one that shifts, with MaxTokens or without, lets
	// those go first who have come meanwhile, and is computed again where it goes on.
	// NKeep -1 keeps the prompt.
	ContextShift bool
	NKeep        int
	// Regex is a regular expression that all of the output matches (see
	// [llama.RegexToGrammar]); Choices are texts of which the output is one. They
	// exclude each other, Schema and Grammar.
	Regex   string
	Choices []string
	// N is the number of outputs, each with a place in the queue, a seed one higher
	// than the one before, and a Result of its own; 0 = 1, at most 128. Their prompt is
	// computed once where they run together.
	N int
	// Logprobs asks for the probability of each output token and of the Logprobs-1
	// likeliest tokens at its place; 0 = none, at most 100.
	Logprobs int
	// Processor changes logits before each token is chosen. Not with Params.Isolated.
	Processor LogitsProcessor
	// Adapters are LoRA adapters out of Params.Adapters. A step computes requests with the same adapters and scales; where
	// there are several such groups, they take turns, and each gets slower. What is in the cache is shared within a group.
	Adapters []AdapterScale
}

// sampling completes the sampler parameters of a request.
func (e *Engine) sampling(kind string, given *llama.SamplerParams, c constraint, ignoreEOS bool) (llama.SamplerParams, error) {
	p := llama.DefaultSamplerParams()
	if given != nil {
		p = *given
	}
	if err := c.check(kind, p.Grammar); err != nil {
		return p, err
	}
	// No request has more tokens to look back on, and samplers keep room for as many as they are told.
	p.PenaltyLastN, p.DRYPenaltyLastN = min(p.PenaltyLastN, int32(e.maxSeq)), min(p.DRYPenaltyLastN, int32(e.maxSeq))
	if ignoreEOS {
		bias := maps.Clone(e.eogBias())
		for t, b := range p.LogitBias {
			if _, forbidden := bias[t]; !forbidden {
				bias[t] = b
			}
		}
		p.LogitBias = bias
	}
	return p, nil
}

func eogBias(v *llama.Vocab) map[llama.Token]float32 {
	bias := map[llama.Token]float32{}
	for t := range llama.Token(v.NTokens()) {
		if v.IsEOG(t) {
			bias[t] = float32(math.Inf(-1))
		}
	}
	return bias
}

// pace is the shorter one of a request's and the engine's; 0 is none.
func (e *Engine) pace(request time.Duration) time.Duration {
	p := max(0, e.params.Pace)
	if request > 0 && (p == 0 || request < p) {
		p = request
	}
	return p
}

// checkLength refuses text that is too long for the context whatever its tokens
// are, before the time is spent to find them. The Have of its error is the
// least that the text can have.
func (e *Engine) checkLength(bytes int) error {
	if n := bytes / e.longestPiece(); n > e.maxSeq {
		return &llama.ErrContextFull{Have: n, Max: e.maxSeq}
	}
	return nil
}

// longestPiece is the length of the longest token's text.
func longestPiece(v *llama.Vocab) int {
	longest := 1
	var piece []byte
	for t := range llama.Token(v.NTokens()) {
		var err error
		if piece, err = v.AppendPiece(piece[:0], t, true); err == nil {
			longest = max(longest, len(piece))
		}
	}
	return longest
}

// checkPrompt refuses what cannot be computed before anything is.
func (e *Engine) checkPrompt(prompt []llama.Token) error {
	if len(prompt) == 0 {
		return invalid("Request.Prompt", "empty: there is no token to continue from")
	}
	if len(prompt) > e.maxSeq {
		return &llama.ErrContextFull{Have: len(prompt), Max: e.maxSeq}
	}
	n := llama.Token(e.model.Vocab().NTokens())
	for i, t := range prompt {
		if t < 0 || t >= n {
			return fmt.Errorf("engine: prompt token %d is %d, the vocabulary has %d: %w", i, t, n, llama.ErrInvalidToken)
		}
	}
	return nil
}
