//go:build long

package llama_test

import (
	"path/filepath"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// Q5_1 has no fast matrix product on x86, Q8_0 has, and loses nothing that a text shows. The default model's Q4_1 has ours.
func TestTuneDefaultModel(t *testing.T) {
	path, err := modelPath("default")
	require.NoError(t, err)
	slow := filepath.Join(t.TempDir(), "slow.gguf")
	require.NoError(t, llama.Quantize(t.Context(), path, slow, llama.QuantizeParams{Type: "Q5_1", AllowRequantize: true}))
	tune := func(path string) *llama.TuneResult {
		r, err := llama.Tune(t.Context(), path, llama.TuneParams{Dir: t.TempDir(), MinDecode: 0.5, Progress: func(stage string) { t.Log(stage) }})
		require.NoError(t, err)
		t.Logf("file: %+v", r.File)
		for _, c := range r.Candidates {
			t.Logf("%+v", c)
		}
		require.Equal(t, "Q8_0", r.Candidates[0].Type)
		require.LessOrEqual(t, r.Candidates[0].Loss, 0.001)
		require.Greater(t, r.Candidates[1].Loss, 0.1, "Q4_0")
		return r
	}
	r := tune(slow)
	require.Equal(t, "Q8_0", r.Type)
	require.GreaterOrEqual(t, r.Candidates[0].PrefillGain, 1.3)
	require.Empty(t, tune(path).Type, "nothing is faster than the file")
}
