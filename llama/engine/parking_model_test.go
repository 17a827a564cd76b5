package engine_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// memories are models with every kind of memory.
var memories = []struct {
	name  string
	file  *fixture.File
	plain bool
}{
	{"plain", fixture.Llama(2), true},
	{"sliding window", fixture.Gemma3(), false},
	{"recurrent", fixture.Mamba(), false},
	{"hybrid short convolution", fixture.LFM2(), false},
	{"hybrid", fixture.Jamba(), false},
}

func loadFixture(t testing.TB, f *fixture.File) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), f.Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func startEngine(t testing.TB, m *llama.Model, p engine.Params) *engine.Engine {
	t.Helper()
	p.NThreads = 1
	e, err := engine.New(m, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// letters are n tokens that a fixture's vocabulary has, other ones for each seed.
func letters(n, seed int) []llama.Token {
	out := make([]llama.Token, n)
	for i := range out {
		seed = (seed*1103515245 + 12345) & 0x7fffffff
		out[i] = llama.Token(3 + (seed>>8)%200)
	}
	return out
}

// TestParkedGoesOn: what another request has driven out of the context goes on where it was, and gives what a context
// that never parked gives.
func TestParkedGoesOn(t *testing.T) {
	for _, mem := range memories {
		t.Run(mem.name, func(t *testing.T) {
			m := loadFixture(t, mem.file)
			e := startEngine(t, m, engine.Params{MaxSequences: 2})
			fresh := startEngine(t, m, engine.Params{MaxSequences: 2, Cache: engine.CacheParams{HostBytes: -1}})
			ask := func(prompt []llama.Token, cached int) []llama.Token {
				t.Helper()
				r := engine.Request{Tokens: prompt, MaxTokens: 8, IgnoreEOS: true, Sampling: greedy()}
				got, want := generate(t, e, r), generate(t, fresh, r)
				require.Equal(t, want.tokens, got.tokens)
				require.Equal(t, engine.Usage{Prompt: len(prompt), Cached: cached, Computed: len(prompt) - cached, Output: 8}, got.result.Usage)
				return slices.Concat(prompt, got.tokens)
			}
			a := ask(letters(120, 1), 0)
			ask(letters(100, 2), 0)
			require.Positive(t, e.Stats().Parked)
			one := e.Stats().ParkedBytes
			a = ask(append(a, letters(20, 3)...), len(a)-1)
			ask(letters(90, 4), 0)
			require.Less(t, e.Stats().ParkedBytes, 4*one, "what is there is not parked again")
			branch, cached := slices.Concat(a[:60], letters(20, 5)), 0
			if mem.plain {
				cached = 60
			}
			ask(branch, cached)
			ask(a, len(a)-1)
			require.Zero(t, fresh.Stats().Parked)
			require.Zero(t, fresh.Stats().Kept)
			requireIdle(t, e)
		})
	}
}

// requireSame fails where tokens are not what a request gives alone. Sums of other batches differ in their last bits: where two
// tokens are as likely as each other within the noise, either may come, and what follows is another text. It returns how many
// positions it compared, and whether such a tie ended it.
func requireSame(t *testing.T, alone *engine.Engine, r engine.Request, tokens []llama.Token) (compared int, tie bool) {
	t.Helper()
	r.Logprobs = 3 // the chosen token and the two likeliest
	want := generate(t, alone, r)
	require.Len(t, tokens, len(want.tokens))
	for i, token := range tokens {
		if token == want.tokens[i] {
			continue
		}
		top := want.logprobs[i].Top
		require.Equal(t, token, top[1].Token, "token %d of %v is not %v", i, tokens, want.tokens)
		require.InDelta(t, top[0].Logprob, top[1].Logprob, noise, "token %d of %v is not %v", i, tokens, want.tokens)
		return i + 1, true
	}
	return len(tokens), false
}

// TestSharedByEveryMemory: simultaneous requests compute what they have in common once, later ones not at all, whatever the
// memory is, and each gives what it gives alone, but for near ties at 1 % of positions at most; with the window passed many times
// over.
func TestSharedByEveryMemory(t *testing.T) {
	const shared, tail, sharers, output = 90, 12, 8, 60
	for _, mem := range memories {
		t.Run(mem.name, func(t *testing.T) {
			m := loadFixture(t, mem.file)
			e := startEngine(t, m, engine.Params{NCtx: 2048, MaxSequences: sharers})
			fresh := startEngine(t, m, engine.Params{NCtx: 512, MaxSequences: 1, Cache: engine.CacheParams{HostBytes: -1}})
			begin := letters(shared, 7)
			positions, ties := 0, 0
			for round := range 2 {
				answers := make([]answer, sharers)
				var wg sync.WaitGroup
				for i := range sharers {
					wg.Go(func() {
						r := engine.Request{Tokens: slices.Concat(begin, letters(tail, 100*round+i)), MaxTokens: output, IgnoreEOS: true, Sampling: greedy()}
						var err error
						if answers[i], err = collect(t, t.Context(), e, r); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				computed := 0
				for i, a := range answers {
					r := engine.Request{Tokens: slices.Concat(begin, letters(tail, 100*round+i)), MaxTokens: output, IgnoreEOS: true, Sampling: greedy()}
					compared, tie := requireSame(t, fresh, r, a.tokens)
					positions += compared
					if tie {
						ties++
					}
					require.Equal(t, a.result.Usage.Prompt, a.result.Usage.Cached+a.result.Usage.Computed)
					computed += a.result.Usage.Computed
				}
				once := (1 - round) * shared
				if !mem.plain {
					once *= 2 // the first may be through before it is known what others share
				}
				require.LessOrEqual(t, computed, once+sharers*(tail+1), "round %d", round)
			}
			require.LessOrEqual(t, ties, positions/100)
			requireIdle(t, e)
		})
	}
}
