package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const noLandlock = "landlock_create_ruleset=ENOSYS"

// Without Landlock a sandbox says so, and works.
func TestLandlockMissing(t *testing.T) { // 108
	for _, answer := range []string{"ENOSYS", "EPERM"} {
		o := turned(t, nil, knob{Refuse: "landlock_create_ruleset=" + answer, Command: "echo out"})
		require.Empty(t, o.Err)
		require.Equal(t, "out\n", string(o.Result.Stdout))
		require.GreaterOrEqual(t, o.Result.Level, LevelNamespaces)
		require.Len(t, o.Result.Lacks, 1)
		require.Contains(t, o.Result.Lacks[0], "landlock: ")
	}
	require.Empty(t, run(t, Config{}, "true").Lacks, "the control")
}

// 24: pid 1 is out of the payload's scope.
func TestLandlockSignals(t *testing.T) {
	const knock = "kill -0 1"
	require.Contains(t, string(run(t, Config{}, knock).Stderr), "Operation not permitted")
	o := turned(t, nil, knob{Refuse: noLandlock, Command: knock})
	require.Equal(t, 0, o.Result.ExitCode, "the control: %s", o.Result.Stderr)
	require.Equal(t, 0, run(t, Config{}, "sleep 60 & kill -0 $! && kill $!").ExitCode)
}

// What a read-only mount does not refuse: a named pipe, whose reader is of the host.
func TestLandlockReadOnlyPipe(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o666))
	require.NoError(t, os.Chmod(fifo, 0o666))
	reader, err := os.OpenFile(fifo, os.O_RDWR, 0) // keeps it open
	require.NoError(t, err)
	defer reader.Close()
	const write = "echo words > /data/fifo"
	c := Config{Binds: []Bind{{Source: dir, Target: "/data"}}}
	require.Contains(t, string(run(t, c, write).Stderr), "Permission denied")
	o := turned(t, nil, knob{Refuse: noLandlock, Binds: c.Binds, Command: write})
	require.Equal(t, 0, o.Result.ExitCode, "the control: %s", o.Result.Stderr)
	c.Binds[0].Writable = true
	require.Equal(t, 0, run(t, c, write).ExitCode)
}

// Landlock refuses to rename into another directory unless that is allowed.
func TestMoveAcrossDirectories(t *testing.T) {
	const move = `set -e
mkdir a b a/dir; echo x > a/f; echo y > a/dir/g
inode() { stat -c %i "$1"; }
f=$(inode a/f); dir=$(inode a/dir)
mv a/f b/f; mv a/dir b/dir; ln b/f a/f
[ $(inode b/f) = $f ] && [ $(inode b/dir) = $dir ] && [ $(inode a/f) = $f ] && cat b/dir/g
: > b/f; truncate -s 9 b/f; rm -r a b`
	ws, bind := t.TempDir(), t.TempDir()
	c := Config{Workspace: ws, Binds: []Bind{{Source: bind, Target: "/data", Writable: true}}}
	for _, dir := range strings.Fields("/workspace /tmp /home/user /dev/shm /data") {
		c.Dir = dir
		r := run(t, c, move)
		require.Equal(t, "y\n", string(r.Stdout), "%s: %s", dir, r.Stderr)
	}
	c = Config{Dir: "/workspace"}
	require.Equal(t, "y\n", string(run(t, c, move).Stdout))
}

// What programs do to devices and to their own /proc goes on.
func TestLandlockLeaves(t *testing.T) {
	for _, command := range []string{
		"echo x > /dev/null && echo x >> /dev/full; head -c 8 /dev/urandom > /dev/zero",
		"echo name > /proc/self/comm", "echo 1000 > /proc/self/oom_score_adj", "echo x > /dev/stdout; echo x > /dev/stderr",
		"exec 3<> <(:); echo x > /proc/self/fd/1", "script -qec 'stty size; test -t 0' /dev/null",
	} {
		r := run(t, Config{}, command)
		require.Equal(t, 0, r.ExitCode, "%s: %s", command, r.Stderr)
	}
}
