package main

import (
	"context"
	"errors"
	"fmt"
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
	c := b.begin(row, oursName, nil)
	for len(c.Rounds) < b.rounds {
		err := b.measure(ctx, c, func(ctx context.Context) (metrics, error) {
			m := metrics{}
			for _, n := range overheadStreams {
				before := e.Stats()
				if _, err := generateAll(ctx, e, n); err != nil {
					return nil, err
				}
				after := e.Stats()
				busy, steps := after.Busy-before.Busy, float64(after.Steps-before.Steps)
				outside := busy - (after.Decode - before.Decode) - (after.Sample - before.Sample)
				m[fmt.Sprintf("outside %d", n)], m[fmt.Sprintf("step %d", n)] = outside.Seconds()*1e6/steps, busy.Seconds()*1e3/steps
				m[overheadFigure(n)] = outside.Seconds() / busy.Seconds() * 100
			}
			return m, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
