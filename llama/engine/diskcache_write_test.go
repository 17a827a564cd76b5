package engine

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/stretchr/testify/require"
)

func emptyDiskCache(t *testing.T) (*diskCache, string) {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	return &diskCache{
		root: root, most: 1 << 20, kept: map[string]*diskEntry{}, log: slog.New(slog.DiscardHandler),
		queue: make(chan diskWrite, diskBacklog), done: make(chan struct{}),
	}, dir
}

// A state that is removed before it was written is not there afterwards.
func TestDiskCacheRemovesWhatWaits(t *testing.T) {
	d, dir := emptyDiskCache(t)
	stays := d.put(d.head(key{}, 0, []llama.Token{1, 2}), []byte("state"))
	goes := d.put(d.head(key{}, 0, []llama.Token{3, 4}), []byte("state"))
	require.Equal(t, stays, d.put(d.head(key{}, 0, []llama.Token{1, 2}), []byte("state")), "once")
	d.remove(goes)
	require.EqualValues(t, diskFixed+8+5, d.bytes)
	go d.write()
	require.NoError(t, d.close())
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, stays)}, names)
}

// What a process has left in the middle of a write goes, but not what another one is writing.
func TestDiskCacheRemovesOldTemporaries(t *testing.T) {
	d, dir := emptyDiskCache(t)
	old, young := filepath.Join(dir, "a.state.1.tmp"), filepath.Join(dir, "b.state.2.tmp")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	long := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(old, long, long))
	require.NoError(t, d.scan())
	require.NoFileExists(t, old)
	require.FileExists(t, young)
	require.NoError(t, d.root.Close())
}
