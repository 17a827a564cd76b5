package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// terminalBacklog is what is kept of the terminal's output for the next Read.
const terminalBacklog = 256 << 10

// terminal is the master of the session's terminal. It is read all the time:
// programs must not stand still because nobody looks. Once somebody does, they
// wait for him, as at any terminal.
type terminal struct {
	master *os.File

	mu      sync.Mutex
	change  *sync.Cond
	backlog []byte
	watched bool // Read has been called
	ended   bool
	closed  bool
}

func newTerminal(master *os.File) *terminal {
	t := &terminal{master: master}
	t.change = sync.NewCond(&t.mu)
	return t
}

// pump reads the master until the last process with the terminal is gone.
func (t *terminal) pump() {
	buf := make([]byte, 32<<10)
	for {
		n, err := t.master.Read(buf)
		t.mu.Lock()
		for t.watched && !t.closed && len(t.backlog) >= terminalBacklog {
			t.change.Wait()
		}
		t.backlog = append(t.backlog, buf[:n]...)
		if over := len(t.backlog) - terminalBacklog; over > 0 && !t.watched {
			t.backlog = append(t.backlog[:0], t.backlog[over:]...)
		}
		t.ended = t.ended || err != nil
		t.change.Broadcast()
		t.mu.Unlock()
		if err != nil { // EIO at the end
			return
		}
	}
}

func (t *terminal) read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watched = true
	for len(t.backlog) == 0 && !t.ended && !t.closed && len(p) > 0 {
		t.change.Wait()
	}
	n := copy(p, t.backlog)
	t.backlog = append(t.backlog[:0], t.backlog[n:]...)
	t.change.Broadcast()
	switch {
	case n > 0 || len(p) == 0:
		return n, nil
	case t.closed:
		return 0, ErrClosed
	}
	return 0, io.EOF
}

func (t *terminal) write(p []byte) (int, error) {
	n, err := t.master.Write(p)
	if errors.Is(err, os.ErrClosed) {
		err = ErrClosed
	}
	return n, err
}

func (t *terminal) resize(rows, cols uint16) error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return ErrClosed
	}
	var errno error
	err = raw.Control(func(fd uintptr) {
		errno = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return ErrClosed
	}
	return os.NewSyscallError("ioctl", errno)
}

func (t *terminal) close() {
	t.mu.Lock()
	t.closed = true
	t.change.Broadcast()
	t.mu.Unlock()
	t.master.Close()
}
