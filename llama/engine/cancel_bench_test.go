package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// crowdOf runs endless streams until stop is called, and counts their tokens.
func crowdOf(b *testing.B, e *engine.Engine, n int) (tokens *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	tokens = &atomic.Int64{}
	var begun, wg sync.WaitGroup
	begun.Add(n)
	for range n {
		wg.Go(func() {
			once := sync.OnceFunc(begun.Done)
			defer once()
			r := endless()
			r.ContextShift = true
			for d, err := range e.Generate(ctx, r) {
				if err != nil && ctx.Err() == nil {
					b.Error(err)
				}
				once()
				tokens.Add(int64(len(d.Tokens)))
			}
		})
	}
	begun.Wait()
	return tokens, func() {
		cancel()
		wg.Wait()
	}
}

// BenchmarkCancel reports, alone and with 15 neighbours, the time from the
// cancellation until the last output, and until the iterator has ended: then the
// cells are free.
func BenchmarkCancel(b *testing.B) {
	for _, neighbours := range []int{0, 15} {
		b.Run(fmt.Sprintf("neighbours=%d", neighbours), func(b *testing.B) {
			e := newEngine(b, engine.Params{NCtx: 8192, MaxSequences: 16, NThreads: runtime.NumCPU()})
			_, stop := crowdOf(b, e, neighbours)
			defer stop()
			var silent, free []float64
			for b.Loop() {
				ctx, cancel := context.WithCancel(context.Background())
				var at, last time.Time
				tokens := 0
				for d, err := range e.Generate(ctx, endless()) {
					if err != nil {
						require.Equal(b, context.Canceled, err)
						break
					}
					last = time.Now()
					if tokens += len(d.Tokens); tokens > 4 && at.IsZero() {
						at = time.Now().Add(time.Duration(len(free)%10) * time.Millisecond) // anywhere in a step
						time.AfterFunc(time.Until(at), cancel)
					}
				}
				free = append(free, max(0, time.Since(at).Seconds()*1e3))
				silent = append(silent, max(0, last.Sub(at).Seconds()*1e3))
				cancel()
			}
			for name, v := range map[string][]float64{"silent": silent, "free": free} {
				slices.Sort(v)
				b.ReportMetric(v[len(v)/2], name+"-p50-ms")
				b.ReportMetric(v[len(v)*99/100], name+"-p99-ms")
			}
		})
	}
}

// BenchmarkCancelCost is what 7 streams keep of their speed while another client
// cancels 100 requests a second, by pairs of spans.
func BenchmarkCancelCost(b *testing.B) {
	e := newEngine(b, engine.Params{NCtx: 8192, MaxSequences: 8, NThreads: runtime.NumCPU()})
	tokens, stop := crowdOf(b, e, 7)
	defer stop()
	span := func(cancelling bool) float64 {
		var wg sync.WaitGroup
		before, start := tokens.Load(), time.Now()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for time.Since(start) < 2*time.Second {
			<-tick.C
			if !cancelling {
				continue
			}
			ctx, cancel := context.WithCancel(context.Background())
			wg.Go(func() {
				for range e.Generate(ctx, endless()) {
				}
			})
			time.AfterFunc(5*time.Millisecond, cancel)
		}
		wg.Wait()
		return float64(tokens.Load()-before) / time.Since(start).Seconds()
	}
	var ratios []float64
	for b.Loop() {
		quiet := span(false)
		ratios = append(ratios, span(true)/quiet)
	}
	b.ReportMetric(median(ratios), "kept")
}
