package llama_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

// A quantised model is smaller, and says nearly the same.
func TestQuantize(t *testing.T) {
	in := fixture.Llama(2).Write(t)
	out := filepath.Join(t.TempDir(), "out.gguf")
	require.NoError(t, os.WriteFile(out, []byte("before"), 0o600))
	steps := 0
	require.NoError(t, llama.Quantize(t.Context(), in, out, llama.QuantizeParams{Type: "q8_0", Progress: func(f float32) {
		steps++
		require.GreaterOrEqual(t, f, float32(0))
		require.Less(t, f, float32(1))
	}}))
	require.Greater(t, steps, 10)
	require.NoError(t, llama.Verify(out))
	logits := func(path string) []float32 {
		m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, m.Close()) })
		c := newContext(t, m, llama.ContextParams{NCtx: 64})
		require.NoError(t, c.Decode(batchOf(t, []llama.Token{5, 6, 7, 8}, 0, 0)))
		l, err := c.Logits(3)
		require.NoError(t, err)
		return l
	}
	before, after := logits(in), logits(out)
	require.Less(t, farthest(before, after), 0.1)
	require.Greater(t, farthest(before, after), 0.0)
	a, err := os.Stat(in)
	require.NoError(t, err)
	b, err := os.Stat(out)
	require.NoError(t, err)
	require.Less(t, b.Size(), a.Size())
	requireAlone(t, out)

	again := filepath.Join(t.TempDir(), "again.gguf")
	require.ErrorIs(t, llama.Quantize(t.Context(), out, again, llama.QuantizeParams{Type: "Q4_0"}), llama.ErrInvalidParam)
	require.NoError(t, llama.Quantize(t.Context(), out, again, llama.QuantizeParams{Type: "Q4_0", AllowRequantize: true, NThreads: 1}))
	require.NoError(t, llama.Verify(again))
}

// requireAlone looks for what a file's making has left beside it.
func requireAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

// What goes wrong leaves the output as it was.
func TestQuantizeRefused(t *testing.T) {
	in := fixture.Llama(1).Write(t)
	out := filepath.Join(t.TempDir(), "out.gguf")
	require.NoError(t, os.WriteFile(out, []byte("before"), 0o600))
	link := filepath.Join(t.TempDir(), "link.gguf")
	require.NoError(t, os.Symlink(in, link))
	broken := filepath.Join(t.TempDir(), "broken.gguf")
	require.NoError(t, os.WriteFile(broken, fixture.Llama(1).Bytes()[:10000], 0o600))
	done, cancel := context.WithCancel(t.Context())
	cancel()
	later, cancelLater := context.WithCancel(t.Context())
	defer cancelLater()
	for name, c := range map[string]struct {
		ctx     context.Context
		in, out string
		p       llama.QuantizeParams
		want    error
	}{
		"unknown type":     {t.Context(), in, out, llama.QuantizeParams{Type: "Q9"}, llama.ErrInvalidParam},
		"no type":          {t.Context(), in, out, llama.QuantizeParams{}, llama.ErrInvalidParam},
		"threads":          {t.Context(), in, out, llama.QuantizeParams{Type: "Q8_0", NThreads: -1}, llama.ErrInvalidParam},
		"same file":        {t.Context(), in, in, llama.QuantizeParams{Type: "Q8_0"}, llama.ErrInvalidParam},
		"the same, a link": {t.Context(), in, link, llama.QuantizeParams{Type: "Q8_0"}, llama.ErrInvalidParam},
		"no input":         {t.Context(), "/no/such", out, llama.QuantizeParams{Type: "Q8_0"}, os.ErrNotExist},
		"no directory":     {t.Context(), in, "/no/such/out", llama.QuantizeParams{Type: "Q8_0"}, os.ErrNotExist},
		"broken input":     {t.Context(), broken, out, llama.QuantizeParams{Type: "Q8_0"}, llama.ErrModelFormat},
		"an adapter":       {t.Context(), fixture.LoRA(1).Write(t), out, llama.QuantizeParams{Type: "Q8_0"}, llama.ErrModelFormat},
		"cancelled before": {done, in, out, llama.QuantizeParams{Type: "Q8_0"}, context.Canceled},
		"cancelled within": {later, in, out, llama.QuantizeParams{Type: "Q8_0", Progress: func(f float32) {
			if f > 0.3 {
				cancelLater()
			}
		}}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, llama.Quantize(c.ctx, c.in, c.out, c.p), c.want)
			b, err := os.ReadFile(out)
			require.NoError(t, err)
			require.Equal(t, "before", string(b))
			requireAlone(t, out)
		})
	}
	err := llama.Quantize(t.Context(), in, out, llama.QuantizeParams{Type: "Q8_0", Progress: func(float32) { panic("no") }})
	require.ErrorContains(t, err, "panicked")
	requireAlone(t, out)
	require.Error(t, llama.Quantize(t.Context(), in, t.TempDir(), llama.QuantizeParams{Type: "Q8_0"}), "a directory")
}
