package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// A cache that cannot fit is refused by Open, model and context counted together, before the model is loaded.
func TestOpenBeyondMemory(t *testing.T) {
	model, err := hub.Pull(context.Background(), "default", hub.Options{})
	require.NoError(t, err)
	loaded := false
	p := Params{NCtx: 1 << 30}
	p.Model.Progress = func(float32) { loaded = true }
	_, err = Open(t.Context(), model.Path, p)
	var im *llama.ErrInsufficientMemory
	require.ErrorAs(t, err, &im)
	require.Equal(t, "model", im.What)
	require.Greater(t, im.Need, im.Free)
	require.False(t, loaded)

	p.NCtx = 512
	e, err := Open(t.Context(), model.Path, p)
	require.NoError(t, err)
	require.True(t, loaded)
	require.Equal(t, 512, e.Model().MemoryNeed().NCtx)
	require.NoError(t, e.Close())
}

// A context that had to be made shorter than the model's is told to the log.
func TestOpenShortensContext(t *testing.T) {
	model, err := hub.Pull(context.Background(), "default", hub.Options{})
	require.NoError(t, err)
	data, err := os.ReadFile(model.Path)
	require.NoError(t, err)
	const key = "llama.context_length"
	at := bytes.Index(data, []byte(key)) + len(key) + 4 // behind the type
	require.EqualValues(t, 8192, binary.LittleEndian.Uint32(data[at:]))
	binary.LittleEndian.PutUint32(data[at:], 1<<30) // 23 TiB of cache
	path := filepath.Join(t.TempDir(), "long.gguf")
	require.NoError(t, os.WriteFile(path, data, 0o600))

	var log bytes.Buffer
	e, err := Open(t.Context(), path, Params{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Equal(t, 4096, e.Model().MemoryNeed().NCtx)
	require.NoError(t, e.Close())
	require.Contains(t, log.String(), "n_ctx=4096 n_ctx_train=1073741824")
}
