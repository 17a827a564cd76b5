package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// capture reads one stream of a command to its end. It keeps the first limit
// bytes, drops the rest, and passes everything on to live while that takes it.
type capture struct {
	name  string
	limit int64
	live  io.Writer // or nil
	full  func()    // called once, when the stream is longer than limit
	done  chan struct{}

	mu        sync.Mutex
	kept      []byte
	truncated bool
	liveErr   error
	abandoned bool // nobody waits for it: what it has is final
}

func newCapture(name string, limit int64, live io.Writer, full func()) *capture {
	return &capture{name: name, limit: limit, live: live, full: full, done: make(chan struct{})}
}

const (
	smallBuffer = 32 << 10
	// bigBuffer is also the size of the pipe of a command that writes much: each
	// change from one process to the other costs as much as some 10 KB.
	bigBuffer = 256 << 10
)

func (c *capture) drain(f *os.File) {
	defer close(c.done)
	defer f.Close()
	buf := make([]byte, smallBuffer)
	for total := 0; !c.dropsAll(); {
		n, err := f.Read(buf)
		if n > 0 && !c.take(buf[:n]) || err != nil {
			return
		}
		if total += n; total >= bigBuffer && len(buf) == smallBuffer {
			buf = make([]byte, bigBuffer)
			widen(f)
		}
	}
	drop(f, buf)
}

// dropsAll says that nobody wants any more of the stream.
func (c *capture) dropsAll() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.truncated && c.live == nil
}

// widen is in vain where the user has too much in pipes already.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, bigBuffer) })
	}
}

// drop reads a pipe to its end, without copying what is in it where that can be had.
func drop(pipe *os.File, buf []byte) {
	if null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0); err == nil {
		spliceAll(pipe, int(null.Fd()))
		null.Close()
	}
	for {
		if _, err := pipe.Read(buf); err != nil {
			return
		}
	}
}

func spliceAll(pipe *os.File, to int) {
	raw, err := pipe.SyscallConn()
	for n := int64(1); err == nil && n > 0; {
		err = raw.Read(func(fd uintptr) bool {
			var errno error
			n, errno = unix.Splice(int(fd), nil, to, nil, bigBuffer, unix.SPLICE_F_NONBLOCK)
			return !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR)
		})
	}
}

// take says whether more is wanted.
func (c *capture) take(b []byte) bool {
	if c.keep(b) {
		c.full()
	}
	if c.live == nil {
		return true
	}
	_, err := c.live.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !c.abandoned {
		c.liveErr = &ErrStream{c.name, err}
		c.live = nil
	}
	return !c.abandoned
}

// keep says whether the limit has been passed just now.
func (c *capture) keep(b []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.abandoned || c.truncated {
		return false
	}
	room := c.limit - int64(len(c.kept))
	if int64(len(b)) <= room {
		c.kept = append(c.kept, b...)
		return false
	}
	c.kept = append(c.kept, b[:room]...)
	c.truncated = true
	return true
}

var errBlocked = errors.New("the writer did not return")

// await waits for the end of the stream. Once the command has been stopped it
// waits a little and then leaves the goroutine to the writer that blocks it.
func (c *capture) await(stopping <-chan struct{}) {
	select {
	case <-c.done:
		return
	case <-stopping:
	}
	timer := time.NewTimer(writerPatience)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.abandoned = true
		c.liveErr = &ErrStream{c.name, errBlocked}
	}
}

// source keeps the error of a reader, which io.Copy mixes with the writer's.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
