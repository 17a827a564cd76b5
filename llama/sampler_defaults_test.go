package llama

import (
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
	"github.com/stretchr/testify/require"
)

// The defaults are those of the linked llama.cpp: of DefaultSamplerParams, and of what a zero field stands for.
func TestDefaultSamplerParamsAreLlamaCpps(t *testing.T) {
	want, err := native.SamplerDefaults()
	require.NoError(t, err)
	p := DefaultSamplerParams()
	got := p.native()
	require.Equal(t, want, *got)
	require.Equal(t, RandomSeed, got.Seed)
}
