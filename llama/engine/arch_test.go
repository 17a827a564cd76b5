package engine_test

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// Every kind of model generates beside others what it generates alone, and that is what a bare context gives token by token.
func TestEveryArchitectureGeneratesAsAlone(t *testing.T) {
	target, _ := fixture.Speculative()
	for name, f := range map[string]*fixture.File{
		"llama": fixture.Llama(2), "moe": fixture.MoE(), "gemma3": fixture.Gemma3(), "mamba": fixture.Mamba(), "lfm2": fixture.LFM2(),
		"jamba": fixture.Jamba(), "target": target,
	} {
		t.Run(name, func(t *testing.T) {
			const requests, tokens = 6, 40
			e := openFixture(t, f, engine.Params{MaxSequences: 4, NCtx: 1024})
			prompt := func(i int) engine.Request {
				// the first three begin alike, far beyond the sliding window
				text := strings.Repeat("the same beginning, ", 3*(i/3+1)) + fmt.Sprintf("and then %d", i)
				return engine.Request{Prompt: text, MaxTokens: tokens, IgnoreEOS: true, Sampling: greedy()}
			}
			var alone, together [requests][]llama.Token
			for i := range requests {
				alone[i] = bareTokens(t, e.Model(), prompt(i).Prompt, tokens)
			}
			var wg sync.WaitGroup
			for i := range requests {
				wg.Go(func() {
					for d, err := range e.Generate(t.Context(), prompt(i)) {
						if err != nil {
							t.Error(err)
							return
						}
						together[i] = append(together[i], d.Tokens...)
					}
				})
			}
			wg.Wait()
			for i := range requests {
				require.Equal(t, alone[i], together[i], "request %d", i)
			}
		})
	}
}

// bareTokens decodes a prompt and the most probable tokens after it, one by one, without an engine.
func bareTokens(t *testing.T, m *llama.Model, prompt string, n int) []llama.Token {
	t.Helper()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: 512, NThreads: 1, FlashAttn: llama.FlashAttnOff})
	require.NoError(t, err)
	defer c.Close()
	p := *greedy()
	p.LogitBias = map[llama.Token]float32{}
	for tok := range llama.Token(m.Vocab().NTokens()) {
		if m.Vocab().IsEOG(tok) {
			p.LogitBias[tok] = float32(math.Inf(-1))
		}
	}
	s, err := llama.NewSampler(m, p)
	require.NoError(t, err)
	defer s.Close()
	toks, err := m.Vocab().Tokenize(prompt, true, false)
	require.NoError(t, err)
	var out []llama.Token
	b := llama.NewBatch(len(toks))
	pos := 0
	for len(out) < n {
		b.Clear()
		for i, tok := range toks {
			_, err := b.Add(tok, llama.Pos(pos+i), 0, i == len(toks)-1)
			require.NoError(t, err)
		}
		rows := []llama.SampleRow{{Index: len(toks) - 1, Sampler: s}}
		require.NoError(t, c.DecodeSample(b, rows))
		require.NoError(t, rows[0].Err)
		pos += len(toks)
		toks = []llama.Token{rows[0].Token}
		out = append(out, rows[0].Token)
	}
	return out
}
