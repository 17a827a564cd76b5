package llama_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// TestModelPreflight: what LoadModel has planned is shown once, before the load.
func TestModelPreflight(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	refused := errors.New("refused")
	var asked []llama.MemoryNeed
	loading := false
	p := llama.ModelParams{
		NGPULayers: llama.NoLayers, Context: llama.ContextParams{NCtx: 64},
		Progress:  func(float32) { loading = true },
		Preflight: func(n llama.MemoryNeed) error { asked = append(asked, n); return refused },
	}
	need, err := llama.EstimateMemory(context.Background(), path, p)
	require.NoError(t, err)
	require.Empty(t, asked, "an estimate is no load")

	_, err = llama.LoadModel(context.Background(), path, p)
	require.ErrorIs(t, err, refused)
	require.False(t, loading)
	require.Len(t, asked, 1)
	require.Equal(t, 64, asked[0].NCtx)
	require.Equal(t, need.Devices[0].Need(), asked[0].Devices[0].Need())
}
