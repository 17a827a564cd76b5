package engine_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// defaultModel is shared by the tests and ends with the process.
var defaultModel = sync.OnceValues(func() (*llama.Model, error) { return load("") })

func load(ref string) (*llama.Model, error) {
	m, err := hub.Pull(context.Background(), ref, hub.Options{})
	if err != nil {
		return nil, err
	}
	return llama.LoadModel(context.Background(), m.Path, llama.ModelParams{NGPULayers: llama.NoLayers})
}

func newEngine(t testing.TB, p engine.Params) *engine.Engine {
	t.Helper()
	m, err := defaultModel()
	require.NoError(t, err)
	if p.NCtx == 0 {
		p.NCtx = 1024
	}
	if p.NThreads == 0 {
		// Two threads that wait for each other crawl on a machine that is busy
		// with the tests of other packages.
		p.NThreads = 1
	}
	e, err := engine.New(m, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

func greedy() *llama.SamplerParams { return &llama.SamplerParams{} }

// answer is what a whole request gave.
type answer struct {
	text     string
	tokens   []llama.Token
	logprobs []engine.TokenLogprobs
	result   *engine.Result
	deltas   int
}

// collect runs a request to its end and checks what holds for every one.
func collect(t testing.TB, ctx context.Context, e *engine.Engine, r engine.Request) (answer, error) {
	t.Helper()
	var a answer
	for d, err := range e.Generate(ctx, r) {
		if err != nil {
			require.Empty(t, d.Text)
			require.Empty(t, d.Tokens)
			a.result = d.Result
			return a, err
		}
		require.Nil(t, a.result, "a delta after the last one")
		a.deltas++
		a.text += d.Text
		a.tokens = append(a.tokens, d.Tokens...)
		a.logprobs = append(a.logprobs, d.Logprobs...)
		a.result = d.Result
	}
	require.NotNil(t, a.result, "no result")
	require.Len(t, a.tokens, a.result.Usage.Output)
	return a, nil
}

func generate(t testing.TB, e *engine.Engine, r engine.Request) answer {
	t.Helper()
	a, err := collect(t, context.Background(), e, r)
	require.NoError(t, err)
	return a
}

// requireIdle checks that nothing of the requests before is left.
func requireIdle(t testing.TB, e *engine.Engine) {
	t.Helper()
	s := e.Stats()
	require.Zero(t, s.Running)
	require.Zero(t, s.Waiting)
	require.Zero(t, s.CellsReserved)
}

const france = "The capital of France is"

func TestGenerateGreedy(t *testing.T) {
	e := newEngine(t, engine.Params{})
	a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 8, Sampling: greedy()})
	require.Contains(t, a.text, "Paris")
	require.Equal(t, engine.FinishLength, a.result.FinishReason)
	prompt, err := e.Model().Vocab().Tokenize(france, true, false)
	require.NoError(t, err)
	require.Equal(t, engine.Usage{Prompt: len(prompt), Computed: len(prompt), Output: 8}, a.result.Usage)
	require.Positive(t, a.result.Timings.Prompt)
	require.Positive(t, a.result.Timings.Decode)
	require.GreaterOrEqual(t, a.result.Timings.Queue, time.Duration(0))
	requireIdle(t, e)

	b := generate(t, e, engine.Request{Tokens: prompt, MaxTokens: 8, Sampling: greedy()})
	require.Equal(t, a.tokens, b.tokens)
}

func TestGenerateSeed(t *testing.T) {
	e := newEngine(t, engine.Params{})
	run := func(seed uint32) answer {
		p := llama.SamplerParams{Seed: seed, Temperature: 1.5}
		return generate(t, e, engine.Request{Prompt: "Once upon a time", MaxTokens: 12, Sampling: &p})
	}
	a, b := run(42), run(42)
	require.Equal(t, uint32(42), a.result.Seed)
	require.Equal(t, a.tokens, b.tokens)

	random := run(llama.RandomSeed)
	require.NotEqual(t, llama.RandomSeed, random.result.Seed)
	require.Equal(t, random.tokens, run(random.result.Seed).tokens)
	require.NotEqual(t, random.result.Seed, run(llama.RandomSeed).result.Seed)
}

func TestGenerateEndsAtEOG(t *testing.T) {
	e := newEngine(t, engine.Params{})
	prompt := "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
	a := generate(t, e, engine.Request{Prompt: prompt, ParseSpecial: true, Sampling: greedy(), MaxTokens: 200})
	require.Equal(t, engine.FinishStop, a.result.FinishReason)
	require.True(t, e.Model().Vocab().IsEOG(a.tokens[len(a.tokens)-1]))
	require.NotContains(t, a.text, "<|im_end|>")

	n := len(a.tokens) + 3
	ignoring := generate(t, e, engine.Request{Prompt: prompt, ParseSpecial: true, Sampling: greedy(), MaxTokens: n, IgnoreEOS: true})
	require.Equal(t, engine.FinishLength, ignoring.result.FinishReason)
	require.Len(t, ignoring.tokens, n)
}

func TestGenerateStopStrings(t *testing.T) {
	e := newEngine(t, engine.Params{})
	whole := generate(t, e, engine.Request{Prompt: france, MaxTokens: 24, Sampling: greedy()}).text
	require.Greater(t, len(whole), 20)
	tests := []struct{ name, stop string }{
		{"within one token", whole[8:9]},
		{"across tokens", whole[9:19]},
		{"at the beginning", whole[:4]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 24, Sampling: greedy(), Stop: []string{"never in the text", tt.stop}})
			require.Equal(t, engine.FinishStop, a.result.FinishReason)
			want, _, _ := strings.Cut(whole, tt.stop)
			require.Equal(t, want, a.text)
			requireIdle(t, e)
		})
	}
	t.Run("unfinished at the end is shown", func(t *testing.T) {
		a := generate(t, e, engine.Request{Prompt: france, MaxTokens: 24, Sampling: greedy(), Stop: []string{whole[len(whole)-3:] + "…"}})
		require.Equal(t, engine.FinishLength, a.result.FinishReason)
		require.Equal(t, whole, a.text)
	})
}

func TestGenerateManyAtOnce(t *testing.T) {
	const clients, each = 8, 12
	e := newEngine(t, engine.Params{MaxSequences: 3})
	alone := generate(t, e, engine.Request{Prompt: france, MaxTokens: each, Sampling: greedy()})
	answers := make([]answer, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			answers[i], _ = collect(t, context.Background(), e, engine.Request{Prompt: france, MaxTokens: each, Sampling: greedy(), IgnoreEOS: true})
		})
	}
	wg.Wait()
	for i, a := range answers {
		require.NotNil(t, a.result, "request %d", i)
		require.Equal(t, engine.FinishLength, a.result.FinishReason)
		require.Len(t, a.tokens, each)
		// The logits of another batch shape differ in their last bits; the
		// first token of this prompt wins by a wide margin.
		require.Equal(t, alone.tokens[0], a.tokens[0])
	}
	s := e.Stats()
	require.Equal(t, uint64(clients+1), s.Finished)
	require.Equal(t, uint64((clients+1)*each), s.OutputTokens)
	require.Less(t, s.Steps, uint64((clients+1)*each), "the requests share steps")
	requireIdle(t, e)
}

func TestContextLimits(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 1})
	cells := e.Stats().Cells
	word := generate(t, e, engine.Request{Prompt: france, MaxTokens: 1, Sampling: greedy()}).tokens[0]
	prompt := func(n int) []llama.Token { return slices.Repeat([]llama.Token{word}, n) }
	steps := e.Stats().Steps
	_, err := collect(t, context.Background(), e, engine.Request{Tokens: prompt(cells + 1)})
	var full *llama.ErrContextFull
	require.ErrorAs(t, err, &full)
	require.Equal(t, llama.ErrContextFull{Have: cells + 1, Max: cells}, *full)
	require.Equal(t, steps, e.Stats().Steps, "nothing is computed")

	a := generate(t, e, engine.Request{Tokens: prompt(cells), Sampling: greedy(), IgnoreEOS: true})
	require.Equal(t, engine.FinishContext, a.result.FinishReason)
	require.Len(t, a.tokens, 1)

	a = generate(t, e, engine.Request{Tokens: prompt(cells - 5), Sampling: greedy(), IgnoreEOS: true, MaxTokens: 50})
	require.Equal(t, engine.FinishContext, a.result.FinishReason)
	require.Len(t, a.tokens, 6)
	requireIdle(t, e)
}

// TestCellsAreShared runs more than fits: all of it ends well.
func TestCellsAreShared(t *testing.T) {
	e := newEngine(t, engine.Params{NCtx: 256, MaxSequences: 4})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			a, err := collect(t, context.Background(), e, engine.Request{Prompt: france, MaxTokens: 100, Sampling: greedy(), IgnoreEOS: true})
			if err != nil || len(a.tokens) != 100 {
				t.Errorf("%d tokens, error %v", len(a.tokens), err)
			}
		})
	}
	wg.Wait()
	require.Positive(t, e.Stats().Preempted)
	requireIdle(t, e)
}
