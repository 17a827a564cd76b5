package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
	"golang.org/x/sys/unix"
)

// auditPatience is how long another process may hold the file.
const auditPatience = 5 * time.Second

// auditSink appends whole lines to a file.
type auditSink struct {
	path string // without links
	mu   sync.Mutex
	file *os.File
}

func openAuditSink(path string) (*auditSink, error) {
	path, err := realParent(path)
	if err != nil {
		return nil, &ErrAudit{path, err}
	}
	// A fifo must not hold this up.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		err = errors.New("it is a symbolic link: name the file itself")
	}
	if err != nil {
		return nil, &ErrAudit{path, err}
	}
	s := &auditSink{path: path, file: f}
	if err := s.check(); err != nil {
		f.Close()
		return nil, &ErrAudit{path, err}
	}
	if _, err := s.Write(nil); err != nil { // seals
		f.Close()
		return nil, &ErrAudit{path, err}
	}
	return s, nil
}

// realParent resolves the links of the directory.
func realParent(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return path, err
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// check refuses what others can write to.
func (s *auditSink) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is no plain file")
	case st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("it belongs to uid %d, who could rewrite it: use a file of uid %d", st.Uid, os.Geteuid())
	case st.Mode&0o022 != 0:
		return errors.New("others may write to it: chmod go-w")
	case st.Nlink > 1:
		return errors.New("it has a second name (hard link)")
	}
	return nil
}

// Write appends one line by one write(2), after it has ended a torn one. An empty
// one only does the latter.
func (s *auditSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.lock(); err != nil {
		return 0, err
	}
	defer func() { _ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN) }()
	seal, err := s.seal()
	if err != nil {
		return 0, err
	}
	b := slices.Concat(seal, ascii(line))
	if len(b) == 0 {
		return 0, nil
	}
	// What a full disk leaves of it is sealed by the next one.
	if _, err := s.file.Write(b); err != nil {
		return 0, err
	}
	return len(line), nil
}

// lock waits for other processes: nobody else is between looking at the end and
// writing to it.
func (s *auditSink) lock() error {
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		err := unix.Flock(int(s.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EBADF):
			return os.ErrClosed
		case !errors.Is(err, unix.EWOULDBLOCK):
			return os.NewSyscallError("flock", err)
		case time.Since(begin) > auditPatience:
			return fmt.Errorf("another process holds it: %w", os.ErrDeadlineExceeded)
		}
	}
}

// seal is what ends the last line, if that has no end.
func (s *auditSink) seal() ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Nlink == 0 {
		return nil, errors.New("it was deleted")
	}
	if st.Size == 0 {
		return nil, nil
	}
	begin := st.Size
	var block [4096]byte
	for begin > 0 {
		n := min(begin, int64(len(block)))
		if _, err := s.file.ReadAt(block[:n], begin-n); err != nil {
			return nil, err
		}
		for i := n - 1; i >= 0; i-- {
			if block[i] != '\n' {
				continue
			}
			if begin += i + 1 - n; begin == st.Size {
				return nil, nil
			}
			return torn(begin, st.Size), nil
		}
		begin -= n
	}
	return torn(0, st.Size), nil
}

func torn(begin, end int64) []byte {
	return fmt.Appendf(nil, "\n"+`{"time":%q,"level":"WARN","msg":"sandbox audit torn","offset":%d,"bytes":%d}`+"\n",
		time.Now().Format(time.RFC3339Nano), begin, end-begin)
}

func (s *auditSink) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := unix.Fdatasync(int(s.file.Fd())); err != nil {
		return &ErrAudit{s.path, os.NewSyscallError("fdatasync", err)}
	}
	return nil
}

func (s *auditSink) close() error {
	err := s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.file.Close())
}

// checkAudit refuses a file of records that the sandbox could write to, or only open:
// flock(2) on what is open to be read keeps records out as well.
func (c *Config) checkAudit(t rootfs.Tree) error {
	f, ok := c.Audit.(*AuditFile)
	if !ok {
		return nil
	}
	seen := []string{t.Root, t.Workspace, t.Changes}
	for _, b := range t.Binds {
		seen = append(seen, b.Source)
	}
	for _, dir := range seen {
		if dir != "" && within(f.sink.path, dir) {
			return &ErrConfig{"Audit", fmt.Sprintf("%.64q is in %.64q, which the sandbox sees: it could write to the file, or hold its lock", f.sink.path, dir)}
		}
	}
	return nil
}
