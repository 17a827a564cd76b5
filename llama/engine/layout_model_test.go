package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestLayouts: settings of the context that change what is where, and not what is computed, give the same tokens, alone and
// among others that come and go.
func TestLayouts(t *testing.T) {
	ctx := context.Background()
	m, err := llama.LoadModel(ctx, fixture.Llama(2).Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	const requests, most = 24, 60
	base := engine.Params{NCtx: 8192, MaxSequences: 4, NThreads: 1, FlashAttn: llama.FlashAttnOff, TypeK: llama.KVF32, TypeV: llama.KVF32}
	request := func(i int) engine.Request {
		r := engine.Request{MaxTokens: 1 + i*7%most, IgnoreEOS: true, Sampling: &llama.SamplerParams{Seed: uint32(i), Temperature: float32(i % 3)}}
		for k := range 3 + i*11%40 {
			r.Tokens = append(r.Tokens, llama.Token(260+(i/2+k)%90)) // two of them begin alike
		}
		return r
	}
	var want [][]llama.Token
	alone, err := engine.New(m, base)
	require.NoError(t, err)
	for i := range requests {
		want = append(want, generate(t, alone, request(i)).tokens)
	}
	require.NoError(t, alone.Close())

	for name, change := range map[string]func(p *engine.Params){
		"unified":        func(*engine.Params) {},
		"streams":        func(p *engine.Params) { p.Layout = engine.LayoutStreams },
		"nothing stays":  func(p *engine.Params) { p.Layout, p.Cache.HostBytes = engine.LayoutStreams, -1 },
		"threads":        func(p *engine.Params) { p.NThreads, p.NThreadsBatch = 1, 2 },
		"one processor":  func(p *engine.Params) { p.NThreads, p.Pool = 2, llama.ThreadPool{CPUs: []int{0}, StrictCPU: true} },
		"a low priority": func(p *engine.Params) { p.Pool.Priority = llama.PriorityLow },
		"small batches":  func(p *engine.Params) { p.NBatch, p.NUBatch = 16, 8 },
		"on the CPU":     func(p *engine.Params) { p.NoKVOffload, p.NoOpOffload, p.SWAFull = true, true, true },
	} {
		t.Run(name, func(t *testing.T) {
			p := base
			change(&p)
			e, err := engine.New(m, p)
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			var all sync.WaitGroup
			for i := range requests {
				all.Go(func() {
					a, err := collect(t, ctx, e, request(i))
					if err != nil || fmt.Sprint(a.tokens) != fmt.Sprint(want[i]) {
						t.Errorf("request %d: %v\n got %v\nwant %v", i, err, a.tokens, want[i])
					}
				})
			}
			all.Wait()
			requireIdle(t, e)
		})
	}
}

func TestEngineRefusesContexts(t *testing.T) {
	m, err := llama.LoadModel(context.Background(), fixture.Llama(1).Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	var invalid *engine.ErrInvalid
	_, err = engine.New(m, engine.Params{Layout: 2})
	require.ErrorAs(t, err, &invalid)
	for name, p := range map[string]engine.Params{
		"a quantised V without flash attention": {TypeV: llama.KVQ8_0, FlashAttn: llama.FlashAttnOff},
		"a type that is none":                   {TypeK: 100},
		"threads":                               {NThreadsBatch: -1},
		"a processor that cannot be":            {Pool: llama.ThreadPool{CPUs: []int{512}}},
		"strict about nothing":                  {Pool: llama.ThreadPool{StrictCPU: true}},
		"a priority that is none":               {Pool: llama.ThreadPool{Priority: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			p.NCtx, p.Logger = 256, slog.New(slog.DiscardHandler)
			_, err := engine.New(m, p)
			require.ErrorIs(t, err, llama.ErrInvalidParam)
		})
	}
	if runtime.GOOS == "linux" {
		_, err = engine.New(m, engine.Params{NCtx: 256, Pool: llama.ThreadPool{CPUs: []int{511}}})
		require.ErrorIs(t, err, llama.ErrUnsupported, "the system has no such processor")
	}
}
