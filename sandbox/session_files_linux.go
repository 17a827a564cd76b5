package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// files is a view of what pid 1 opens: nothing that the payload renames or mounts
// changes what this process holds.
func (s *session) files(ctx context.Context, name string, limits FileLimits) (*Files, error) {
	if err := checkInside("dir", name); err != nil {
		return nil, err
	}
	var held [3]*os.File
	for i, path := range []string{name, "/", "/home/user"} {
		dir, err := s.directory(ctx, path)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		held[i] = dir
	}
	if !lendable(held[0], held[1]) {
		return nil, &ErrConfig{"dir", fmt.Sprintf("%.64q shows the sandbox itself; use /workspace, /tmp or /home/user", name)}
	}
	f, err := viewOf(fmt.Sprintf("/proc/self/fd/%d", held[0].Fd()), limits)
	if err != nil {
		return nil, err
	}
	// Who the sandbox is on the host; the directory may be another's.
	st, err := held[2].Stat()
	if err != nil {
		f.Close()
		return nil, fileError(name, err)
	}
	f.inside = true
	f.owner = ownerOf(st.Sys().(*syscall.Stat_t))
	return f, nil
}

func (s *session) violations() []string { return s.process.guard.violations() }

func (s *session) directory(ctx context.Context, name string) (*os.File, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	files, err := s.process.order(ctx, proto.EncodeOpen(unix.O_PATH|unix.O_DIRECTORY, 0, name), 1)
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return nil, &ErrFile{name, errno.Error(), errno}
	case errors.Is(err, os.ErrProcessDone):
		<-s.ended
		return nil, s.exit
	case err != nil:
		return nil, err
	}
	return files[0], nil
}

// lendable says that a directory is not the root of the sandbox, which /proc is
// below, nor in /proc, where a read can do anything.
func lendable(dir, root *os.File) bool {
	var fs unix.Statfs_t
	a, err := dir.Stat()
	if err != nil || unix.Fstatfs(int(dir.Fd()), &fs) != nil || fs.Type == unix.PROC_SUPER_MAGIC {
		return false
	}
	b, err := root.Stat()
	return err == nil && !os.SameFile(a, b)
}
