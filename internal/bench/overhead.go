package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

var overheadStreams = []int{1, 32}

func overheadFigure(streams int) string { return fmt.Sprintf("share %d", streams) }

// overhead is the time of a step that is spent neither in llama_decode nor in
// sampling: crossing into C, booking tokens, waking those who wait for them.
func (b *bench) overhead(ctx context.Context, row string) (err error) {
	e, err := b.open(ctx, overheadStreams[len(overheadStreams)-1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return b.repeat(ctx, row, nil, func(ctx context.Context) (metrics, error) {
		m := metrics{}
		for _, n := range overheadStreams {
			before, after, err := midway(ctx, e, n)
			if err != nil {
				return nil, err
			}
			busy, steps := after.Busy-before.Busy, float64(after.Steps-before.Steps)
			outside := busy - (after.Decode - before.Decode) - (after.Sample - before.Sample)
			m[fmt.Sprintf("outside %d", n)], m[fmt.Sprintf("step %d", n)] = outside.Seconds()*1e6/steps, busy.Seconds()*1e3/steps
			m[overheadFigure(n)] = outside.Seconds() / busy.Seconds() * 100
		}
		return m, nil
	})
}

const overheadTokens = 256

// midway runs n streams and gives the engine's figures when the first one has an
// eighth of its tokens, and when it has seven eighths: all of them generate then.
func midway(ctx context.Context, e *engine.Engine, n int) (before, after engine.Stats, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	request := func(i int) engine.Request {
		return engine.Request{Tokens: []llama.Token{llama.Token(1000 + i)}, MaxTokens: overheadTokens, IgnoreEOS: true, Sampling: &llama.SamplerParams{}}
	}
	for i := range n - 1 {
		others.Go(func() {
			for _, err := range e.Generate(ctx, request(i)) {
				if err != nil {
					return // the first one has it, too
				}
			}
		})
	}
	output := 0
	for d, err := range e.Generate(ctx, request(n)) {
		if err != nil {
			return before, after, err
		}
		if output += len(d.Tokens); output <= overheadTokens/8 {
			before = e.Stats()
		} else if output <= overheadTokens*7/8 {
			after = e.Stats()
		}
	}
	return before, after, nil
}
