package engine

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// repeatDecoder computes nothing and allocates nothing.
type repeatDecoder struct {
	*fakeDecoder
	tokens [mostTogether]llama.Token
}

func (d *repeatDecoder) decode(feeds []feed, steps int) error {
	for i := range feeds {
		feeds[i].tokens = d.tokens[:steps]
	}
	return nil
}

// TestStepDoesNotAllocate: not the goroutine that computes, whatever it hands over.
func TestStepDoesNotAllocate(t *testing.T) {
	const sequences, tokens = 8, 4000
	m, err := llama.LoadModel(context.Background(), fixture.Llama(1).Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	c, err := llama.NewContext(m, llama.ContextParams{NCtx: sequences * tokens, NSeqMax: sequences, NThreads: 1, KVUnified: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	fake := &repeatDecoder{fakeDecoder: newFakeDecoder(t, sequences*tokens)}
	for i := range fake.tokens {
		fake.tokens[i] = 300
	}
	for name, dec := range map[string]decoder{
		"fake":  fake,
		"model": &contextDecoder{ctx: c, batch: llama.NewBatch(c.NBatch()), log: slog.New(slog.DiscardHandler)},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(dec, newScheduler(sequences*tokens, 64, sequences, -1, dec), func(llama.Token) bool { return false }, slog.New(slog.DiscardHandler))
			l.together = time.Hour // as many steps as can be, however long one takes
			l.mu.Lock()
			defer l.mu.Unlock()
			seqs := make([]*sequence, sequences)
			spare := make([]output, sequences)
			for i := range seqs {
				s := newTestSequence([]llama.Token{270, 271}, tokens)
				s.tokens = append(make([]llama.Token, 0, tokens), s.tokens...)
				s.text = &textStream{vocab: m.Vocab(), stops: newStopMatcher([]string{"never that"})}
				s.sampler, err = llama.NewSampler(m, llama.SamplerParams{Temperature: float32(i), LogitBias: map[llama.Token]float32{300: 1000}})
				require.NoError(t, err)
				defer func() { require.NoError(t, s.sampler.Close()) }()
				seqs[i] = s
				l.sched.submit(s)
			}
			step := func() {
				l.step()
				for i, s := range seqs {
					select {
					case <-s.out.ready:
						spare[i], _, _ = s.out.take(output{text: spare[i].text[:0], tokens: spare[i].tokens[:0]})
					default:
					}
				}
			}
			for range 40 {
				step() // prompts; buffers grow
			}
			before := seqs[0].length()
			require.Zero(t, testing.AllocsPerRun(20, step))
			require.Greater(t, seqs[0].length(), before+20, "it generates")
			require.NotEmpty(t, spare[0].text)
		})
	}
}
