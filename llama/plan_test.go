package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func TestEstimateMemory(t *testing.T) {
	for _, ref := range []string{"default", "gemma3-270m"} {
		path, err := modelPath(ref)
		require.NoError(t, err)
		need, err := llama.EstimateMemory(t.Context(), path, llama.ModelParams{})
		require.NoError(t, err)
		t.Logf("%+v", need)
	}
}
