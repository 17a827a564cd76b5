package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
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
	require.Eventually(t, func() bool { return p.Stats().Ready == size }, patience, time.Millisecond, "%+v", p.Stats())
}

func TestPool(t *testing.T) {
	begin := time.Now()
	p := newTestPool(t, Config{Env: map[string]string{"A": "1", "B": "2"}, Dir: "/tmp"}, 2)
	full(t, p, 2)
	for range 5 {
		full(t, p, 2)
		r, err := p.Run(t.Context(), Lease{}, "echo $A $B; pwd; ls -A; touch /tmp/mine; cut -d. -f1 /proc/uptime; cat >&2")
		require.NoError(t, err)
		out, found := strings.CutPrefix(string(r.Stdout), "1 2\n/tmp\n")
		require.True(t, found, "%s%s", r.Stdout, r.Stderr)
		up, err := strconv.Atoi(strings.TrimSpace(out))
		require.NoError(t, err)
		require.LessOrEqual(t, float64(up), time.Since(begin).Seconds()+1, "its clock begins with it, at a whole second")
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

// Nothing of a lease is there for the next one, whoever it is.
func TestPoolTenants(t *testing.T) {
	p := newTestPool(t, Config{}, 2)
	secret := t.TempDir()
	const leave = "for d in /tmp /dev/shm /home/user /workspace; do echo secret >$d/left; done; export LEFT=1; sleep 300 & set -m; sleep 300 & true"
	_, err := p.Run(t.Context(), Lease{Workspace: secret, Env: map[string]string{"TOKEN": "secret"}}, leave)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(secret, "left"), "the control")
	for range 4 {
		r, err := p.Run(t.Context(), Lease{}, "ls -A /tmp /dev/shm /home/user /workspace | grep -v :; env | grep -e TOKEN -e LEFT; grep -h workspace /proc/mounts | wc -l; ls -d /proc/[0-9]*")
		require.NoError(t, err)
		require.NotContains(t, string(r.Stdout), "left")
		require.NotContains(t, string(r.Stdout), "TOKEN")
		require.Contains(t, string(r.Stdout), "\n1\n/proc/1\n/proc/2\n", "one workspace, its own, and only its own processes")
	}
}

// Directories of others come by an idmapped mount, and nothing in them is chowned.
func TestPoolOwners(t *testing.T) {
	needRoot(t)
	p := newTestPool(t, Config{}, 1)
	for _, owner := range []int{0, ordinaryID, 4242, 0} {
		full(t, p, 1)
		dir := t.TempDir()
		require.NoError(t, os.Chown(dir, owner, owner))
		r, err := p.Run(t.Context(), Lease{Workspace: dir}, "id -u; stat -c %u . && echo x >new && stat -c %u new")
		require.NoError(t, err)
		require.Equal(t, "1000\n1000\n1000\n", string(r.Stdout), "%s", r.Stderr)
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(dir, "new"), &st))
		require.Equal(t, uint32(owner), st.Uid)
	}
	require.Zero(t, p.Stats().Cold)
	_, err := p.Run(t.Context(), Lease{Workspace: "/etc"}, "true")
	var config *ErrConfig
	require.ErrorAs(t, err, &config)
	require.Equal(t, "Workspace", config.Field)
}

// What was mounted since a sandbox was built is not what it would find at the path.
func TestPoolStaleWorkspace(t *testing.T) {
	p := newTestPool(t, Config{}, 1)
	s := p.impl.take()
	dir, other := t.TempDir(), t.TempDir()
	file, err := os.Open(other)
	require.NoError(t, err)
	defer file.Close()
	j := &job{begin: time.Now(), request: &proto.Request{}}
	j.limits, err = Limits{}.withDefaults()
	require.NoError(t, err)
	j.request.Run, err = j.config.run(j.limits, "/bin/bash", []string{"bash", "-c", "touch ran"})
	require.NoError(t, err)
	j.request.Late = []proto.Op{{Kind: proto.OpBind, Path: "workspace", Source: dir, Flags: proto.BindSame}}
	_, err = s.start(t.Context(), j, file)
	require.ErrorIs(t, err, errCold)
	for _, d := range []string{dir, other} {
		require.NoFileExists(t, filepath.Join(d, "ran"))
	}
}

// A sandbox that dies while it waits is replaced.
func TestPoolDeath(t *testing.T) {
	p := newTestPool(t, Config{}, 2)
	full(t, p, 2)
	p.impl.mu.Lock()
	for _, s := range p.impl.ready {
		require.NoError(t, s.process.cmd.Process.Kill())
	}
	p.impl.mu.Unlock()
	require.Eventually(t, func() bool { s := p.Stats(); return s.Died == 2 && s.Ready == 2 }, patience, time.Millisecond)
	r, err := p.Run(t.Context(), Lease{}, "echo alive")
	require.NoError(t, err)
	require.Equal(t, "alive\n", string(r.Stdout))
}

// A host that refuses for a while: commands say why, and the pool recovers.
func TestPoolRefill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "helper")
	require.NoError(t, os.WriteFile(path, helper.Binary(), 0o755))
	_, err := NewPool(Config{HelperPath: path + "-none"}, 1)
	var config *ErrConfig
	require.ErrorAs(t, err, &config)

	p := newTestPool(t, Config{HelperPath: path}, 1)
	require.NoError(t, os.Rename(path, path+"-away"))
	_, err = p.Run(t.Context(), Lease{}, "true") // the one that was ready
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Stats().Failed > 0 }, patience, time.Millisecond)
	require.ErrorAs(t, p.Stats().LastError, &config)
	_, err = p.Run(t.Context(), Lease{}, "true")
	require.ErrorAs(t, err, &config)
	require.NoError(t, os.Rename(path+"-away", path))
	full(t, p, 1)
	require.Less(t, p.Stats().Failed, uint64(20), "it rests between attempts")
}

// Leases, cancelled ones, sessions and the end of the pool, all at once.
func TestPoolRace(t *testing.T) {
	p := newTestPool(t, Config{}, 3)
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Millisecond)
			defer cancel()
			if i%3 == 0 {
				ctx = t.Context()
			}
			r, err := p.Run(ctx, Lease{Workspace: dir, Stdin: strings.NewReader("in")}, "cat")
			if err == nil {
				assert.Equal(t, "in", string(r.Stdout), "whole, warm or cold")
			} else if !errors.Is(err, context.DeadlineExceeded) {
				assert.ErrorIs(t, err, ErrPoolClosed)
			}
		})
	}
	all.Go(func() {
		time.Sleep(30 * time.Millisecond)
		assert.NoError(t, p.Close())
		assert.Zero(t, p.Stats().Ready)
	})
	all.Wait()
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
