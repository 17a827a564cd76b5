package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

const layoutOutput = 64

// layoutLoads are numbers of sequences that have nothing in common, and the tokens of their prompts.
var layoutLoads = []struct{ sequences, prompt int }{{1, 32}, {4, 32}, {16, 32}, {1, 512}, {4, 512}, {16, 512}}

// layouts is the decode of several sequences in both layouts of the context, with
// nothing else in it: the table on which the default one was chosen.
func (b *bench) layouts(ctx context.Context, row string) (err error) {
	m, err := llama.LoadModel(ctx, b.model, llama.ModelParams{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	in := func(name string, layout engine.Layout) side {
		return side{name: name, run: func(ctx context.Context) (metrics, error) {
			figures := metrics{}
			for _, l := range layoutLoads {
				x, err := inLayout(ctx, m, layout, l.sequences, l.prompt)
				if err != nil {
					return nil, err
				}
				figures[fmt.Sprintf("%d of %d tokens", l.sequences, l.prompt)] = x
			}
			return figures, nil
		}}
	}
	return b.compare(ctx, row, in("unified", engine.LayoutUnified), in("streams", engine.LayoutStreams))
}

// inLayout is the tokens/s of a new engine's sequences.
func inLayout(ctx context.Context, m *llama.Model, layout engine.Layout, sequences, prompt int) (speed float64, err error) {
	output := layoutOutput + sequences*prompt/256 // the first ones generate while others are read
	const granule = 256                           // of a stream's cells
	cells := (prompt + output + granule - 1) / granule * granule
	e, err := engine.New(m, engine.Params{
		Layout: layout, MaxSequences: sequences, NCtx: cells * sequences, Pace: -1, Cache: engine.CacheParams{HostBytes: -1},
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return generateAll(ctx, e, sequences, prompt, output)
}
