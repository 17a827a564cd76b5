package engine

import (
	"context"
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
