package engine_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// The loads of internal/bench without HTTP: what the scheduler alone does.

func loadEngine(b *testing.B) *engine.Engine {
	return newEngine(b, engine.Params{NCtx: 8192, MaxSequences: 16, NThreads: runtime.NumCPU()})
}

// words are n tokens that are no control tokens.
func words(r *rand.Rand, n int) []llama.Token {
	tokens := make([]llama.Token, n)
	for i := range tokens {
		tokens[i] = llama.Token(1000 + r.IntN(20_000))
	}
	return tokens
}

// arrivals runs a request and returns when each of its tokens came.
func arrivals(b *testing.B, ctx context.Context, e *engine.Engine, prompt []llama.Token, n int, seen func(tokens int)) (times []time.Time) {
	r := engine.Request{Tokens: prompt, MaxTokens: n, IgnoreEOS: true, Sampling: greedy()}
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			if ctx.Err() == nil {
				b.Error(err)
			}
			return times
		}
		for range d.Tokens {
			times = append(times, time.Now())
		}
		if seen != nil {
			seen(len(times))
		}
	}
	return times
}

// between are the times between tokens that lie at least partly in a span.
func between(all [][]time.Time, from, to time.Time) (gaps []float64) {
	for _, times := range all {
		for i := 1; i < len(times); i++ {
			if times[i].After(from) && times[i-1].Before(to) {
				gaps = append(gaps, times[i].Sub(times[i-1]).Seconds())
			}
		}
	}
	slices.Sort(gaps)
	return gaps
}

// BenchmarkLoads runs 16 clients at once, 32 tokens each, whose prompts of 630
// tokens share 600 or nothing.
func BenchmarkLoads(b *testing.B) {
	for _, shared := range []bool{true, false} {
		name := map[bool]string{true: "shared", false: "different"}[shared]
		b.Run(name, func(b *testing.B) {
			e := loadEngine(b)
			r := rand.New(rand.NewPCG(1, 2))
			var walls, firsts, p99s []float64
			for b.Loop() {
				system := words(r, 600) // another one each time: cold
				all := make([][]time.Time, 16)
				var wg sync.WaitGroup
				start := time.Now()
				for i := range all {
					if !shared {
						system = words(r, 600)
					}
					prompt := append(slices.Clone(system), words(r, 30)...)
					wg.Go(func() { all[i] = arrivals(b, context.Background(), e, prompt, 32, nil) })
				}
				wg.Wait()
				walls = append(walls, time.Since(start).Seconds())
				var first []float64
				for _, times := range all {
					require.Len(b, times, 32)
					first = append(first, times[0].Sub(start).Seconds())
				}
				firsts = append(firsts, median(first))
				gaps := between(all, start, time.Now())
				p99s = append(p99s, gaps[len(gaps)*99/100])
			}
			b.ReportMetric(median(walls), "wall-s")
			b.ReportMetric(median(firsts), "first-token-p50-s")
			b.ReportMetric(median(p99s), "gap-p99-s")
		})
	}
}

// BenchmarkArrival lets a prompt of 2000 tokens come while 8 streams run, and
// reports their longest gap and the newcomer's first token.
func BenchmarkArrival(b *testing.B) {
	e := loadEngine(b)
	r := rand.New(rand.NewPCG(1, 2))
	var gaps, firsts []float64
	for b.Loop() {
		ctx, cancel := context.WithCancel(context.Background())
		all := make([][]time.Time, 8)
		var begun, wg sync.WaitGroup
		begun.Add(len(all))
		for i := range all {
			prompt := words(r, 30)
			wg.Go(func() {
				once := sync.OnceFunc(begun.Done)
				defer once()
				all[i] = arrivals(b, ctx, e, prompt, 600, func(tokens int) {
					if tokens >= 8 {
						once()
					}
				})
			})
		}
		begun.Wait()
		came := time.Now()
		first := arrivals(b, context.Background(), e, words(r, 2000), 1, nil)[0]
		cancel()
		wg.Wait()
		firsts = append(firsts, first.Sub(came).Seconds())
		gaps = append(gaps, between(all, came, first)[len(between(all, came, first))-1])
	}
	b.ReportMetric(median(gaps), "longest-gap-s")
	b.ReportMetric(median(firsts), "newcomer-s")
}

// BenchmarkEngines compares two engines of one model that work at once with one
// after the other: 1.0 means that they do not disturb each other.
func BenchmarkEngines(b *testing.B) {
	first := newEngine(b, engine.Params{NCtx: 512, MaxSequences: 1, NThreads: runtime.NumCPU()})
	second := newEngine(b, engine.Params{NCtx: 512, MaxSequences: 1, NThreads: runtime.NumCPU()})
	r := tg128(first)
	generate(b, first, r)
	generate(b, second, r)
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		generate(b, first, r)
		generate(b, second, r)
		middle := time.Now()
		var wg sync.WaitGroup
		for _, e := range []*engine.Engine{first, second} {
			wg.Go(func() { generate(b, e, r) })
		}
		wg.Wait()
		ratios = append(ratios, middle.Sub(start).Seconds()/time.Since(middle).Seconds())
	}
	b.ReportMetric(median(ratios), "together/sum")
}
