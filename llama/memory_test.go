package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestMemory(t *testing.T) {
	m := fixtureModel(t)
	c := newContext(t, m, llama.ContextParams{NCtx: 256, NSeqMax: 4, KVUnified: true})
	mem := c.Memory()
	at := func(s llama.SeqID) [2]llama.Pos { return [2]llama.Pos{mem.PosMin(s), mem.PosMax(s)} }
	require.Equal(t, [2]llama.Pos{-1, -1}, at(0))
	require.NoError(t, c.Decode(batchOf(t, make([]llama.Token, 10), 0, 0)))
	require.Equal(t, [2]llama.Pos{0, 9}, at(0))
	require.NoError(t, mem.SeqCopy(0, 1, 0, 6))
	require.Equal(t, [2]llama.Pos{0, 5}, at(1))
	require.NoError(t, mem.SeqRemove(0, 8, -1))
	require.Equal(t, [2]llama.Pos{0, 7}, at(0))
	require.NoError(t, mem.SeqRemove(0, -1, 2))
	require.NoError(t, mem.SeqAdd(0, 2, -1, -2))
	require.Equal(t, [2]llama.Pos{0, 5}, at(0))
	require.NoError(t, mem.SeqDiv(1, -1, -1, 2))
	require.Equal(t, [2]llama.Pos{0, 1}, at(1), "SeqAdd has moved the cells that 1 shares with 0: they ended at 3")
	require.NoError(t, mem.SeqKeep(1))
	require.Equal(t, [2]llama.Pos{-1, -1}, at(0))
	require.NoError(t, mem.Clear())
	require.Equal(t, [2]llama.Pos{-1, -1}, at(1))

	for _, s := range []llama.SeqID{-1, 4, 1 << 30} {
		for i, err := range []error{
			mem.SeqRemove(s, 0, -1), mem.SeqCopy(s, 0, 0, -1), mem.SeqCopy(0, s, 0, -1), mem.SeqKeep(s), mem.SeqAdd(s, 0, 1, 1), mem.SeqDiv(s, 0, 1, 2),
		} {
			require.ErrorIs(t, err, llama.ErrInvalidParam, "sequence %d, call %d", s, i)
		}
		require.Equal(t, llama.Pos(-1), mem.PosMax(s))
	}
	require.ErrorIs(t, mem.SeqDiv(0, 0, 1, 0), llama.ErrInvalidParam)
	require.ErrorIs(t, mem.SeqAdd(0, 0, 1, 1<<30+1), llama.ErrInvalidParam)
	require.ErrorIs(t, mem.SeqAdd(0, 0, 1, -1<<31), llama.ErrInvalidParam)
}

// A sequence that shares another's prefix goes on as if it had computed it.
func TestSeqCopySharesPrefix(t *testing.T) {
	m := fixtureModel(t)
	prompt := []llama.Token{1, 70, 71, 72, 73}
	for name, p := range map[string]llama.ContextParams{
		"unified": {NCtx: 256, NSeqMax: 2, KVUnified: true, FlashAttn: llama.FlashAttnOff},
		"streams": {NCtx: 512, NSeqMax: 2, FlashAttn: llama.FlashAttnOff},
	} {
		t.Run(name, func(t *testing.T) {
			c := newContext(t, m, p)
			mem := c.Memory()
			require.NoError(t, c.Decode(batchOf(t, prompt, 0, 0)))
			require.NoError(t, c.Decode(batchOf(t, []llama.Token{80}, 5, 0)))
			want, err := c.Logits(0)
			require.NoError(t, err)
			require.NoError(t, mem.SeqRemove(0, 5, -1))
			if !p.KVUnified {
				require.ErrorIs(t, mem.SeqCopy(0, 1, 0, 3), llama.ErrUnsupported)
				require.ErrorIs(t, mem.SeqCopy(0, 1, 2, -1), llama.ErrUnsupported)
				require.NoError(t, mem.SeqCopy(0, 1, 0, 5), "all of it, named by its positions")
			}
			require.NoError(t, mem.SeqCopy(0, 1, -1, -1))
			require.NoError(t, c.Decode(batchOf(t, []llama.Token{80}, 5, 1)))
			got, err := c.Logits(0)
			require.NoError(t, err)
			require.InDeltaSlice(t, want, got, 1e-4)
		})
	}
}
