package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

var overheadStreams = []int{1, 32}

func overheadFigure(streams int) string { return fmt.Sprintf("share %d", streams) }

// overhead is what the engine's own goroutine does in a step apart from the model,
// as a share of the step's time.
func (b *bench) overhead(ctx context.Context, row string) (err error) {
	e, err := b.open(ctx, overheadStreams[len(overheadStreams)-1])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	argv := []string{"go", "test", "-run", "^$", "-bench", "^BenchmarkLoopStep$", "-benchtime", "20000x", "./llama/engine"}
	c := b.begin(row, oursName, argv)
	for len(c.Rounds) < b.rounds {
		err := b.measure(ctx, c, func(ctx context.Context) (metrics, error) {
			out, err := output(ctx, argv)
			if err != nil {
				return nil, err
			}
			m := metrics{}
			for _, n := range overheadStreams {
				loop, err := parseGoBench(out, fmt.Sprintf("BenchmarkLoopStep/sequences=%d", n))
				if err != nil {
					return nil, err
				}
				var speed float64 // tokens/s of all
				if n == 1 {
					g, err := generate(ctx, e, []llama.Token{1}, decodeTokens, &llama.SamplerParams{})
					if err != nil {
						return nil, err
					}
					speed = g.speed()
				} else if speed, err = generateAll(ctx, e, n); err != nil {
					return nil, err
				}
				step := float64(n) / speed
				m[fmt.Sprintf("loop %d", n)], m[fmt.Sprintf("step %d", n)] = loop/1e3, step*1e3
				m[overheadFigure(n)] = loop / 1e9 / step * 100
			}
			return m, nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// parseGoBench finds the ns/op of a benchmark in the output of go test -bench.
func parseGoBench(out []byte, name string) (float64, error) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[3] != "ns/op" {
			continue
		}
		got := fields[0]
		if i := strings.LastIndexByte(got, '-'); i > 0 { // GOMAXPROCS
			got = got[:i]
		}
		if got == name {
			return strconv.ParseFloat(fields[2], 64)
		}
	}
	return 0, fmt.Errorf("go test printed no %s:\n%s", name, tail(out))
}
