package llama_test

import (
	"math"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestSamplerSeed(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 128})
	p := llama.SamplerParams{Temperature: 5, Seed: 42}
	run := func(s *llama.Sampler) []llama.Token {
		require.NoError(t, c.Memory().Clear())
		return generate(t, c, s, []llama.Token{1}, 20)
	}
	s := newSampler(t, m, p)
	require.EqualValues(t, 42, s.Seed())
	first := run(s)
	require.Equal(t, first, run(newSampler(t, m, p)))
	require.NoError(t, s.Reset())
	require.Equal(t, first, run(s), "after Reset")
	p.Seed = 43
	require.NotEqual(t, first, run(newSampler(t, m, p)))

	random := newSampler(t, m, llama.DefaultSamplerParams())
	require.NotEqual(t, llama.RandomSeed, random.Seed())
	p = llama.DefaultSamplerParams()
	p.Seed = random.Seed()
	require.Equal(t, run(random), run(newSampler(t, m, p)), "the seed that was drawn gives the same text")
}

func TestSamplerClone(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 128})
	s := newSampler(t, m, llama.SamplerParams{Temperature: 5, Seed: 1, Grammar: `root ::= [a-z]+`})
	generate(t, c, s, []llama.Token{1}, 5)
	clone, err := s.Clone()
	require.NoError(t, err)
	defer clone.Close()
	require.NoError(t, c.Memory().Clear())
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1}, 0, 0)))
	for range 5 {
		a, err := s.Sample(c, 0)
		require.NoError(t, err)
		b, err := clone.Sample(c, 0)
		require.NoError(t, err)
		require.Equal(t, a, b)
		require.NoError(t, s.Accept(a))
		require.NoError(t, clone.Accept(b))
	}
}

// Each sampler of the chain does what its name says.
func TestSamplerChain(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1, 70}, 0, 0)))
	draw := func(p llama.SamplerParams, accept ...llama.Token) map[llama.Token]int {
		seen := map[llama.Token]int{}
		s := newSampler(t, m, p)
		require.NoError(t, s.AcceptPrompt(accept))
		for range 300 {
			tok, err := s.Sample(c, 1)
			require.NoError(t, err)
			seen[tok]++
		}
		return seen
	}
	greedy := draw(llama.SamplerParams{})
	require.Len(t, greedy, 1)
	var best llama.Token
	for best = range greedy {
	}
	hot := llama.SamplerParams{Temperature: 3, Seed: 5}
	require.Greater(t, len(draw(hot)), 50)
	with := func(change func(p *llama.SamplerParams)) llama.SamplerParams {
		p := hot
		change(&p)
		return p
	}
	require.Equal(t, greedy, draw(with(func(p *llama.SamplerParams) { p.TopK = 1 })))
	require.Len(t, draw(with(func(p *llama.SamplerParams) { p.TopK = 3 })), 3)
	require.Equal(t, greedy, draw(with(func(p *llama.SamplerParams) { p.TopP = 1e-6 })))
	require.Equal(t, greedy, draw(with(func(p *llama.SamplerParams) { p.MinP = 1 })))
	require.Equal(t, len(draw(hot)), len(draw(with(func(p *llama.SamplerParams) { p.TopP, p.TypicalP = 1, 1 }))))
	require.Less(t, len(draw(with(func(p *llama.SamplerParams) { p.TopNSigma = 0.5 }))), len(draw(hot)))

	logits, err := c.Logits(1)
	require.NoError(t, err)
	require.NotContains(t, draw(llama.SamplerParams{LogitBias: map[llama.Token]float32{best: float32(negInf)}}), best)
	require.Contains(t, draw(llama.SamplerParams{LogitBias: map[llama.Token]float32{9: 1000}}), llama.Token(9))
	after, err := c.Logits(1)
	require.NoError(t, err)
	require.Equal(t, logits, after, "a bias is the sampler's, not the context's")
	for _, p := range []llama.SamplerParams{{RepeatPenalty: 1000}, {FrequencyPenalty: 1000}, {PresencePenalty: 1000}, {PresencePenalty: 1000, PenaltyLastN: 1}} {
		require.NotContains(t, draw(p, best), best, "%+v", p)
	}
	require.Contains(t, draw(llama.SamplerParams{PresencePenalty: 1000, PenaltyLastN: 1}, best, 9), best, "it is not among the last tokens")
	require.NotContains(t, draw(llama.SamplerParams{DRYMultiplier: 1000}, best, 9, 8, best, 9, 8), best, "it would repeat a sequence")
}

// A copy of adaptive-p between sampling and accepting ended the process when it accepted.
func TestSamplerCloneInHand(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1}, 0, 0)))
	s := newSampler(t, m, llama.SamplerParams{Temperature: 1, AdaptiveTarget: 0.5})
	tok, err := s.Sample(c, 0)
	require.NoError(t, err)
	_, err = s.Clone()
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	require.NoError(t, s.Accept(tok))
	clone, err := s.Clone()
	require.NoError(t, err)
	defer clone.Close()
	_, err = clone.Sample(c, 0)
	require.NoError(t, err)
	require.NoError(t, clone.Accept(tok))
}

func TestNewSamplerRefusesParams(t *testing.T) {
	m := fixtureModel(t)
	nan := float32(math.NaN())
	for _, p := range []llama.SamplerParams{
		{Temperature: -1}, {Temperature: nan}, {Temperature: float32(math.Inf(1))}, {TopP: 2}, {TopP: -0.1}, {MinP: nan}, {TypicalP: 3}, {TopK: -1},
		{RepeatPenalty: -1}, {RepeatPenalty: 1e-30}, {FrequencyPenalty: nan}, {PresencePenalty: float32(negInf)}, {PenaltyLastN: -1}, {XTCProbability: 2},
		{DRYMultiplier: -1}, {DRYPenaltyLastN: math.MaxInt32}, {LogitBias: map[llama.Token]float32{1: nan}}, {LogitBias: map[llama.Token]float32{1: float32(math.Inf(1))}},
		{TopK: 40, Samplers: []llama.SamplerType{llama.SamplerTopK, llama.SamplerDRY, llama.SamplerTopK}}, {DRYSequenceBreakers: []string{"a", "b", "a"}},
		{Samplers: []llama.SamplerType{llama.SamplerInfill}, TopK: 40}, {Samplers: []llama.SamplerType{llama.SamplerTopK, llama.SamplerInfill}},
		{Samplers: []llama.SamplerType{llama.SamplerTopK, llama.SamplerInfill}, TopK: 1000}, {Samplers: []llama.SamplerType{llama.SamplerInfill, llama.SamplerTopK}, TopK: 40},
	} {
		_, err := llama.NewSampler(m, p)
		require.ErrorIs(t, err, llama.ErrInvalidParam, "%+v", p)
	}
	for _, tok := range []llama.Token{-1, 1 << 20} {
		_, err := llama.NewSampler(m, llama.SamplerParams{LogitBias: map[llama.Token]float32{tok: 1}})
		require.ErrorIs(t, err, llama.ErrInvalidToken)
	}
}

func TestSampleRefuses(t *testing.T) {
	m, other := fixtureModel(t), fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	s := newSampler(t, m, llama.SamplerParams{})
	_, err := s.Sample(c, 0)
	require.ErrorIs(t, err, llama.ErrNoLogits, "nothing was decoded")
	require.NoError(t, c.Decode(batchOf(t, []llama.Token{1, 2}, 0, 0)))
	for _, i := range []int{-1, 0, 2, 1 << 40} {
		_, err := s.Sample(c, i)
		require.ErrorIs(t, err, llama.ErrNoLogits)
	}
	_, err = newSampler(t, other, llama.SamplerParams{}).Sample(c, 1)
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	for _, tok := range []llama.Token{-1, 1 << 20} {
		require.ErrorIs(t, s.Accept(tok), llama.ErrInvalidToken)
		require.ErrorIs(t, s.AcceptPrompt([]llama.Token{1, tok}), llama.ErrInvalidToken)
	}
}

// Logits divided by so little are infinite.
func TestTinyTemperatureIsGreedy(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 64})
	want := generate(t, c, newSampler(t, m, llama.SamplerParams{}), []llama.Token{1}, 4)
	for _, temperature := range []float32{1e-31, 1e-38, 1e-45} {
		require.NoError(t, c.Memory().Clear())
		require.Equal(t, want, generate(t, c, newSampler(t, m, llama.SamplerParams{Temperature: temperature, Seed: 3}), []llama.Token{1}, 4))
	}
}
