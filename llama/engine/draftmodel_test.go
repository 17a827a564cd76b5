package engine

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestDraftModelFits: where the draft model has no room for all, it guesses for those that
// fit, with what they all are going to need.
func TestDraftModelFits(t *testing.T) {
	target, draft := fixture.Speculative()
	m, err := llama.LoadModel(t.Context(), target.Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	p := Params{MaxSequences: 4, NThreads: 1, Model: llama.ModelParams{NGPULayers: llama.NoLayers}, Speculative: Speculative{DraftModel: draft.Write(t)}}
	require.NoError(t, p.complete())
	p.Logger = slog.New(slog.DiscardHandler)
	d, err := openDraftModel(t.Context(), m, &p, 256)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	require.Equal(t, 256, d.ctx.NCtx())
	var feeds []feed
	for i := range 4 {
		s := newTestSequence(nil, 200)
		for k := range 60 {
			s.tokens = append(s.tokens, llama.Token(3+(k*7+i)%100))
		}
		s.leaf = &node{id: llama.SeqID(i), cells: 200}
		feeds = append(feeds, feed{seq: s, n: 1, sample: true, by: byModel, most: 8, draft: 2})
	}
	feeds[0].draft = 8
	require.Positive(t, d.guess(feeds))
	for _, f := range feeds[:3] {
		require.NotEmpty(t, f.guess)
	}
	require.Zero(t, feeds[3].draft)
}

// TestDraftModelCatchesUp: a step computes one batch of what the draft model has not seen,
// however long the prompts are: those who generate beside them wait for it.
func TestDraftModelCatchesUp(t *testing.T) {
	target, draft := fixture.Speculative()
	m, err := llama.LoadModel(t.Context(), target.Write(t), llama.ModelParams{NGPULayers: llama.NoLayers})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	p := Params{MaxSequences: 2, NBatch: 32, NUBatch: 32, NThreads: 1, Model: llama.ModelParams{NGPULayers: llama.NoLayers}, Speculative: Speculative{DraftModel: draft.Write(t)}}
	require.NoError(t, p.complete())
	d, err := openDraftModel(t.Context(), m, &p, 512)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	for _, want := range [][2]int{{32, 0}, {64, 0}, {81, 16}, {81, 48}, {81, 81}} {
		var feeds []feed
		for i := range 2 {
			s := newTestSequence(nil, 200)
			for k := range 81 {
				s.tokens = append(s.tokens, llama.Token(3+(k*7+i)%100))
			}
			s.leaf = &node{id: llama.SeqID(i), cells: 200}
			feeds = append(feeds, feed{seq: s, n: 1, sample: true, by: byModel, most: 1, draft: 1})
		}
		d.guess(feeds)
		require.Equal(t, want, [2]int{len(d.have[0]), len(d.have[1])})
	}
}
