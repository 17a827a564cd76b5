package sandbox

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"
)

// Class C: exhaustion of the host. Each end names its limit.

func TestLimits(t *testing.T) {
	tests := []struct {
		name    string
		number  int
		limits  Limits
		command string
		limit   LimitKind
		signal  string
		code    int
		stdout  string
	}{
		{"sleep", 59, Limits{Wall: 300 * time.Millisecond}, "sleep 1000", LimitTimeout, "SIGKILL", 137, ""},
		{"ignores signals", 60, Limits{Wall: 300 * time.Millisecond}, "trap '' TERM INT HUP; while :; do sleep 99; done",
			LimitTimeout, "SIGKILL", 137, ""},
		{"busy loop", 58, Limits{CPU: time.Second}, "while :; do :; done", LimitCPU, "SIGXCPU", 152, ""},
		{"busy loop of a child", 58, Limits{CPU: time.Second}, "(while :; do :; done); exit $?", LimitCPU, "", 152, ""},
		{"busy loop ignores XCPU", 58, Limits{CPU: time.Second}, "trap '' XCPU; while :; do :; done", LimitCPU, "SIGKILL", 137, ""},
		{"memory", 51, Limits{Memory: 64 << 20}, "/opt/probe memory 80 20000", LimitMemory, "SIGKILL", 137, ""},
		{"memory of many", 52, Limits{Memory: 64 << 20},
			"for i in 1 2 3 4 5; do /opt/probe memory 20 20000 & done; wait", LimitMemory, "SIGKILL", 137, ""},
		{"shared memory", 51, Limits{Memory: 64 << 20}, "/opt/probe shared-memory 80", LimitMemory, "SIGKILL", 137, ""},
		{"busy loops of many", 58, Limits{CPU: time.Second}, "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait",
			LimitCPU, "SIGKILL", 137, ""},
		{"page tables", 51, Limits{Memory: 64 << 20}, "/opt/probe page-tables 64", LimitMemory, "SIGKILL", 137, ""},
		{"memory of an ended first thread", 51, Limits{Memory: 64 << 20}, "/opt/probe orphan-threads 80 20000", LimitMemory, "SIGKILL", 137, ""},
		{"memory while pid 1 is signalled", 51, Limits{Memory: 64 << 20},
			"for i in 1 2; do (while :; do kill -CHLD 1; done) & done; /opt/probe memory 80 20000", LimitMemory, "SIGKILL", 137, ""},
		{"memory once pid 1 is limited", 51, Limits{Memory: 64 << 20},
			"prlimit --pid 1 --nofile=1:1 2>/dev/null; /opt/probe memory 80 20000", LimitMemory, "SIGKILL", 137, ""},
		{"memory behind many pages of files", 51, Limits{Memory: 256 << 20}, `truncate -s 64M /workspace/f
			for i in 1 2 3 4 5 6 7 8; do /opt/probe map-file /workspace/f 60 > /tmp/$i & done
			until [ $(cat /tmp/? | grep -c mapped) = 8 ]; do sleep 0.05; done; /opt/probe memory 400 1500`,
			LimitMemory, "SIGKILL", 137, ""},
		{"file pages are none", 51, Limits{Memory: 16 << 20}, "cat $(ls /usr/lib/*/*.so* | head -n 400) | wc -c >/dev/null", LimitNone, "", 0, ""},
		{"memory below", 51, Limits{Memory: 256 << 20}, "/opt/probe memory 100 100", LimitNone, "", 0, "100\nok\n"},
		{"reservation", 51, Limits{Memory: 64 << 20}, "/opt/probe reserve 200", LimitNone, "", 0, "ENOMEM\n"},
		{"processes", 50, Limits{Pids: 20}, "/opt/probe processes; exit 1", LimitPids, "", 1, "EAGAIN\n"},
		{"processes survived", 50, Limits{Pids: 20}, "/opt/probe processes", LimitNone, "", 0, "EAGAIN\n"},
		{"big file", 53, Limits{Disk: 4 << 20}, "exec head -c 100M /dev/zero > /tmp/f", LimitDisk, "SIGXFSZ", 153, ""},
		{"big file of a child", 53, Limits{Disk: 4 << 20}, "head -c 100M /dev/zero > /tmp/f; exit $?", LimitDisk, "", 153, ""},
		{"many files", 53, Limits{Disk: 4 << 20},
			"for d in /tmp ~ /dev/shm /workspace; do for i in 1 2 3; do head -c 1M /dev/zero > $d/$i || exit 1; done; done",
			LimitDisk, "", 1, ""},
		{"many empty files", 54, Limits{Disk: 4 << 20}, "cd /tmp && seq 5000 | xargs touch; exit $?", LimitDisk, "", 123, ""},
		{"open files", 62, Limits{Files: 50}, "/opt/probe files; exit 1", LimitFiles, "", 1, "EMFILE\n"},
		{"exits like a busy loop", 58, Limits{}, "exit 152", LimitNone, "", 152, ""},
		{"exits like a big file", 53, Limits{}, "exit 153", LimitNone, "", 153, ""},
		{"no limit", 0, Limits{}, "exit 1", LimitNone, "", 1, ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.limit == LimitFiles && !countsOpenFiles() {
				tc.limit = LimitNone // not seen before Linux 6.2
			}
			switch tc.name {
			case "memory behind many pages of files": // all of which a group would search for one to give up
				withoutGroups(t)
			case "reservation": // which is none to a group
				withoutGroups(t)
			}
			c := probed(Config{Limits: tc.limits})
			if strings.Contains(tc.command, "/workspace/f") {
				c.Workspace = t.TempDir() // of a disk
			}
			r := run(t, c, tc.command)
			require.Equal(t, tc.code, r.ExitCode, "%s", r.Stderr)
			require.Equal(t, tc.limit, r.Limit, "%s", r.Stderr)
			require.Equal(t, tc.signal, r.Signal)
			require.Equal(t, tc.stdout, string(r.Stdout))
		})
	}
}

// The process that keeps the limits has the payload's uid.
func TestInitIsOutOfReach(t *testing.T) {
	for _, command := range []string{
		"prlimit --pid 1 --nofile=64:64", "prlimit --pid 1 --cpu=1:1", "renice -n 19 -p 1", "renice -n 19 -u user", "chrt --idle -p 0 1",
		"taskset -p 1 1", "ionice -c 3 -p 1", "ionice -c 3 -u 1000",
	} {
		t.Run(command, func(t *testing.T) {
			require.NotEqual(t, 0, run(t, Config{}, command).ExitCode)
			own := strings.NewReplacer("-p 1 1", "-p 1 $$", "-p 0 1", "-p 0 $$", "-p 1", "-p $$", "--pid 1", "--pid $$").Replace(command)
			if own != command {
				r := run(t, Config{}, own)
				require.Equal(t, 0, r.ExitCode, "%s: %s", own, r.Stderr)
			}
		})
	}
}

// countsOpenFiles says whether the kernel gives their number as the size of the directory.
func countsOpenFiles() bool {
	st, err := os.Stat("/proc/self/fd")
	return err == nil && st.Size() > 0
}

// awaitWriter closes found once what it waits for has been written.
type awaitWriter struct {
	want  string
	seen  []byte
	once  sync.Once
	found chan struct{}
}

func await(want string) *awaitWriter { return &awaitWriter{want: want, found: make(chan struct{})} }

func (w *awaitWriter) Write(b []byte) (int, error) {
	if w.seen = append(w.seen, b...); bytes.Contains(w.seen, []byte(w.want)) {
		w.once.Do(func() { close(w.found) })
	}
	return len(b), nil
}

func TestForkBomb(t *testing.T) { // 50
	full := await("Resource temporarily unavailable")
	c := Config{Limits: Limits{Pids: 64}, Stderr: full}
	p, err := Start(background(t), c, "bash", "-c", "bomb() { bomb | bomb & }; bomb; sleep 60")
	require.NoError(t, err)
	<-full.found
	killed := time.Now()
	p.Kill()
	r, err := p.Wait()
	require.NoError(t, err)
	require.Less(t, time.Since(killed), deadline)
	require.Equal(t, "SIGKILL", r.Signal)
}

func TestOutput(t *testing.T) { // 56
	const limit = 10_000
	long := Config{Limits: Limits{Output: limit}}
	t.Run("dropped", func(t *testing.T) {
		r := run(t, long, "yes | head -c 10000000; echo $? ${PIPESTATUS[0]} >&2; exit 7")
		require.Equal(t, 7, r.ExitCode, "the command did not notice")
		require.Equal(t, LimitNone, r.Limit)
		require.True(t, r.StdoutTruncated)
		require.Equal(t, strings.Repeat("y\n", limit/2), string(r.Stdout))
		require.False(t, r.StderrTruncated)
		require.Equal(t, "0 141\n", string(r.Stderr))
	})
	t.Run("dropped until the timeout", func(t *testing.T) {
		c := long
		c.Limits.Wall = time.Second
		r := run(t, c, "yes >&2")
		require.Equal(t, LimitTimeout, r.Limit)
		require.Len(t, r.Stderr, limit)
		require.LessOrEqual(t, cap(r.Stderr), 4*limit+64<<10, "what is dropped is not held")
		require.True(t, r.StderrTruncated)
		require.Empty(t, r.Stdout)
	})
	t.Run("stopped", func(t *testing.T) {
		c := long
		c.StopAtOutput = true
		r := run(t, c, "yes")
		require.Equal(t, LimitOutput, r.Limit)
		require.Equal(t, "SIGKILL", r.Signal)
		require.Len(t, r.Stdout, limit)
		require.Less(t, r.Duration, DefaultWall)
	})
	t.Run("exactly", func(t *testing.T) {
		r := run(t, long, "yes | head -c 10000")
		require.False(t, r.StdoutTruncated)
		require.Len(t, r.Stdout, limit)
	})
	t.Run("live and whole", func(t *testing.T) {
		var out, errs bytes.Buffer
		c := long
		c.Stdout, c.Stderr = &out, &errs
		r := run(t, c, "yes | head -c 50000; echo e >&2")
		require.Equal(t, 50000, out.Len())
		require.Len(t, r.Stdout, limit)
		require.Equal(t, "e\n", errs.String())
	})
}

type brokenWriter struct{ after int }

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.after--; w.after < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(b), nil
}

func TestLiveStreamFails(t *testing.T) { // 57
	r, err := Run(t.Context(), Config{Stdout: &brokenWriter{}}, "echo a; sleep 0.1; echo b; exit 3")
	var stream *ErrStream
	require.ErrorAs(t, err, &stream)
	require.Equal(t, "Stdout", stream.Stream)
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.Equal(t, 3, r.ExitCode)
	require.Equal(t, "a\nb\n", string(r.Stdout))
}

// slowWriter blocks until it is released.
type slowWriter struct{ release chan struct{} }

func (w slowWriter) Write(b []byte) (int, error) { <-w.release; return len(b), nil }

func TestLiveStreamHoldsUp(t *testing.T) { // 57
	w := slowWriter{make(chan struct{})}
	ws := t.TempDir()
	p, err := Start(background(t), Config{Workspace: ws, Stdout: w}, "bash", "-c", "head -c 1M /dev/zero; touch done")
	require.NoError(t, err)
	time.Sleep(200 * time.Millisecond) // had it not been held up, it would be done
	_, err = os.Stat(filepath.Join(ws, "done"))
	require.ErrorIs(t, err, os.ErrNotExist)
	close(w.release)
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 0, r.ExitCode)
	require.Len(t, r.Stdout, 1<<20)
}

func TestLiveStreamBlocksForEver(t *testing.T) { // 57
	w := slowWriter{make(chan struct{})}
	defer close(w.release) // or its goroutine would stay
	begin := time.Now()
	r, err := Run(t.Context(), Config{Stdout: w, Limits: Limits{Wall: time.Second}}, "echo kept; sleep 300")
	var stream *ErrStream
	require.ErrorAs(t, err, &stream)
	require.Equal(t, "Stdout", stream.Stream)
	require.Less(t, time.Since(begin), 5*writerPatience)
	require.Equal(t, LimitTimeout, r.Limit)
	require.Equal(t, "kept\n", string(r.Stdout))
}

func TestInputFails(t *testing.T) {
	input := io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(io.ErrNoProgress))
	r, err := Run(t.Context(), Config{Stdin: input}, "cat")
	var stream *ErrStream
	require.ErrorAs(t, err, &stream)
	require.Equal(t, "Stdin", stream.Stream)
	require.ErrorIs(t, err, io.ErrNoProgress)
	require.Equal(t, "a\n", string(r.Stdout))
}
