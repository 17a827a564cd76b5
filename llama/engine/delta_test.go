package engine_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// allocsPerDelta generates so many tokens and counts what every goroutine allocates meanwhile, without what a request costs.
func allocsPerDelta(t testing.TB, e *engine.Engine, tokens int) (allocs float64, deltas int) {
	run := func(tokens int) (uint64, int) {
		r := engine.Request{Tokens: []llama.Token{1}, MaxTokens: tokens, IgnoreEOS: true, Sampling: &llama.SamplerParams{}, CacheScope: t.Name()}
		var before, after runtime.MemStats
		n := 0
		runtime.ReadMemStats(&before)
		for _, err := range e.Generate(context.Background(), r) {
			require.NoError(t, err)
			n++
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs, n
	}
	run(tokens)
	few, fewDeltas := run(tokens / 3)
	many, manyDeltas := run(tokens)
	return (float64(many) - float64(few)) / float64(manyDeltas-fewDeltas), manyDeltas - fewDeltas
}

// TestDeltaAllocates: its text and its tokens, and now and then a buffer that grows.
func TestDeltaAllocates(t *testing.T) {
	m, err := llama.LoadModel(context.Background(), fixture.Llama(1).With("llama.context_length", uint32(2048)).Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	e, err := engine.New(m, engine.Params{NCtx: 2048, MaxSequences: 1, NThreads: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	least := math.Inf(1)
	for tries := 0; tries < 10 && least >= 2.2; tries++ {
		if allocs, deltas := allocsPerDelta(t, e, 2000); deltas > 40 { // fewer, where a busy machine has merged them, tell nothing
			least = min(least, allocs)
		}
	}
	require.Positive(t, least)
	require.Less(t, least, 2.2, "the runtime's own allocations are counted too")
}

// BenchmarkStepOverhead reports what share of the time with work to do was neither llama_decode's nor a sampler's.
func BenchmarkStepOverhead(b *testing.B) {
	for _, streams := range []int{1, 4, 16, 32} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			e := newEngine(b, engine.Params{NCtx: 256 * streams, MaxSequences: streams, NThreads: runtime.NumCPU()})
			decodeRate(b, e, streams, 8, 64, "warm")
			before := e.Stats()
			for b.Loop() {
				decodeRate(b, e, streams, 8, 64, "measured")
			}
			after := e.Stats()
			busy := after.Busy - before.Busy
			b.ReportMetric(100*(1-float64(after.Decode-before.Decode+after.Sample-before.Sample)/float64(busy)), "overhead-%")
			b.ReportMetric(100*float64(after.Sample-before.Sample)/float64(busy), "sampling-%")
			b.ReportMetric(float64(after.OutputTokens-before.OutputTokens)/busy.Seconds(), "tokens/s")
		})
	}
}
