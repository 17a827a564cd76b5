package helper

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A descriptor this high is not overwritten when a child's own are arranged.
const minFD = 64

// ErrMemfd is a host that refuses programs in memory.
var ErrMemfd = errors.New("a program cannot be executed from memory here (sysctl vm.memfd_noexec?)")

// Path returns a path that executes the embedded helper, from a file in memory
// that nobody can change, shared by all sandboxes of this process.
var Path = sync.OnceValues(func() (string, error) {
	fd, err := sealed(binary)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrMemfd, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), nil
})

func sealed(content []byte) (int, error) {
	fd, err := unix.MemfdCreate("lm-sandbox-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 all are executable
		fd, err = unix.MemfdCreate("lm-sandbox-helper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "lm-sandbox-helper")
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return -1, err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return -1, os.NewSyscallError("F_ADD_SEALS", err)
	}
	high, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, minFD)
	return high, os.NewSyscallError("F_DUPFD_CLOEXEC", err)
}
