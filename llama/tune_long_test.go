//go:build long

package llama_test

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// The default model's Q4_1 has no fast matrix product on x86, Q8_0 has, and loses nothing that a text shows.
func TestTuneDefaultModel(t *testing.T) {
	path, err := modelPath("default")
	require.NoError(t, err)
	r, err := llama.Tune(t.Context(), path, llama.TuneParams{Dir: t.TempDir(), Progress: func(stage string) { t.Log(stage) }})
	require.NoError(t, err)
	t.Logf("file: %+v", r.File)
	for _, c := range r.Candidates {
		t.Logf("%+v", c)
	}
	require.Equal(t, "Q8_0", r.Type)
	require.GreaterOrEqual(t, r.Candidates[0].PrefillGain, 2.0)
}
