package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// streams are stdout and stderr of one command.
type streams struct {
	taps     [2]*tap
	full     chan struct{} // closed when one is longer than it may be and that ends the command
	stopping chan struct{} // closed by stop
	stop     func()        // the command is being stopped, or nobody waits any longer
}

// tap reads one of them. While the command runs, this process has the pipe open
// for writing too, so that it does not end before the shell has opened it.
type tap struct {
	capture     *capture
	read, write *os.File
}

// newStreams takes over the two ends of each pipe.
func newStreams(c Config, output int64, files []*os.File) *streams {
	t := &streams{full: make(chan struct{}), stopping: make(chan struct{})}
	t.stop = sync.OnceFunc(func() { close(t.stopping) })
	var once sync.Once
	full := func() {
		if c.StopAtOutput {
			once.Do(func() { close(t.full) })
		}
	}
	for i, name := range []string{"Stdout", "Stderr"} {
		live := c.Stdout
		if i == 1 {
			live = c.Stderr
		}
		t.taps[i] = &tap{newCapture(name, output, live, full), files[2*i], files[2*i+1]}
		go t.taps[i].drain()
	}
	return t
}

// drain reads while the command runs, then what is left of it, and then throws
// away what its background processes write, until the last of them is gone.
func (t *tap) drain() {
	defer t.read.Close()
	buf := make([]byte, 32<<10)
	wanted := true
	for wanted {
		n, err := t.read.Read(buf)
		if n > 0 {
			wanted = t.capture.take(buf[:n])
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			close(t.capture.done)
			return
		}
	}
	for left := t.waiting(); wanted && left > 0; {
		n := t.readNow(buf[:min(left, len(buf))])
		if n <= 0 {
			break // a process of the sandbox can open the pipe too, and has read it
		}
		wanted = t.capture.take(buf[:n])
		left -= n
	}
	close(t.capture.done)
	_ = t.read.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, t.read)
}

// waiting is how much is in the pipe.
func (t *tap) waiting() (n int) {
	raw, err := t.read.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// readNow reads what is in the pipe and does not wait.
func (t *tap) readNow(b []byte) (n int) {
	raw, err := t.read.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), b) })
	}
	return n
}

// finish is called when the command has ended: all that it has written is in the pipes.
func (s *streams) finish(r *ExecResult) error {
	for _, t := range s.taps {
		t.write.Close()
		_ = t.read.SetReadDeadline(time.Now())
	}
	for _, t := range s.taps {
		t.capture.await(s.stopping)
	}
	out, errs := s.taps[0].capture, s.taps[1].capture
	r.Stdout, r.StdoutTruncated = out.kept, out.truncated
	r.Stderr, r.StderrTruncated = errs.kept, errs.truncated
	return errors.Join(out.liveErr, errs.liveErr)
}
