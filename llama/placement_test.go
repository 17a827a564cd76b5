package llama_test

import (
	"math"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// Devices that are not there are refused before anything is loaded.
func TestPlacement(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	gpu := ""
	devices, err := llama.Devices()
	require.NoError(t, err)
	gpus := 0
	for _, d := range devices {
		if d.Type == "gpu" || d.Type == "igpu" {
			gpu = d.Name
			gpus++
		}
	}
	tooMany := make([]float32, gpus+1)
	for i := range tooMany {
		tooMany[i] = 1
	}
	for name, p := range map[string]llama.ModelParams{
		"split mode":         {SplitMode: 9},
		"no such device":     {Devices: []string{"CUDA99"}},
		"the CPU":            {Devices: []string{"CPU"}},
		"main GPU":           {SplitMode: llama.SplitNone, MainGPU: gpus + 1},
		"negative main GPU":  {SplitMode: llama.SplitNone, MainGPU: -1},
		"main GPU of layers": {MainGPU: 1},
		"too many shares":    {TensorSplit: tooMany},
		"share of none":      {SplitMode: llama.SplitNone, TensorSplit: []float32{1}},
		"shares of no GPU":   {NGPULayers: llama.NoLayers, TensorSplit: []float32{1}},
		"share":              {TensorSplit: []float32{float32(math.NaN())}},
		"devices, no layers": {NGPULayers: llama.NoLayers, Devices: []string{gpu}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := llama.LoadModel(t.Context(), path, p)
			require.ErrorIs(t, err, llama.ErrInvalidParam)
			_, err = llama.EstimateMemory(t.Context(), path, p)
			require.ErrorIs(t, err, llama.ErrInvalidParam)
		})
	}
	for _, mode := range []llama.SplitMode{llama.SplitLayer, llama.SplitRow, llama.SplitNone} {
		m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{SplitMode: mode})
		require.NoError(t, err)
		require.NoError(t, m.Close())
	}
	if gpu == "" {
		return // the rest needs one
	}
	m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{Devices: []string{gpu}, TensorSplit: []float32{1}, NGPULayers: llama.AllLayers})
	require.NoError(t, err)
	require.Len(t, m.MemoryNeed().Devices, 2)
	require.NoError(t, m.Close())
}
