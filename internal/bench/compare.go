package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// side is one of a comparison. Each run gives figures of which more is better.
type side struct {
	name string
	argv []string
	run  func(context.Context) (metrics, error)
}

// pair names a cell of a comparison: one figure against one other side.
func pair(figure, against string) string { return figure + " against " + against }

// rest lets another engine's threads of this process end (100 ms after its last
// step): while there are more of them than processors, OpenMP lets none spin.
func rest() { time.Sleep(300 * time.Millisecond) }

// compare runs our side and the others in turn, as often as pairs are wanted, and
// keeps of each figure the ratio of ours to each other side's that has it.
func (b *bench) compare(ctx context.Context, row string, ours side, others ...side) error {
	sides := append([]side{ours}, others...)
	discarded := 0
	cells := map[string]*cell{}
	for i := 0; b.missing(cells); i++ {
		b.say("%s: pair %d (%d discarded)", row, i+1-discarded, discarded)
		meter, err := startCPUMeter()
		if err != nil {
			return err
		}
		got := make([]metrics, len(sides))
		for j := range sides {
			j = (i + j) % len(sides) // who goes first finds the machine cooler
			rest()
			if got[j], err = sides[j].run(ctx); err != nil {
				return fmt.Errorf("%s: %s: %w", row, sides[j].name, err)
			}
		}
		foreign, err := meter.foreign()
		if err != nil {
			return err
		}
		counts := foreign <= b.foreign
		if !counts {
			if discarded++; discarded > triesPerRound*b.pairs {
				return errBusy
			}
		}
		for j, other := range others {
			for _, figure := range slices.Sorted(maps.Keys(got[j+1])) {
				x, ok := got[0][figure]
				if !ok {
					continue
				}
				name := pair(figure, other.name)
				c := cells[name]
				if c == nil {
					c = b.begin(row, name, other.argv)
					cells[name] = c
				}
				if !counts {
					c.Discarded++
					continue
				}
				y := got[j+1][figure]
				c.Rounds = append(c.Rounds, newRound(foreign, metrics{"ratio": x / y, "ours": x, "theirs": y}))
			}
		}
		if err := b.data.save(b.path); err != nil {
			return err
		}
	}
	return nil
}

// missing says whether a cell lacks pairs.
func (b *bench) missing(cells map[string]*cell) bool {
	for _, c := range cells {
		if len(c.Rounds) >= b.pairs {
			return false
		}
	}
	return true
}
