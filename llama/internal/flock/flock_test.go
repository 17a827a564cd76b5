//go:build linux || darwin

package flock_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/flock"
)

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := flock.Lock(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, err := flock.Lock(ctx, path)
		waited <- err
	}()
	cancel()
	require.ErrorIs(t, <-waited, context.Canceled)
	unlock()
	unlock, err = flock.Lock(t.Context(), path)
	require.NoError(t, err)
	unlock()
	_, err = flock.Lock(t.Context(), filepath.Join(path, "in a file"))
	require.Error(t, err)
}
