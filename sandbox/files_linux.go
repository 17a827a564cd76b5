package sandbox

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is whose rights a root caller acts with; the zero value is the caller's own.
type owner struct{ uid, gid int }

// ownerOf is the owner of a directory, if this process can and need act as it.
func ownerOf(st *syscall.Stat_t) owner {
	if os.Geteuid() != 0 {
		return owner{}
	}
	return owner{int(st.Uid), int(st.Gid)}
}

// do calls f with the rights of the owner on files, and no others: for root the
// kernel takes the capabilities over files away with the number (capabilities(7)).
func (o owner) do(f func() error) error {
	if o.uid == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	group, err := unix.SetfsgidRetGid(o.gid)
	if err != nil {
		return err
	}
	defer func() { _, _ = unix.SetfsgidRetGid(group) }()
	user, err := unix.SetfsuidRetUid(o.uid)
	if err != nil {
		return err
	}
	defer func() { _, _ = unix.SetfsuidRetUid(user) }()
	if now, _ := unix.SetfsuidRetUid(-1); now != o.uid {
		return unix.EPERM
	}
	return f()
}

// isMountPoint says whether something is mounted on a name (Linux 5.8).
func isMountPoint(dir *os.Root, name string) bool {
	at, err := dir.Open(".")
	if err != nil {
		return false
	}
	defer at.Close()
	var st unix.Statx_t
	err = unix.Statx(int(at.Fd()), name, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func openFiles(name string, limits FileLimits) (*Files, error) {
	dir, err := hostDir("dir", name)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, &ErrConfig{"dir", "empty"}
	}
	if err := refuseSystem("dir", dir); err != nil {
		return nil, err
	}
	return viewOf(dir, limits)
}

// viewOf is the view of a directory that is known to be one.
func viewOf(dir string, limits FileLimits) (*Files, error) {
	limits, err := limits.withDefaults()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, &ErrConfig{"dir", reason(err)}
	}
	st, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, &ErrConfig{"dir", reason(err)}
	}
	return &Files{root: root, owner: ownerOf(st.Sys().(*syscall.Stat_t)), limits: limits}, nil
}
