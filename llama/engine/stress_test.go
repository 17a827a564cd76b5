package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// TestStress mixes everything that ends a request, in too little memory: each
// request ends as it was made to, and nothing is left.
func TestStress(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 4, MaxQueue: 100, NBatch: 32})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 0))
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond) // arrivals are spread
			req := engine.Request{Prompt: france, MaxTokens: 1 + r.IntN(12), IgnoreEOS: true, Sampling: greedy()}
			switch i % 4 {
			case 0: // runs to its end
				a, err := collect(t, ctx, e, req)
				if err != nil || a.result.FinishReason != engine.FinishLength || len(a.tokens) != req.MaxTokens {
					t.Errorf("request %d: %d tokens of %d, error %v", i, len(a.tokens), req.MaxTokens, err)
				}
			case 1: // its consumer leaves
				for _, err := range e.Generate(ctx, req) {
					if err != nil {
						t.Errorf("request %d: %v", i, err)
					}
					break
				}
			case 2: // its context ends at any time
				time.AfterFunc(time.Duration(r.IntN(300))*time.Millisecond, cancel)
				req.MaxTokens = 0
				a, err := collect(t, ctx, e, req)
				if full := err == nil && a.result.FinishReason == engine.FinishContext; !full && !errors.Is(err, context.Canceled) {
					t.Errorf("request %d: error %v", i, err)
				}
			case 3: // a stop string
				req.Stop = []string{"a", "e"}
				req.MaxTokens = 0
				a, err := collect(t, ctx, e, req)
				if err != nil || a.result.FinishReason != engine.FinishStop {
					t.Errorf("request %d: %q, error %v", i, a.text, err)
				}
			}
		})
	}
	wg.Wait()
	requireIdle(t, e)
	s := e.Stats()
	require.Equal(t, uint64(40), s.Finished+s.Cancelled)
	require.Zero(t, s.Failed+s.Rejected)
}
