package llama_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// TestDecodeDraft: guesses give the tokens that are sampled one by one, and memory has no others.
func TestDecodeDraft(t *testing.T) {
	m := fixtureModel(t)
	params := llama.ContextParams{NCtx: 128, NSeqMax: 2, KVUnified: true, NThreads: 1, FlashAttn: llama.FlashAttnOff}
	sampling := llama.SamplerParams{Seed: 7, Temperature: 1}
	one := newContext(t, m, params)
	b, rows := promptTwo(t, one, sampling)
	first := []llama.Token{280, 281}
	var want [2][]llama.Token
	for step := range llama.Pos(6) {
		require.NoError(t, one.DecodeSample(b, rows))
		b.Clear()
		for s := range rows {
			require.NoError(t, rows[s].Err)
			want[s] = append(want[s], rows[s].Token)
			var err error
			rows[s].Index, err = b.Add(rows[s].Token, 4+step, llama.SeqID(s), true)
			require.NoError(t, err)
		}
	}
	wrong := (want[0][2] + 1) % 256
	for name, tt := range map[string]struct {
		guesses [2][]llama.Token
		n       [2]int // tokens that come of them
	}{
		"all right":       {[2][]llama.Token{want[0][:4], want[1][:2]}, [2]int{5, 3}},
		"one wrong":       {[2][]llama.Token{{want[0][0], want[0][1], wrong, want[0][3]}, nil}, [2]int{3, 1}},
		"the first wrong": {[2][]llama.Token{{(want[0][0] + 1) % 256, want[0][1]}, want[1][:5]}, [2]int{1, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContext(t, m, params)
			b, rows := promptTwo(t, c, sampling)
			b.Clear()
			for s := range rows {
				index, err := b.Add(first[s], 3, llama.SeqID(s), true)
				require.NoError(t, err)
				rows[s].Index, rows[s].Draft, rows[s].NProbs = index, len(tt.guesses[s]), 2
				for i, g := range tt.guesses[s] {
					_, err := b.Add(g, llama.Pos(4+i), llama.SeqID(s), true)
					require.NoError(t, err)
				}
			}
			require.NoError(t, c.DecodeSteps(b, rows, 3))
			for s, n := range tt.n {
				require.NoError(t, rows[s].Err)
				require.Equal(t, want[s][:n], rows[s].Tokens)
				require.Equal(t, want[s][n-1], rows[s].Token)
				require.Len(t, rows[s].Probs, 2*n)
				require.Equal(t, llama.Pos(3+n-1), c.Memory().PosMax(llama.SeqID(s)))
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, sampling)
		rows = rows[:1]
		rows[0].Draft = 2
		require.ErrorIs(t, c.DecodeSample(b, rows), llama.ErrInvalidBatch, "more than the batch has")
		rows[0].Draft = 1
		require.ErrorIs(t, c.DecodeSample(b, rows), llama.ErrInvalidBatch, "another sequence")
		rows[0].Draft = -1
		require.ErrorIs(t, c.DecodeSample(b, rows), llama.ErrInvalidBatch)
	})
}
