package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// decodeRate runs so many requests with random prompts at once and gives the tokens/s while all of them generate.
func decodeRate(b *testing.B, e *engine.Engine, streams, prompt, output int, scope string) float64 {
	r := rand.New(rand.NewPCG(uint64(streams), uint64(prompt)))
	vocab := e.Model().Vocab()
	times := make([][]time.Time, streams) // of each token
	var all sync.WaitGroup
	for s := range streams {
		req := engine.Request{
			// the first ones generate while others are read
			MaxTokens: output + streams*prompt/256, IgnoreEOS: true, Sampling: &llama.SamplerParams{}, CacheScope: fmt.Sprint(scope, s),
		}
		for range prompt {
			req.Tokens = append(req.Tokens, llama.Token(r.IntN(vocab.NTokens()-1000)+500))
		}
		all.Go(func() {
			for d, err := range e.Generate(context.Background(), req) {
				if err != nil {
					b.Error(err)
					return
				}
				now := time.Now()
				for range d.Tokens {
					times[s] = append(times[s], now)
				}
			}
		})
	}
	all.Wait()
	require.False(b, b.Failed())
	from, to := times[0][0], times[0][len(times[0])-1]
	for _, t := range times {
		if t[0].After(from) {
			from = t[0]
		}
		if last := t[len(t)-1]; last.Before(to) {
			to = last
		}
	}
	n := 0
	for _, t := range times {
		for _, at := range t {
			if at.After(from) && !at.After(to) {
				n++
			}
		}
	}
	require.True(b, to.After(from), "the first request ended before the last one began to generate")
	return float64(n) / to.Sub(from).Seconds()
}
