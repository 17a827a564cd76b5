package llama_test

import (
	"os"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
	"github.com/stretchr/testify/require"
)

func init() {
	// what package llama refuses, given to llama.cpp all the same
	children["abort"] = func() error {
		if err := native.Init(); err != nil {
			return err
		}
		path := os.Getenv("LLAMA_TEST_MODEL")
		m, err := native.LoadModel(path, native.ModelParams{LoadMode: -1}, native.Plan{}, nil)
		if err != nil {
			return err
		}
		_, _, err = native.NewContext(m, native.ContextParams{NCtx: 64, NBatch: 4, NUBatch: 4, NSeqMax: 8, NThreads: 1, NThreadsBatch: 1, TypeK: 1, TypeV: 1})
		return err
	}
}

// A check that fails inside llama.cpp still ends the process, but says which.
func TestAbortSaysWhy(t *testing.T) {
	out, err := child(t, "abort", time.Minute, "LLAMA_TEST_MODEL="+fixture.Llama(1).Write(t))
	require.Error(t, err)
	require.Contains(t, out, "llama.cpp: fatal: ")
	require.Contains(t, out, "GGML_ASSERT(")
}
