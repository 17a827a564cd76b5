package llama_test

import (
	"math"
	"slices"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func loadFixture(t testing.TB, f *fixture.File) *llama.Model {
	t.Helper()
	m, err := llama.LoadModel(t.Context(), f.Write(t), llama.ModelParams{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// Every kind of decoder: the logits depend on the whole text, and are those of a decode in other steps.
func TestDecoderFixtures(t *testing.T) {
	target, draft := fixture.Speculative()
	for name, c := range map[string]struct {
		file                *fixture.File
		window              int
		recurrent, isHybrid bool
	}{
		"llama":  {file: fixture.Llama(2)},
		"moe":    {file: fixture.MoE()},
		"gemma3": {file: fixture.Gemma3(), window: fixture.Window},
		"mamba":  {file: fixture.Mamba(), recurrent: true},
		"lfm2":   {file: fixture.LFM2(), isHybrid: true},
		"jamba":  {file: fixture.Jamba(), isHybrid: true},
		"target": {file: target},
		"draft":  {file: draft},
	} {
		t.Run(name, func(t *testing.T) {
			m := loadFixture(t, c.file)
			require.Equal(t, c.window, m.NSWA())
			require.Equal(t, c.recurrent, m.IsRecurrent())
			require.Equal(t, c.isHybrid, m.IsHybrid())
			require.False(t, m.HasEncoder())
			toks, err := m.Vocab().Tokenize("The quick brown fox jumps over the lazy dog, twice.", true, false)
			require.NoError(t, err)
			lctx := newContext(t, m, llama.ContextParams{NCtx: 256, FlashAttn: llama.FlashAttnOff})
			last := func(toks []llama.Token, step int) []float32 {
				return allLogits(t, lctx, toks, step)[len(toks)-1]
			}
			whole := last(toks, len(toks))
			require.Less(t, farthest(whole, last(toks, 7)), 1e-3)
			other := slices.Clone(toks)
			other[2] = 300
			require.Greater(t, farthest(whole, last(other, len(toks))), 1e-3, "an early token changes nothing")
		})
	}
}

func farthest(a, b []float32) float64 {
	far := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		far = max(far, d)
	}
	return far
}

func TestEncoderFixtures(t *testing.T) {
	for name, c := range map[string]struct {
		file    *fixture.File
		encoder bool // llama.cpp calls no model of an encoder alone so
		tokens  int  // of "hi, you"
	}{
		"bert mean": {fixture.BERT(fixture.PoolingMean), false, 8},
		"bert cls":  {fixture.BERT(fixture.PoolingCLS), false, 8},
		"reranker":  {fixture.Reranker(), false, 8},
		"t5":        {fixture.T5(), true, 9},
		"decoder":   {fixture.CausalReranker(), false, 8},
	} {
		t.Run(name, func(t *testing.T) {
			m := loadFixture(t, c.file)
			require.Equal(t, c.encoder, m.HasEncoder())
			require.True(t, m.HasDecoder())
			toks, err := m.Vocab().Tokenize("hi, you", true, false)
			require.NoError(t, err)
			require.Len(t, toks, c.tokens)
			text, err := m.Vocab().Detokenize(toks, true, false)
			require.NoError(t, err)
			require.Contains(t, text, "you")
		})
	}
}

// The draft's first choice is the target's for most texts.
func TestSpeculativeFixturesAgree(t *testing.T) {
	target, draft := fixture.Speculative()
	big, small := loadFixture(t, target), loadFixture(t, draft)
	toks, err := big.Vocab().Tokenize("The quick brown fox jumps over the lazy dog, twice.", true, false)
	require.NoError(t, err)
	p := llama.ContextParams{NCtx: 256}
	a, b := allLogits(t, newContext(t, big, p), toks, 64), allLogits(t, newContext(t, small, p), toks, 64)
	agreed := 0
	for i := range toks {
		if best(a[i]) == best(b[i]) {
			agreed++
		}
	}
	require.Greater(t, agreed, len(toks)*7/10)
	require.Greater(t, farthest(a[0], b[0]), 1e-4, "the models are one")
}

func best(logits []float32) int {
	return slices.Index(logits, slices.Max(logits))
}

func TestAdapterIsNoModel(t *testing.T) {
	_, err := llama.LoadModel(t.Context(), fixture.LoRA(1).Write(t), llama.ModelParams{})
	require.ErrorIs(t, err, llama.ErrModelFormat)
	require.ErrorContains(t, err, "adapter")
}
