package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// noise is how far logits of exact arithmetic are apart where the batches have
// other shapes: another order of additions.
const noise = 1e-3

// TestInterleavings: whatever arrives, is cancelled, shares, waits and is
// preempted beside it, a request gets what it gets alone.
func TestInterleavings(t *testing.T) {
	var preempted, cached uint64
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 14))
			p := engine.Params{NCtx: 256, NBatch: 16 + r.IntN(64), MaxSequences: 2 + r.IntN(5), Pace: time.Duration(r.IntN(2)) * time.Microsecond}
			p.Cache.HostBytes = [...]int64{-1, 0, 20_000}[r.IntN(3)]
			if r.IntN(2) == 0 {
				p.MaxCellsPerCaller = 150
			}
			e := openFixture(t, fixture.Llama(2).WithSeed(seed), p)
			beginnings := [][]llama.Token{{1}, randomTokens(r, 20), randomTokens(r, 50)}
			requireInterleaved(t, e, r, 30, func() engine.Request {
				b := beginnings[r.IntN(len(beginnings))]
				return engine.Request{
					Tokens: slices.Concat(b, randomTokens(r, 1+r.IntN(20))), MaxTokens: 1 + r.IntN(60), IgnoreEOS: true, Sampling: greedy(),
					Priority: r.IntN(5) - 2, Caller: string(rune('a' + r.IntN(3))), CacheScope: string(rune('a' + r.IntN(2))),
				}
			})
			preempted, cached = preempted+e.Stats().Preempted, cached+e.Stats().CachedTokens
		})
	}
	require.Positive(t, preempted)
	require.Positive(t, cached)
}

// requireInterleaved runs n requests that arrive, and some of which are cancelled, at random: each gets what it gets alone, and
// nothing of them is left.
func requireInterleaved(t *testing.T, e *engine.Engine, r *rand.Rand, n int, request func() engine.Request) {
	t.Helper()
	var mu sync.Mutex
	var outputs [][]llama.Token // with their prompts
	var prompts []int
	var wg sync.WaitGroup
	for range n {
		req := request()
		prompt := req.Tokens
		arrives, cancels := time.Duration(r.IntN(5000))*time.Microsecond, time.Duration(r.IntN(20000))*time.Microsecond
		cancelled := r.IntN(4) == 0
		wg.Go(func() {
			time.Sleep(arrives)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if cancelled {
				time.AfterFunc(cancels, cancel)
			}
			out := prompt[:len(prompt):len(prompt)]
			for d, err := range e.Generate(ctx, req) {
				if err != nil && (!cancelled || !errors.Is(err, context.Canceled)) {
					t.Error(err)
				}
				out = append(out, d.Tokens...)
			}
			if n := len(out) - len(prompt); n != req.MaxTokens && !cancelled {
				t.Errorf("%d tokens of %d", n, req.MaxTokens)
			}
			mu.Lock()
			defer mu.Unlock()
			outputs, prompts = append(outputs, out), append(prompts, len(prompt))
		})
	}
	wg.Wait()
	requireIdle(t, e)
	requireAsAlone(t, e.Model(), outputs, prompts)
}

// requireAsAlone computes each output again, alone: at each position the model's
// first choice is the token, but for ties within the noise, at most 1 % of all.
func requireAsAlone(t *testing.T, m *llama.Model, outputs [][]llama.Token, prompts []int) {
	t.Helper()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 512, NThreads: 1, FlashAttn: llama.FlashAttnOff})
	require.NoError(t, err)
	defer c.Close()
	batch := llama.NewBatch(512)
	positions, ties := 0, 0
	for i, out := range outputs {
		require.NoError(t, c.Memory().Clear())
		batch.Clear()
		for pos, tok := range out {
			_, err := batch.Add(tok, llama.Pos(pos), 0, pos >= prompts[i]-1)
			require.NoError(t, err)
		}
		require.NoError(t, c.Decode(batch))
		for pos := prompts[i]; pos < len(out); pos++ {
			logits, err := c.Logits(pos - 1)
			require.NoError(t, err)
			best := llama.NullToken
			for tok := range llama.Token(len(logits)) {
				if !m.Vocab().IsEOG(tok) && (best < 0 || logits[tok] > logits[best]) {
					best = tok
				}
			}
			if positions++; best != out[pos] {
				ties++
				require.InDelta(t, logits[best], logits[out[pos]], 2*noise, "output %d, token %d of %d", i, pos-prompts[i], len(out)-prompts[i])
			}
		}
	}
	require.Positive(t, positions)
	require.LessOrEqual(t, ties, positions/100)
}

func randomTokens(r *rand.Rand, n int) []llama.Token {
	tokens := make([]llama.Token, n)
	for i := range tokens {
		tokens[i] = llama.Token(3 + r.IntN(256))
	}
	return tokens
}
