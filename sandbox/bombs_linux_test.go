package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// until repeats a line of python until it fails, and then says so and goes on trying.
func until(prepare, line string) string {
	return fmt.Sprintf(`exec python3 -c '
import os, select, socket, ctypes
libc = ctypes.CDLL(None)
kept, told = [], False
def check(fd):
    if fd < 0: raise OSError
    return fd
%s
while True:
    try: %s
    except OSError:
        if not told: print("full", flush=True)
        told = True
'`, prepare, line)
}

const (
	fillPipe   = "def fill():\n    r, w = os.pipe(); os.set_blocking(w, False); kept.append((r, w))\n    try: os.write(w, bytes(1 << 20))\n    except BlockingIOError: pass"
	fillSocket = "def fill():\n    a, b = socket.socketpair(); a.setblocking(False); kept.append((a, b))\n    try:\n        while True: a.send(bytes(1 << 15))\n    except BlockingIOError: pass"
)

// bombs never end by themselves. Each says "full" once it has gone off.
var bombs = []struct {
	number  int
	name    string
	command string
	limits  Limits
}{
	{50, "processes", "exec 2> >(while read -r; do echo full; done); bomb() { bomb | bomb & }; bomb; sleep 1000", Limits{Pids: 64}},
	{51, "memory", `python3 -c 'a = bytes(1 << 20) * 1000'; echo full; sleep 1000`, Limits{Memory: 64 << 20}},
	{52, "memory of many", "for i in {1..40}; do python3 -c 'a = b\"x\" * (8 << 20); import time; time.sleep(1000)' & done; sleep 0.5; echo full; wait", Limits{Memory: 128 << 20}},
	{53, "disk", "while i=$((i+1)); do head -c 2M /dev/zero > /tmp/$i || echo full; done", Limits{Disk: 16 << 20}},
	{53, "reserved disk", "fallocate -l 1T /tmp/f || truncate -s 1T /tmp/f || echo full; sleep 1000", Limits{Disk: 16 << 20}},
	{54, "inodes", "cd /tmp; while :; do : > $((i++)) || echo full; done 2>/dev/null", Limits{Disk: 4 << 20}},
	{56, "output", "yes full", Limits{Output: 1 << 10}},
	{58, "processors", "for i in {1..64}; do (while :; do :; done) & done; echo full; wait", Limits{}},
	{62, "files", until("", `kept.append(os.open("/dev/null", 0))`), Limits{Files: 100}},
	{62, "pipes", until(fillPipe, "fill()"), Limits{Files: 200}},
	{62, "sockets", until(fillSocket, "fill()"), Limits{Files: 100}},
	{62, "inotify", until("", "kept.append(check(libc.inotify_init()))"), Limits{}},
	{62, "epoll", until("", "kept.append(select.epoll())"), Limits{Files: 100}},
	{62, "timers", until("", "kept.append(check(libc.timerfd_create(1, 0)))"), Limits{Files: 100}},
	{68, "disk operations", "(sleep 0.2; echo full) & while :; do dd if=/dev/zero of=/workspace/f bs=1M count=8 oflag=direct; done 2>/dev/null", Limits{}},
}

// The host answers while a bomb goes off, and nothing is left of it after the end.
func TestBombs(t *testing.T) {
	for _, level := range []Level{LevelNamespaces, LevelCgroup} {
		t.Run(level.String(), func(t *testing.T) {
			if level == LevelCgroup {
				needGroup(t)
			} else {
				withoutGroups(t)
			}
			t.Run("all", func(t *testing.T) { // returns when the last of them has
				for _, b := range bombs {
					t.Run(fmt.Sprint(b.number, " ", b.name), func(t *testing.T) {
						t.Parallel()
						ws := t.TempDir()
						full := await("full")
						p, err := Start(background(t), Config{Workspace: workspaceOf(b.command, ws), Limits: b.limits, Stdout: full}, "bash", "-c", b.command)
						require.NoError(t, err)
						ended := make(chan Result, 1)
						go func() {
							r, _ := p.Wait()
							ended <- r
						}()
						select {
						case <-full.found:
						case r := <-ended:
							require.Equal(t, LimitMemory, r.Limit, "%s", r.Stderr)
							ended <- r
						case <-time.After(30 * time.Second):
							p.Kill()
							t.Fatal("it did not go off")
						}
						ctx, cancel := context.WithTimeout(t.Context(), deadline)
						defer cancel()
						require.NoError(t, exec.CommandContext(ctx, "true").Run(), "the host")
						killed := time.Now()
						p.Kill()
						r := <-ended
						require.Less(t, time.Since(killed), 6*deadline, "with all the others")
						require.Equal(t, "SIGKILL", r.Signal)
						require.Equal(t, level, r.Level)
					})
				}
			})
			groupsGo(t)
		})
	}
}

func workspaceOf(command, ws string) string {
	if strings.Contains(command, "/workspace") {
		return ws
	}
	return ""
}

// ownGroups are the control groups that a process has made.
func ownGroups(t *testing.T, pid int) []string {
	t.Helper()
	var found []string
	for _, depth := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		dirs, err := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/%s/lm-sandbox.*.%d.*", depth, pid))
		require.NoError(t, err)
		found = append(found, dirs...)
	}
	return found
}

// groupsGo waits until this process has no control group: Wait may return before the kernel is done.
func groupsGo(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return len(ownGroups(t, os.Getpid())) == 0 }, patience, time.Millisecond)
}
