package sandbox

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newTestPool(t *testing.T, c Config, size int) *Pool {
	t.Helper()
	p, err := NewPool(c, size)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// full waits until every place of a pool is filled.
func full(t *testing.T, p *Pool, size int) {
	t.Helper()
	require.Eventually(t, func() bool { return p.Stats().Ready == size }, deadline, time.Millisecond, "%+v", p.Stats())
}

func TestPool(t *testing.T) {
	p := newTestPool(t, Config{Env: map[string]string{"A": "1", "B": "2"}, Dir: "/tmp"}, 2)
	full(t, p, 2)
	for range 5 {
		full(t, p, 2)
		r, err := p.Run(t.Context(), Lease{}, "echo $A $B; pwd; ls -A; touch /tmp/mine; cut -d. -f1 /proc/uptime; cat >&2")
		require.NoError(t, err)
		require.Regexp(t, `^1 2\n/tmp\n[01]\n$`, string(r.Stdout), "%s", r.Stderr)
		require.Empty(t, r.Stderr)
		require.GreaterOrEqual(t, r.Level, LevelNamespaces)
	}
	r, err := p.Run(t.Context(), Lease{Env: map[string]string{"B": "3"}, Dir: "/home/user", Stdin: strings.NewReader("input")}, "echo $A $B; pwd; cat")
	require.NoError(t, err)
	require.Equal(t, "1 3\n/home/user\ninput", string(r.Stdout))
	stats := p.Stats()
	require.Equal(t, uint64(6), stats.Warm+stats.Cold)
	require.GreaterOrEqual(t, stats.Warm, uint64(5))
}

func TestPoolWorkspace(t *testing.T) {
	p := newTestPool(t, Config{}, 1)
	for range 3 {
		full(t, p, 1)
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "in"), []byte("hello"), 0o644))
		r, err := p.Run(t.Context(), Lease{Workspace: dir}, "pwd; cat in; echo out >out; ls -A")
		require.NoError(t, err)
		require.Equal(t, "/workspace\nhelloin\nout\n", string(r.Stdout), "%s", r.Stderr)
		b, err := os.ReadFile(filepath.Join(dir, "out"))
		require.NoError(t, err)
		require.Equal(t, "out\n", string(b))
	}
	require.Zero(t, p.Stats().Cold)
}

func TestPoolSession(t *testing.T) {
	p := newTestPool(t, Config{}, 1)
	dir := t.TempDir()
	s, err := p.Session(t.Context(), Lease{Workspace: dir})
	require.NoError(t, err)
	defer s.Close()
	r, err := s.Exec(t.Context(), "tty; pwd; touch x")
	require.NoError(t, err)
	require.Equal(t, "/dev/pts/0\n/workspace\n", string(r.Stdout))
	require.FileExists(t, filepath.Join(dir, "x"))
	require.Equal(t, uint64(1), p.Stats().Warm)
}

func TestPoolContext(t *testing.T) {
	p := newTestPool(t, Config{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Run(ctx, Lease{}, "true")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, p.Close())
	_, err = p.Run(t.Context(), Lease{}, "true")
	require.ErrorIs(t, err, ErrPoolClosed)
	require.ErrorIs(t, err, os.ErrClosed)
}
