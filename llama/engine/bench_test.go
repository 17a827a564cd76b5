package engine_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// BenchmarkDecode is llama-bench's tg128 through the engine, sampling and text
// included: one token of prompt, 128 of output, greedy, none of them the end.
// Several streams at once share the steps.
func BenchmarkDecode(b *testing.B) {
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			e := newEngine(b, engine.Params{NCtx: 1024, MaxSequences: streams, NThreads: runtime.NumCPU()})
			r := tg128(e)
			generate(b, e, r) // touches the weights and the compute buffers
			b.ReportAllocs()
			for b.Loop() {
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
			}
			b.ReportMetric(float64(streams*r.MaxTokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkOverhead alternates the engine with the bare loop over
// llama.Context.DecodeSample that does the same work, and reports the median of
// the ratios of their times; 1.03 means that the engine costs 3 %.
func BenchmarkOverhead(b *testing.B) {
	threads := runtime.NumCPU()
	e := newEngine(b, engine.Params{NCtx: 512, MaxSequences: 1, NThreads: threads})
	r := tg128(e)
	bare, err := llama.NewContext(e.Model(), llama.ContextParams{NCtx: 512, NBatch: 512, NThreads: threads, KVUnified: true, NOutputsMax: 1})
	require.NoError(b, err)
	defer func() { require.NoError(b, bare.Close()) }()
	runtime.LockOSThread() // as the engine's goroutine, or the thread pools of OpenMP multiply
	defer runtime.UnlockOSThread()
	noEOG := llama.SamplerParams{LogitBias: map[llama.Token]float32{}}
	v := e.Model().Vocab()
	for t := range llama.Token(v.NTokens()) {
		if v.IsEOG(t) {
			noEOG.LogitBias[t] = float32(math.Inf(-1))
		}
	}
	want := bareDecode(b, bare, r, noEOG)
	got := generate(b, e, r)
	require.Equal(b, got.tokens, want, "they do not do the same")
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		generate(b, e, r)
		middle := time.Now()
		bareDecode(b, bare, r, noEOG)
		ratios = append(ratios, float64(middle.Sub(start))/float64(time.Since(middle)))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "engine/bare")
}

func tg128(e *engine.Engine) engine.Request {
	return engine.Request{Tokens: []llama.Token{e.Model().Vocab().BOS()}, MaxTokens: 128, IgnoreEOS: true, Sampling: &llama.SamplerParams{}}
}

func bareDecode(b *testing.B, c *llama.Context, r engine.Request, params llama.SamplerParams) []llama.Token {
	sampler, err := llama.NewSampler(c.Model(), params)
	require.NoError(b, err)
	defer func() { require.NoError(b, sampler.Close()) }()
	require.NoError(b, c.Memory().Clear())
	batch := llama.NewBatch(1)
	rows := []llama.SampleRow{{Sampler: sampler}}
	out := make([]llama.Token, 0, r.MaxTokens)
	token := r.Tokens[0]
	for len(out) < r.MaxTokens {
		batch.Clear()
		if _, err := batch.Add(token, llama.Pos(len(out)), 0, true); err != nil {
			b.Fatal(err)
		}
		if err := c.DecodeSample(batch, rows); err != nil {
			b.Fatal(err)
		}
		if rows[0].Err != nil {
			b.Fatal(rows[0].Err)
		}
		token = rows[0].Token
		out = append(out, token)
	}
	return out
}
