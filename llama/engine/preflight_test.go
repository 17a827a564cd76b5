package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// preflight records what it is asked and answers with err.
type preflight struct {
	err   error
	asked []llama.MemoryNeed
	ctx   context.Context
}

func (p *preflight) CheckModel(ctx context.Context, need llama.MemoryNeed) error {
	p.asked, p.ctx = append(p.asked, need), ctx
	return p.err
}

func TestPreflight(t *testing.T) {
	m, err := hub.Pull(t.Context(), "", hub.Options{})
	require.NoError(t, err)
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "mine")
	loading := false
	params := func(p *preflight) engine.Params {
		loading = false
		return engine.Params{NCtx: 512, NThreads: 1, Preflight: p, Model: llama.ModelParams{
			NGPULayers: llama.NoLayers, Progress: func(float32) { loading = true },
		}}
	}

	refusing := &preflight{err: errors.New("no GPU")}
	e, err := engine.Open(ctx, m.Path, params(refusing))
	assert.Nil(t, e)
	require.ErrorIs(t, err, refusing.err)
	assert.False(t, loading, "the model was loaded before it was asked")
	require.Len(t, refusing.asked, 1)
	need := refusing.asked[0]
	assert.Equal(t, m.Path, need.Path)
	assert.Equal(t, 512, need.NCtx)
	assert.NotEmpty(t, need.Devices)
	assert.Equal(t, "mine", refusing.ctx.Value(key{}))

	content := &preflight{}
	e, err = engine.Open(ctx, m.Path, params(content))
	require.NoError(t, err)
	assert.True(t, loading)
	assert.Len(t, content.asked, 1)
	assert.Equal(t, content.asked[0].Devices[0].Context, e.Model().MemoryNeed().Devices[0].Context)
	require.NoError(t, e.Close())

	// A file that is no model, or not there, is no question of devices.
	unasked := &preflight{err: errors.New("no GPU")}
	_, err = engine.Open(ctx, filepath.Join(t.TempDir(), "missing.gguf"), params(unasked))
	require.ErrorIs(t, err, fs.ErrNotExist)
	assert.Empty(t, unasked.asked)
}
