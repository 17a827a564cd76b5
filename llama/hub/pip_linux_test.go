package hub

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPipCancelled(t *testing.T) {
	x, dir := newTiny(t), t.TempDir()
	pidFile := filepath.Join(x.bin, "pid")
	// The sleep is a process of pip's own, which must not outlive it.
	x.script(t, "pip", fmt.Sprintf("[ $1 = --version ] && exit 0\n/bin/sleep 1000 & echo $! > %q.new; /bin/mv %q.new %q; wait", pidFile, pidFile, pidFile))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	p := testPuller(t, Options{Dir: dir, Endpoint: nowhere, Progress: func(Progress) {}})
	t.Setenv("PATH", x.bin)
	go func() {
		_, err := p.pull(ctx, reference{text: "tiny", known: &x.known})
		failed <- err
	}()
	var pid int
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	}, 30*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.Eventually(t, func() bool { return ended(pid) }, 25*time.Second, 5*time.Millisecond)
	require.Empty(t, leftIn(t, dir))
}

// ended reports whether a process is gone or waits to be reaped, which in a container may be forever.
func ended(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return true
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}
