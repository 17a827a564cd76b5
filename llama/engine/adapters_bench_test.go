package engine_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// BenchmarkAdapterGroups is the cost of taking turns: two streams with the same adapter, and two with different ones.
func BenchmarkAdapterGroups(b *testing.B) {
	e := openFixture(b, fixture.Llama(1), withAdapters(b, engine.Params{NCtx: 1024, MaxSequences: 2}))
	for name, second := range map[string]string{"same": "one", "different": "two"} {
		b.Run(name, func(b *testing.B) {
			tokens := 0
			for b.Loop() {
				var wg sync.WaitGroup
				counts := [2]int{}
				for i, adapter := range []string{"one", second} {
					wg.Go(func() {
						a, err := collect(b, context.Background(), e, engine.Request{
							Prompt: "Once upon a time", MaxTokens: 64, IgnoreEOS: true, Sampling: greedy(), Adapters: []engine.AdapterScale{{Name: adapter, Scale: 1}},
						})
						if err != nil {
							b.Error(err)
						}
						counts[i] = len(a.tokens)
					})
				}
				wg.Wait()
				require.Equal(b, [2]int{64, 64}, counts)
				tokens += 128
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
