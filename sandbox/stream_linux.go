package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
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

func (c *capture) drain(f *os.File) {
	defer close(c.done)
	defer f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 && !c.take(buf[:n]) || err != nil {
			return
		}
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
