package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// twoTexts is a batch of two texts as sequences 0 and 1.
func twoTexts(t testing.TB, m *llama.Model) (b *llama.Batch, first int) {
	t.Helper()
	b = llama.NewBatch(64)
	for s, text := range []string{"hello, you", "what is it?"} {
		toks, err := m.Vocab().Tokenize(text, true, false)
		require.NoError(t, err)
		for p, tok := range toks {
			_, err := b.Add(tok, llama.Pos(p), llama.SeqID(s), false)
			require.NoError(t, err)
		}
		if s == 0 {
			first = len(toks)
		}
	}
	return b, first
}

func TestPoolingIsThatOfTheTokens(t *testing.T) {
	for name, f := range map[string]*fixture.File{"bert": fixture.BERT(fixture.PoolingMean), "llama": fixture.Llama(1), "lfm2": fixture.LFM2(), "gemma3": fixture.Gemma3()} {
		t.Run(name, func(t *testing.T) {
			m := loadFixture(t, f)
			b, n := twoTexts(t, m)
			context := func(p llama.PoolingType) *llama.Context {
				c := newContext(t, m, llama.ContextParams{NCtx: 256, NSeqMax: 2, KVUnified: true, Embeddings: true, PoolingType: p})
				require.NoError(t, c.Decode(b))
				return c
			}
			width := m.NEmbdOut()
			require.Equal(t, fixture.NEmbd, width)
			rows := make([]float32, b.Len()*width)
			c := context(llama.PoolingNone)
			require.NoError(t, c.Embeddings(rows, 0, b.Len()))
			require.ErrorIs(t, c.EmbeddingSeq(make([]float32, width), 0), llama.ErrNoLogits)
			require.ErrorIs(t, c.Embeddings(rows, 1, b.Len()), llama.ErrNoLogits)
			require.ErrorIs(t, c.Embeddings(rows, 0, 1), llama.ErrInvalidParam)
			_, err := c.Logits(0)
			require.ErrorIs(t, err, llama.ErrNoLogits)

			second := rows[n*width:]
			mean := make([]float32, width)
			for i, x := range second {
				mean[i%width] += x / float32(len(second)/width)
			}
			for p, want := range map[llama.PoolingType][]float32{
				llama.PoolingMean: mean, llama.PoolingCLS: second[:width], llama.PoolingLast: second[len(second)-width:],
			} {
				got := make([]float32, width)
				c := context(p)
				require.NoError(t, c.EmbeddingSeq(got, 1), "%v", p)
				require.Less(t, farthest(got, want), 1e-4, "%v", p)
				require.ErrorIs(t, c.EmbeddingSeq(got, 2), llama.ErrNoLogits)
			}
		})
	}
}

func TestPoolingRank(t *testing.T) {
	m := loadFixture(t, fixture.Reranker())
	require.Equal(t, llama.PoolingRank, m.PoolingType())
	require.Equal(t, 1, m.NClsOut())
	c := newContext(t, m, llama.ContextParams{NSeqMax: 2, KVUnified: true, Embeddings: true})
	b, _ := twoTexts(t, m)
	require.NoError(t, c.Decode(b))
	var scores [2][1]float32
	require.NoError(t, c.EmbeddingSeq(scores[0][:], 0))
	require.NoError(t, c.EmbeddingSeq(scores[1][:], 1))
	require.NotEqual(t, scores[0], scores[1])
	require.ErrorIs(t, c.EmbeddingSeq(make([]float32, fixture.NEmbd), 0), llama.ErrInvalidParam)

	plain := loadFixture(t, fixture.Llama(1))
	_, err := llama.NewContext(plain, llama.ContextParams{Embeddings: true, PoolingType: llama.PoolingRank})
	require.ErrorIs(t, err, llama.ErrUnsupported)
	_, err = llama.NewContext(plain, llama.ContextParams{PoolingType: llama.PoolingMean})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
	_, err = llama.NewContext(plain, llama.ContextParams{Embeddings: true, PoolingType: 9})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

// An encoder alone gives no logits, and its tables and buffers end where the batch must.
func TestEncoderLimits(t *testing.T) {
	m := loadFixture(t, fixture.BERT(fixture.PoolingMean))
	c := newContext(t, m, llama.ContextParams{NCtx: 64, NBatch: 1024, NUBatch: 1024})
	b := llama.NewBatch(1024)
	add := func(n int) {
		for range n {
			_, err := b.Add(7, llama.Pos(b.Len()), 0, false)
			require.NoError(t, err)
		}
	}
	add(8)
	require.NoError(t, c.Decode(b))
	_, err := c.Logits(0)
	require.ErrorIs(t, err, llama.ErrNoLogits)
	add(100)
	require.ErrorIs(t, c.Decode(b), llama.ErrInvalidBatch, "more than NCtx outputs")

	c = newContext(t, m, llama.ContextParams{NBatch: 1024, NUBatch: 1024, Embeddings: true})
	add(fixture.NCtx - b.Len())
	require.NoError(t, c.Decode(b))
	add(1)
	require.ErrorIs(t, c.Decode(b), llama.ErrInvalidBatch, "a position more than the model has")
}

func TestEncodeThenDecode(t *testing.T) {
	m := loadFixture(t, fixture.T5())
	c := newContext(t, m, llama.ContextParams{NCtx: 256, NSeqMax: 2, KVUnified: true, FlashAttn: llama.FlashAttnOff})
	start := func(s llama.SeqID) *llama.Batch {
		b := llama.NewBatch(1)
		_, err := b.Add(0, 0, s, true)
		require.NoError(t, err)
		return b
	}
	require.ErrorIs(t, c.Decode(start(0)), llama.ErrInvalidBatch, "nothing was encoded")
	b, n := twoTexts(t, m)
	require.NoError(t, c.Encode(b))
	logits := func(s llama.SeqID) []float32 {
		require.NoError(t, c.Memory().Clear())
		require.NoError(t, c.Decode(start(s)))
		l, err := c.Logits(0)
		require.NoError(t, err)
		return l
	}
	first, second := logits(0), logits(1)
	require.Greater(t, farthest(first, second), 1e-3, "the decoder does not see the encoder's text")

	// alone, the first text gives the same
	alone := llama.NewBatch(n)
	toks, err := m.Vocab().Tokenize("hello, you", true, false)
	require.NoError(t, err)
	for p, tok := range toks {
		_, err := alone.Add(tok, llama.Pos(p), 0, false)
		require.NoError(t, err)
	}
	require.NoError(t, c.Encode(alone))
	require.Less(t, farthest(first, logits(0)), 1e-4)
	require.ErrorIs(t, c.Decode(start(1)), llama.ErrInvalidBatch, "its text is not the encoder's any more")

	plain := loadFixture(t, fixture.Llama(1))
	require.ErrorIs(t, newContext(t, plain, llama.ContextParams{}).Encode(alone), llama.ErrUnsupported)
}
