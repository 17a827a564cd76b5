package llama

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// checkGrammarText refuses what would crash, abort or block the process, and most of what llama.cpp would refuse.
func checkGrammarText(src string) error {
	_, err := parseGrammar(src)
	return err
}

func parseGrammar(src string) (*gbnf, error) {
	if src == "" {
		return &gbnf{}, nil
	}
	switch {
	case len(src) > maxGrammarBytes:
		return nil, errorf(ErrInvalidGrammar, "the grammar has %d bytes, at most %d are allowed", len(src), maxGrammarBytes)
	case !utf8.ValidString(src) || strings.ContainsRune(src, 0):
		return nil, errorf(ErrInvalidGrammar, "the grammar is not UTF-8 text")
	}
	g, err := parseGBNF(src)
	if err == nil {
		err = g.checkCost()
	}
	if err == nil {
		return g, nil
	}
	if placed := (*PlaceError)(nil); !errors.As(err, &placed) {
		err = &PlaceError{What: "grammar", Text: err.Error()}
	}
	return nil, err
}

// checkGrammar also looks up the tokens that a grammar names.
func (v *Vocab) checkGrammar(src string) error {
	g, err := parseGrammar(src)
	if err != nil {
		return err
	}
	for _, name := range g.tokens {
		if id, ok := strings.CutPrefix(name, "<["); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(id, "]>"), 10, 31)
			if err != nil || int(n) >= v.NTokens() {
				return errorf(ErrInvalidGrammar, "grammar: token %q is outside the vocabulary of %d", name, v.NTokens())
			}
			continue
		}
		toks, err := native.Tokenize[Token](v.m.native, nil, name, false, true)
		if err != nil || len(toks) != 1 {
			return errorf(ErrInvalidGrammar, "grammar: %q is not one token of the vocabulary", name)
		}
	}
	return nil
}

// CheckGrammar parses a GBNF grammar for a model's vocabulary; nil means that a sampler takes it. Grammars from strangers are
// held to limits, so that none can exhaust the stack, memory or time: 256 KiB, 100 nested brackets, 2000 repetitions, and as
// many ways to go on at one place as fit into a second. A grammar may still grow more expensive with each token of the text:
// one that takes a sampler more than 2 s of processor time for a token fails with [ErrGrammarBudget] there.
//
// # Errors
//
//   - [ErrInvalidGrammar], as a [*PlaceError] where the place is known
//   - [ErrNoVocab], [ErrClosed]
//
// C: llama_sampler_init_grammar
func CheckGrammar(m *Model, gbnf string) error {
	if m == nil {
		return ErrClosed
	}
	if err := m.vocab.acquire(); err != nil {
		return err
	}
	defer m.release()
	if gbnf == "" {
		return errorf(ErrInvalidGrammar, "the grammar is empty")
	}
	if err := m.vocab.checkGrammar(gbnf); err != nil {
		return err
	}
	return fromNative(native.CheckGrammar(m.native, gbnf), ErrInvalidGrammar, "grammar")
}
