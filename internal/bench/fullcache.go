package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// fullCache is one stream beside what 90 % of the cells' worth of finished sequences
// have left in the cache, and in an empty one.
func (b *bench) fullCache(ctx context.Context, row string) (err error) {
	full, err := b.open(ctx, clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.Close()) }()
	empty, err := engine.New(full.Model(), engine.Params{MaxSequences: clients})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.Close()) }()
	const prompt = 500
	for used, i := 0, 0; used < full.Stats().Cells*9/10; used, i = used+prompt, i+1 {
		tokens := make([]llama.Token, prompt)
		for j := range tokens {
			tokens[j] = llama.Token(1000 + 1000*i + j)
		}
		if _, err := generate(ctx, full, tokens, 1, &llama.SamplerParams{}); err != nil {
			return err
		}
	}
	b.say("%s: %+v", row, full.Stats())
	speed := func(name string, e *engine.Engine) side {
		return side{name: name, run: func(ctx context.Context) (metrics, error) {
			g, err := generate(ctx, e, []llama.Token{1}, decodeTokens, &llama.SamplerParams{})
			if err != nil {
				return nil, err
			}
			return metrics{fmt.Sprintf("tg%d", decodeTokens): g.speed()}, nil
		}}
	}
	return b.compare(ctx, row, speed(oursName, full), speed("empty", empty))
}
