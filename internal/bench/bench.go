package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// bench measures rows and keeps what it finds.
type bench struct {
	data     *data
	path     string // of the data
	on       string // machine and versions
	model    string // the file of the model
	threads  int
	rounds   int            // of each load
	pairs    int            // of each comparison of raw speed
	foreign  float64        // share of the machine that others may use during a round
	resume   bool           // keep the rounds that are there
	settings *regexp.Regexp // the settings to measure
	log      io.Writer
}

// triesPerRound bounds the wait for a quiet machine.
const triesPerRound = 10

var errBusy = errors.New("other processes use the machine: stop them, or allow it with -foreign")

// begin returns the cell of a setting, emptied unless the run resumes.
func (b *bench) begin(row, setting string, argv []string) *cell {
	c := b.data.ensure(row, setting)
	if !b.resume {
		c.Rounds, c.Discarded = nil, 0
	}
	c.Argv, c.On = argv, b.on
	return c
}

// measure adds a round to c. Rounds during which others used the machine are
// discarded and tried again.
func (b *bench) measure(ctx context.Context, c *cell, do func(context.Context) (metrics, error)) error {
	for range triesPerRound {
		b.say("%s: %s: round %d", c.Row, c.Setting, len(c.Rounds)+1)
		meter, err := startCPUMeter()
		if err != nil {
			return err
		}
		m, err := do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.Row, c.Setting, err)
		}
		foreign, err := meter.foreign()
		if err != nil {
			return err
		}
		if foreign <= b.foreign {
			c.Rounds = append(c.Rounds, newRound(foreign, m))
			return b.data.save(b.path)
		}
		c.Discarded++
		b.say("%s: %s: discarded, others used %.0f %% of the machine", c.Row, c.Setting, 100*foreign)
	}
	return errors.Join(errBusy, b.data.save(b.path))
}

// repeat measures what is about us alone, in as many rounds as a load has.
func (b *bench) repeat(ctx context.Context, row string, argv []string, do func(context.Context) (metrics, error)) error {
	return b.fill(ctx, b.begin(row, oursName, argv), b.rounds, do)
}

// fill measures until a cell has so many rounds.
func (b *bench) fill(ctx context.Context, c *cell, rounds int, do func(context.Context) (metrics, error)) error {
	for len(c.Rounds) < rounds {
		if err := b.measure(ctx, c, do); err != nil {
			return err
		}
	}
	return nil
}

// loads measures each setting once in each round, on a server of its own; who comes
// first changes from round to round.
func (b *bench) loads(ctx context.Context, row string, settings []setting, do func(context.Context, *server) (metrics, error)) error {
	var cells []*cell
	var chosen []setting
	for _, s := range settings {
		if b.settings.MatchString(s.name) {
			cells, chosen = append(cells, b.begin(row, s.name, s.argv)), append(chosen, s)
		}
	}
	for r := range b.rounds {
		for i := range chosen {
			i = (i + r) % len(chosen)
			if len(cells[i].Rounds) > r {
				continue
			}
			err := b.measure(ctx, cells[i], func(ctx context.Context) (m metrics, err error) {
				v, err := startServer(ctx, chosen[i])
				if err != nil {
					return nil, err
				}
				defer func() { err = errors.Join(err, v.stop()) }()
				return do(ctx, v)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func newRound(foreign float64, m metrics) round {
	return round{When: time.Now().UTC().Truncate(time.Second), Foreign: foreign, Metrics: m}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
