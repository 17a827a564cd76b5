package llama_test

import (
	"log/slog"
	"regexp"
	"strconv"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/internal/testgpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// What a GPU is planned to take is what llama.cpp allocates on it; where less is free, fewer layers or a shorter context are
// planned, and what was asked for and cannot be had is refused.
func TestGPUPlan(t *testing.T) {
	g := testgpu.Need(t)
	path, err := modelPath("default")
	require.NoError(t, err)
	p := llama.ModelParams{Context: llama.ContextParams{NCtx: 2048, NOutputsMax: 4}}
	all := estimate(t, "default", p)
	require.NoError(t, all.Check())
	require.Equal(t, all.NLayer+1, all.NGPULayers, "the default model fits any GPU")
	require.Equal(t, g.Name, all.Devices[0].Name)
	need := all.Devices[0].Need()

	t.Run("as allocated", func(t *testing.T) {
		defer llama.SetLogger(nil)
		h := &logHandler{level: slog.LevelInfo}
		llama.SetLogger(slog.New(h))
		m, err := llama.LoadModel(t.Context(), path, p)
		require.NoError(t, err)
		defer m.Close()
		newContext(t, m, p.Context)
		llama.SetLogger(nil)
		buffers := regexp.MustCompile(regexp.QuoteMeta(g.Name) + ` (model|KV|compute) buffer size = +([0-9.]+) MiB`)
		var sum float64
		for _, line := range h.lines {
			if f := buffers.FindStringSubmatch(line); f != nil {
				size, err := strconv.ParseFloat(f[2], 64)
				require.NoError(t, err)
				sum += size
			}
		}
		require.InEpsilon(t, float64(need)/mib, sum, 0.02)
	})
	t.Run("fewer layers", func(t *testing.T) {
		const total = 400 * mib // of which an eighth is left free
		free := need*6/10 + total/8
		defer llama.LimitMemory(g.Name, free, total)()
		m, err := llama.LoadModel(t.Context(), path, p)
		require.NoError(t, err)
		defer m.Close()
		some := m.MemoryNeed()
		require.Positive(t, some.NGPULayers)
		require.Less(t, some.NGPULayers, all.NGPULayers)
		require.LessOrEqual(t, some.Devices[0].Need(), free-total/8)
		newContext(t, m, p.Context)
	})
	t.Run("shorter context", func(t *testing.T) {
		open := llama.ModelParams{Context: llama.ContextParams{NOutputsMax: 4}}
		full := estimate(t, "default", open)
		const total = 800 * mib
		defer llama.LimitMemory(g.Name, full.Devices[0].Need()*9/10+total/8, total)()
		short := estimate(t, "default", open)
		require.Equal(t, full.NGPULayers, short.NGPULayers)
		require.Less(t, short.NCtx, full.NCtx)
		require.GreaterOrEqual(t, short.NCtx, 4096)
	})
	t.Run("refused", func(t *testing.T) {
		defer llama.LimitMemory(g.Name, 50*mib, 400*mib)()
		used := g.Used(t)
		insist := p
		insist.NGPULayers = llama.AllLayers
		_, err := llama.LoadModel(t.Context(), path, insist)
		var im *llama.ErrInsufficientMemory
		require.ErrorAs(t, err, &im)
		require.Equal(t, []any{g.Name, need, uint64(50 * mib)}, []any{im.Device, im.Need, im.Free})
		g.WaitUsed(t, used+16*mib)
	})
}
