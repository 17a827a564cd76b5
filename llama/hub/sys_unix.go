//go:build linux || darwin

package hub

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// freeSpace is how many bytes an ordinary user may still write to dir, -1 where that is unknown.
func freeSpace(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return -1
	}
	return int64(st.Bavail * uint64(st.Bsize))
}

// isDiskFull reports whether a write failed for want of space, of quota or of the permitted file size.
func isDiskFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

// killTree makes cmd's cancellation reach the processes it starts in turn.
func killTree(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
}
