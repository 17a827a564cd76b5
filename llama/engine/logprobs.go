package engine

import "github.com/lm-sandbox/lm-sandbox/llama"

// probs makes what a consumer sees of the probabilities of tokens, n for each.
type probs struct {
	n     int
	vocab *llama.Vocab
}

func (e *Engine) probs(n int) probs { return probs{n: n, vocab: e.model.Vocab()} }

func (p probs) append(to []TokenLogprobs, flat []llama.TokenProb) []TokenLogprobs {
	for ; len(flat) > 0; flat = flat[p.n:] {
		t := TokenLogprobs{TokenLogprob: p.one(flat[0])}
		for _, top := range flat[1:p.n] {
			if top.Token != llama.NullToken { // a vocabulary smaller than n
				t.Top = append(t.Top, p.one(top))
			}
		}
		to = append(to, t)
	}
	return to
}

func (p probs) one(t llama.TokenProb) TokenLogprob {
	text, _ := p.vocab.AppendPiece(nil, t.Token, true) // it is one of the vocabulary's
	return TokenLogprob{Token: t.Token, Logprob: t.Logprob, Text: string(text)}
}
