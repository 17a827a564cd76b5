package llama_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// promptTwo puts a prompt into two sequences and returns rows and batch of their first step.
func promptTwo(t *testing.T, c *llama.Context, p llama.SamplerParams) (*llama.Batch, []llama.SampleRow) {
	t.Helper()
	b := llama.NewBatch(16)
	rows := make([]llama.SampleRow, 2)
	for s := range llama.SeqID(2) {
		for pos := range llama.Pos(3) {
			_, err := b.Add(llama.Token(270+int(s)+int(pos)), pos, s, false)
			require.NoError(t, err)
		}
	}
	require.NoError(t, c.Decode(b))
	b.Clear()
	for s := range llama.SeqID(2) {
		i, err := b.Add(llama.Token(280+int(s)), 3, s, true)
		require.NoError(t, err)
		rows[s] = llama.SampleRow{Index: i, Sampler: newSampler(t, c.Model(), p)}
	}
	return b, rows
}

// withoutEOG forbids the tokens that end the generation.
func withoutEOG(m *llama.Model) map[llama.Token]float32 {
	bias := map[llama.Token]float32{}
	for tok := range llama.Token(m.Vocab().NTokens()) {
		if m.Vocab().IsEOG(tok) {
			bias[tok] = float32(math.Inf(-1))
		}
	}
	return bias
}

// TestDecodeSteps: several steps in one call are the same as one by one.
func TestDecodeSteps(t *testing.T) {
	m := fixtureModel(t)
	params := llama.ContextParams{NCtx: 128, NSeqMax: 2, KVUnified: true, NThreads: 1}
	noEnd := llama.SamplerParams{Seed: 7, Temperature: 1, LogitBias: withoutEOG(m)}
	const n = 20

	one := newContext(t, m, params)
	b, rows := promptTwo(t, one, noEnd)
	want := make([][]llama.Token, 2)
	for step := range llama.Pos(n) {
		require.NoError(t, one.DecodeSample(b, rows))
		b.Clear()
		for s := range rows {
			require.NoError(t, rows[s].Err)
			require.Equal(t, []llama.Token{rows[s].Token}, rows[s].Tokens)
			want[s] = append(want[s], rows[s].Token)
			var err error
			rows[s].Index, err = b.Add(rows[s].Token, 4+step, llama.SeqID(s), true)
			require.NoError(t, err)
		}
	}

	many := newContext(t, m, params)
	b, rows = promptTwo(t, many, noEnd)
	require.NoError(t, many.DecodeSteps(b, rows, n))
	for s := range rows {
		require.Equal(t, want[s], rows[s].Tokens)
		require.Equal(t, want[s][n-1], rows[s].Token)
		require.EqualValues(t, 3+n-1, many.Memory().PosMax(llama.SeqID(s)), "all but the last token")
	}

	t.Run("a context without room ends with what it has", func(t *testing.T) {
		small := newContext(t, m, llama.ContextParams{NCtx: 32, NSeqMax: 2, KVUnified: true, NThreads: 1})
		b, rows := promptTwo(t, small, noEnd)
		require.NoError(t, small.DecodeSteps(b, rows, 200))
		got := len(rows[0].Tokens)
		require.Equal(t, (small.NCtx()-6)/2, got)
		require.Len(t, rows[1].Tokens, got)
		require.EqualValues(t, 3+got-1, small.Memory().PosMax(0), "the step that failed left no trace")
	})
	t.Run("an end of generation", func(t *testing.T) {
		end := llama.SamplerParams{LogitBias: map[llama.Token]float32{m.Vocab().EOS(): 1e9}}
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, end)
		require.NoError(t, c.DecodeSteps(b, rows, n))
		require.Equal(t, []llama.Token{m.Vocab().EOS()}, rows[0].Tokens)
	})
	t.Run("a row that fails", func(t *testing.T) {
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, noEnd)
		bounded := noEnd
		bounded.Grammar = `root ::= "ab"`
		rows[1].Sampler = newSampler(t, m, bounded)
		require.NoError(t, c.DecodeSteps(b, rows, n))
		require.ErrorIs(t, rows[1].Err, llama.ErrGrammarRejected)
		require.NotEmpty(t, rows[1].Tokens)
		require.Len(t, rows[0].Tokens, len(rows[1].Tokens)+1, "the step in which the other failed counts")
		require.Equal(t, want[0][:len(rows[0].Tokens)], rows[0].Tokens)
	})
	t.Run("a token without a row", func(t *testing.T) {
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, noEnd)
		require.NoError(t, c.DecodeSteps(b, rows[:1], n))
		require.Len(t, rows[0].Tokens, 1)
	})
	t.Run("held", func(t *testing.T) {
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, noEnd)
		c.Hold()
		require.NoError(t, c.DecodeSteps(b, rows, n))
		require.Len(t, rows[0].Tokens, 1)
		c.ResetAbort()
		b.Clear()
		for s := range rows {
			var err error
			rows[s].Index, err = b.Add(rows[s].Token, 4, llama.SeqID(s), true)
			require.NoError(t, err)
		}
		require.NoError(t, c.DecodeSteps(b, rows, 5))
		require.Equal(t, want[0][1:6], rows[0].Tokens)
	})
	t.Run("held while it runs", func(t *testing.T) {
		c := newContext(t, m, llama.ContextParams{NSeqMax: 2, KVUnified: true, NThreads: 1})
		b, rows := promptTwo(t, c, noEnd)
		timer := time.AfterFunc(time.Millisecond, c.Hold)
		defer timer.Stop()
		require.NoError(t, c.DecodeSteps(b, rows, 1024))
		require.NotEmpty(t, rows[0].Tokens)
	})
	t.Run("steps that cannot be", func(t *testing.T) {
		c := newContext(t, m, params)
		b, rows := promptTwo(t, c, noEnd)
		for _, n := range []int{-1, 0, 1025} {
			require.ErrorIs(t, c.DecodeSteps(b, rows, n), llama.ErrInvalidParam)
		}
	})
}

// TestDecodeStepsEndWithPositions: steps do not go on behind the last position that the model knows.
func TestDecodeStepsEndWithPositions(t *testing.T) {
	m := loadFixture(t, fixture.GPT2())
	c := newContext(t, m, llama.ContextParams{NCtx: fixture.NCtx + 256, NBatch: fixture.NCtx, NUBatch: fixture.NCtx})
	s := newSampler(t, m, llama.SamplerParams{LogitBias: withoutEOG(m)})
	require.NoError(t, c.Decode(batchOf(t, slices.Repeat([]llama.Token{300}, fixture.NCtx-2), 0, 0)))
	rows := []llama.SampleRow{{Index: 0, Sampler: s}}
	require.NoError(t, c.DecodeSteps(batchOf(t, []llama.Token{300}, fixture.NCtx-2, 0), rows, 10))
	require.NoError(t, rows[0].Err)
	require.Len(t, rows[0].Tokens, 2)
	require.EqualValues(t, fixture.NCtx-1, c.Memory().PosMax(0))
}
