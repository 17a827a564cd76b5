package engine

import (
	"encoding/json"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// constraint is what a request asks of the form of its output: at most one.
type constraint struct {
	schema         json.RawMessage
	grammar, regex string
	choices        []string
}

func (c *constraint) check(kind, ofSampler string) error {
	set := 0
	for _, is := range []bool{len(c.schema) > 0, c.grammar != "", c.regex != "", len(c.choices) > 0, ofSampler != ""} {
		if is {
			set++
		}
	}
	if set > 1 {
		return invalid(kind+".Schema", "at most one of Schema, Grammar, Regex, Choices and Sampling.Grammar can be set")
	}
	return nil
}

// gbnf is the grammar of what is not a schema; "" = none.
func (c *constraint) gbnf() (string, error) {
	switch {
	case c.regex != "":
		return llama.RegexToGrammar(c.regex)
	case len(c.choices) > 0:
		return llama.ChoicesToGrammar(c.choices)
	}
	return c.grammar, nil
}
