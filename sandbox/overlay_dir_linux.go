package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The directory of an overlay is the caller's. In it are a file that is locked as
// long as the caller lives, and the layers, which belong to the sandbox:
//
//	lm-sandbox-overlay-123/lock
//	lm-sandbox-overlay-123/data/upper
//	lm-sandbox-overlay-123/data/work
const (
	overlayPrefix = "lm-sandbox-overlay-"
	overlayLock   = "lock"
	overlayData   = "data"
	upperLayer    = "upper"
	workLayer     = "work"
)

func (o *overlay) create() error {
	parent := o.options.Dir
	if parent == "" {
		parent = os.TempDir()
	}
	parent, err := hostDir("Dir", parent)
	if err != nil {
		return err
	}
	if within(parent, o.baseDir) {
		return &ErrConfig{"Dir", "is in the base; use a directory beside it"}
	}
	sweepOverlays(parent)
	if o.path, err = os.MkdirTemp(parent, overlayPrefix); err != nil {
		return &ErrConfig{"Dir", reason(err)}
	}
	if o.top, err = os.OpenRoot(o.path); err != nil {
		return &ErrConfig{"Dir", reason(err)}
	}
	if o.lock, err = lockNew(o.top); err != nil {
		return &ErrConfig{"Dir", "cannot be locked: " + reason(err)}
	}
	if o.owner, err = sandboxOwner(o.base); err != nil {
		return err
	}
	if err := o.top.Mkdir(overlayData, 0o700); err != nil {
		return &ErrConfig{"Dir", reason(err)}
	}
	if o.layers, err = o.top.OpenRoot(overlayData); err != nil {
		return &ErrConfig{"Dir", reason(err)}
	}
	if o.owner.uid != 0 {
		if err := o.top.Lchown(overlayData, o.owner.uid, o.owner.gid); err != nil {
			return &ErrConfig{"Dir", reason(err)}
		}
	}
	if err := o.empty(); err != nil {
		return &ErrConfig{"Dir", reason(err)}
	}
	if err := o.supported(); err != nil {
		return &ErrOverlay{o.path, "its filesystem keeps no user.* attributes, or is an overlay itself",
			"set OverlayOptions.Dir to a directory on ext4, xfs or btrfs (or tmpfs, from Linux 6.6)", err}
	}
	o.since = settled()
	return nil
}

// empty makes the layers.
func (o *overlay) empty() error {
	st, err := o.base.root.Stat(".")
	if err != nil {
		return err
	}
	return o.owner.do(func() error {
		return errors.Join(o.layers.Mkdir(upperLayer, 0o700), o.layers.Chmod(upperLayer, st.Mode().Perm()), o.layers.Mkdir(workLayer, 0o700))
	})
}

// supported tries what overlayfs needs of the filesystem of its upper layer.
func (o *overlay) supported() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(o.path, &fs); err != nil {
		return err
	}
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return unix.EINVAL
	}
	dir, err := o.layers.Open(upperLayer)
	if err != nil {
		return err
	}
	defer dir.Close()
	const name = "user.lm-sandbox"
	return o.owner.do(func() error {
		if err := unix.Fsetxattr(int(dir.Fd()), name, []byte("y"), 0); err != nil {
			return err
		}
		return unix.Fremovexattr(int(dir.Fd()), name)
	})
}

// lockNew makes a file that is locked from its first moment under that name.
func lockNew(dir *os.Root) (*os.File, error) {
	temp := temporary()
	f, err := dir.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), dir.Rename(temp, overlayLock)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweepOverlays removes what callers of the same user have left that are dead: the
// kernel has let go of their locks.
func sweepOverlays(parent string) {
	root, err := os.OpenRoot(parent)
	if err != nil {
		return
	}
	defer root.Close()
	names, _ := fs.Glob(root.FS(), overlayPrefix+"*")
	for _, name := range names {
		st, err := root.Lstat(name)
		if err != nil || !st.IsDir() || int(st.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
			continue
		}
		dir, err := openSame(root, name, st)
		if err != nil {
			continue
		}
		// A fifo that somebody has planted must not hold this up.
		lock, err := dir.OpenFile(overlayLock, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err == nil && unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if removeTree(dir, overlayData) == nil && dir.Remove(overlayLock) == nil {
				_ = root.Remove(name) // another sweep may have been faster
			}
		}
		if err == nil {
			lock.Close()
		}
		dir.Close()
	}
}
