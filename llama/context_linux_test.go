package llama_test

import (
	"os"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

// TestContextLeavesNothing: a context has a thread, the thread a team of
// ggml's, and a pipe; all of them go with it.
func TestContextLeavesNothing(t *testing.T) {
	m := fixtureModel(t)
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		return len(entries)
	}
	round := func() {
		c, err := llama.NewContext(m, llama.ContextParams{NCtx: 64, NThreads: 3})
		require.NoError(t, err)
		b := llama.NewBatch(1)
		_, err = b.Add(m.Vocab().BOS(), 0, 0, true)
		require.NoError(t, err)
		require.NoError(t, c.Decode(b))
		require.NoError(t, c.Close())
	}
	round() // Go's own threads and poller
	threads, files := count("/proc/self/task"), count("/proc/self/fd")
	const rounds = 10
	for range rounds {
		round()
	}
	require.Less(t, count("/proc/self/task"), threads+rounds, "threads")
	require.Equal(t, files, count("/proc/self/fd"), "files")
}
