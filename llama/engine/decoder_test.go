package engine

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestCutNeedsItsWindow: what lies before a sliding window is given to other tokens. A
// sequence that loses its last tokens may therefore lack what the next one attends to, and
// nobody may go on from it.
func TestCutNeedsItsWindow(t *testing.T) {
	m, err := llama.LoadModel(t.Context(), fixture.Gemma3().Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	const sequences = 14
	p := Params{MaxSequences: sequences, NCtx: 4096, NUBatch: 16, NThreads: 1}
	require.NoError(t, p.complete())
	ctx, err := llama.NewContext(m, p.context())
	require.NoError(t, err)
	defer func() { require.NoError(t, ctx.Close()) }()
	b := llama.NewBatch(sequences)
	defer func() { require.NoError(t, b.Close()) }()
	d := &contextDecoder{ctx: ctx, batch: b, spare: sequences, log: slog.New(slog.DiscardHandler)}
	const n = 80
	for pos := range llama.Pos(n) {
		b.Clear()
		for s := range llama.SeqID(sequences) {
			_, err := b.Add(llama.Token(3+pos), pos, s, true)
			require.NoError(t, err)
		}
		require.NoError(t, ctx.Decode(b))
	}
	lost := 0
	for s := range llama.SeqID(sequences) {
		require.True(t, d.hasWindow(s, n))
		const less = n - 15
		kept := ctx.Memory().PosMin(s) <= less-fixture.Window
		require.Equal(t, kept, d.truncate(s, less))
		if !kept {
			lost++
		}
		require.True(t, d.truncate(s, 0))
	}
	require.Positive(t, lost)
}

// TestShiftedIsNotParked: tokens that have moved in memory know of what was before them.
func TestShiftedIsNotParked(t *testing.T) {
	d := newFakeDecoder(t, 100)
	d.whole = true
	s := newScheduler(100, 100, 2, 1<<20, d)
	seq := newTestSequence(make([]llama.Token, 40), 50)
	s.submit(seq)
	s.admit(seq.submitted)
	d.memory[seq.leaf.id] = make([]*fakeCell, 20)
	for i := range d.memory[seq.leaf.id] {
		d.memory[seq.leaf.id][i] = &fakeCell{}
	}
	seq.past, seq.mark, seq.apart = 20, 20, true
	s.parkMarked()
	require.Zero(t, s.parking.count)
	seq.apart = false
	s.parkMarked()
	require.Equal(t, 1, s.parking.count)
}
