package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gate is a writer that lets each Write through by hand.
type gate struct {
	came chan int
	pass chan struct{}
}

func (g gate) Write(b []byte) (int, error) {
	g.came <- len(b)
	<-g.pass
	return len(b), nil
}

// What is left in the pipe at the end of a command can be gone before it is read:
// a program of the sandbox may open the pipe and read it. Exec does not wait for it.
func TestSessionOutputStolen(t *testing.T) {
	dir := t.TempDir()
	g := gate{make(chan int, 100), make(chan struct{})}
	s := opened(t, Config{Workspace: dir, Stdout: g})
	ended := make(chan error, 1)
	go func() {
		_, err := s.Exec(background(t), `bash -c 'exec 3</dev/fd/1; >ready; until [ -s go ]; do sleep 0.01; done
head -c $(<go) <&3 >stolen; mv stolen done; exec sleep 300' & until [ -e ready ]; do sleep 0.01; done; head -c 70000 /dev/zero`)
		ended <- err
	}()
	left := 70000 - <-g.came
	require.Eventually(t, func() bool {
		h := s.impl.shell
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.state == shellReady && h.call == nil
	}, 30*time.Second, time.Millisecond, "the command ends")
	time.Sleep(50 * time.Millisecond) // and Exec looks at what is left
	g.pass <- struct{}{}
	left -= <-g.came
	require.Positive(t, left)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go"), fmt.Appendln(nil, left), 0o600))
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "done"))
		return err == nil
	}, 30*time.Second, time.Millisecond, "it is stolen")
	close(g.pass)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		t.Fatal("Exec waits for what nobody will write")
	}
}

// A writer of the caller's that blocks when the command has ended holds Exec up until ctx ends.
func TestSessionWriterBlocks(t *testing.T) {
	g := gate{make(chan int, 100), make(chan struct{})}
	s := opened(t, Config{Stdout: g})
	ctx, cancel := context.WithCancel(t.Context())
	var begin time.Time
	go func() {
		<-g.came
		for h := s.impl.shell; ; time.Sleep(time.Millisecond) { // until the command has ended
			h.mu.Lock()
			over := h.state == shellReady && h.call == nil
			h.mu.Unlock()
			if over {
				break
			}
		}
		begin = time.Now()
		cancel()
	}()
	_, err := s.Exec(ctx, "echo x")
	var stream *ErrStream
	require.ErrorAs(t, err, &stream)
	require.Less(t, time.Since(begin), 5*writerPatience)
	close(g.pass)
	require.Equal(t, "alive\n", says(t, s, "echo alive"))
}
