package helper

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrMemfd is a host that refuses programs in memory.
var ErrMemfd = errors.New("a program cannot be executed from memory here (sysctl vm.memfd_noexec?)")

var shared struct {
	sync.Mutex
	file *os.File
}

// File is the embedded helper in memory, where nobody can change it, shared by
// all sandboxes of this process. It is executed by its number in the child. A
// failure is not kept: the next call tries again.
func File() (*os.File, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.file == nil {
		f, err := sealed(binary)
		if err != nil {
			return nil, err
		}
		shared.file = f
	}
	return shared.file, nil
}

func sealed(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("lm-sandbox-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all are executable
		fd, err = unix.MemfdCreate("lm-sandbox-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("%w: %w", ErrMemfd, err)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "lm-sandbox-helper")
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, os.NewSyscallError("F_ADD_SEALS", err)
	}
	return f, nil
}
