package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// BenchmarkIsolated alternates an engine in a worker process with one in this
// process and reports the median of the ratios of their tokens/s; 0.97 means that
// the worker costs 3 %. Each request gives 128 tokens.
func BenchmarkIsolated(b *testing.B) {
	for _, streams := range []int{1, 16} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			p := engine.Params{NCtx: 4096, MaxSequences: streams, NThreads: runtime.NumCPU()}
			engines := []*engine.Engine{newEngine(b, p), isolated(b, p)}
			r := tg128(engines[0])
			run := func(e *engine.Engine) time.Duration {
				begin := time.Now()
				var wg sync.WaitGroup
				for range streams {
					wg.Go(func() {
						for _, err := range e.Generate(context.Background(), r) {
							if err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				return time.Since(begin)
			}
			for _, e := range engines {
				run(e)
			}
			var ratios []float64
			for b.Loop() {
				// Each is first as often as the other one.
				slices.Reverse(engines)
				took := map[*engine.Engine]time.Duration{}
				for _, e := range engines {
					took[e] = run(e)
				}
				inside, outside := engines[0], engines[1]
				if inside.Model() == nil {
					inside, outside = outside, inside
				}
				ratios = append(ratios, took[inside].Seconds()/took[outside].Seconds())
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "isolated/in-process")
			b.ReportMetric(ratios[len(ratios)/10], "p10")
			b.ReportMetric(ratios[len(ratios)*9/10], "p90")
		})
	}
}
