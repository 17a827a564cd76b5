package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

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

type overlay struct {
	path    string // of its directory
	base    *Files
	baseDir string
	top     *os.Root
	layers  *os.Root // its data
	lock    *os.File
	owner   owner // of the layers
	options OverlayOptions

	mu      sync.Mutex
	users   int // sandboxes
	closed  bool
	since   time.Time // what changed in the base after that is a conflict
	guarded []string  // paths that a sandbox on it had as Config.Protect
}

func newOverlay(name string, options OverlayOptions) (*overlay, error) {
	dir, err := lentDir("base", name)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return nil, &ErrConfig{"base", "empty"}
	}
	base, err := viewOf(dir, options.Limits)
	if err != nil {
		return nil, err
	}
	options.Limits = base.limits
	o := &overlay{base: base, baseDir: dir, options: options}
	if err := o.create(); err != nil {
		_ = o.close()
		return nil, err
	}
	return o, nil
}

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

// data is the host directory with the layers: what the sandboxes write is below it.
func (o *overlay) data() string { return filepath.Join(o.path, overlayData) }

// grows is the host directory that a command fills.
func (c *Config) grows() string {
	if c.Overlay != nil {
		return filepath.Join(c.Overlay.impl.data(), upperLayer)
	}
	return c.Workspace
}

// sandboxOwner is who a sandbox is on the host, as identity_choose in identity.c has it.
func sandboxOwner(base *Files) (owner, error) {
	st, err := base.root.Stat(".")
	if err != nil || os.Geteuid() != 0 {
		return owner{}, err
	}
	spare, err := spareID()
	if err != nil {
		return owner{}, err
	}
	const firstOrdinaryGID = 1000
	sys := st.Sys().(*syscall.Stat_t)
	if sys.Uid == 0 || sys.Uid == overflowID {
		return owner{int(spare), int(spare)}, nil
	}
	if sys.Gid < firstOrdinaryGID || sys.Gid == overflowID {
		return owner{int(sys.Uid), int(spare)}, nil
	}
	return owner{int(sys.Uid), int(sys.Gid)}, nil
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

// settled returns a moment such that what changed before it has an earlier time
// on disk, and what changes from now on a later one: files have the time of the
// last tick of the kernel's clock.
func settled() time.Time {
	now := time.Now()
	for {
		var tick unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &tick); err != nil || time.Unix(tick.Unix()).After(now) {
			return now
		}
		time.Sleep(time.Millisecond)
	}
}

// enter is called before a sandbox uses it, leave when that is gone.
func (o *overlay) enter(guarded []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return ErrOverlayClosed
	case o.users > 0:
		return ErrBusy
	}
	o.users++
	for _, name := range guarded {
		if !slices.Contains(o.guarded, name) {
			o.guarded = append(o.guarded, name)
		}
	}
	return nil
}

func (o *overlay) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users--
}

// idle locks o if it can be changed; the caller unlocks it.
func (o *overlay) idle() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return ErrOverlayClosed
	}
	if o.users > 0 {
		o.mu.Unlock()
		return ErrBusy
	}
	return nil
}

func (o *overlay) discard() error {
	if err := o.idle(); err != nil {
		return err
	}
	defer o.mu.Unlock()
	return o.reset()
}

// reset throws the layers away.
func (o *overlay) reset() error {
	for _, layer := range []string{upperLayer, workLayer} {
		if err := o.owner.do(func() error { return removeTree(o.layers, layer) }); err != nil {
			return fileError(layer, err)
		}
	}
	if err := o.empty(); err != nil {
		return fileError(overlayData, err)
	}
	o.guarded = nil
	o.since = settled()
	return nil
}

func (o *overlay) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil
	}
	if o.users > 0 {
		return ErrBusy
	}
	o.closed = true
	var err error
	if o.top != nil {
		err = removeTree(o.top, overlayData)
		err = errors.Join(err, o.top.RemoveAll(overlayLock))
		o.top.Close()
	}
	if o.layers != nil {
		o.layers.Close()
	}
	if o.lock != nil {
		o.lock.Close()
	}
	if o.path != "" {
		err = errors.Join(err, os.Remove(o.path))
	}
	return errors.Join(err, o.base.Close())
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
		lock, err := dir.Open(overlayLock)
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

// explainOverlay is why the sandbox could not mount it.
func explainOverlay(c *Config, errno syscall.Errno) error {
	e := &ErrOverlay{Path: "Config.Overlay", Reason: fmt.Sprintf("mounting it failed: %v", errno), Err: errno,
		Remedy: "copy the base into a directory of its own and use that as Config.Workspace"}
	if c.Overlay != nil {
		e.Path = c.Overlay.impl.baseDir
	}
	switch errno {
	case syscall.EPERM, syscall.ENODEV, syscall.ENOSYS:
		e.Reason = "this kernel has no overlayfs in user namespaces (Linux 5.11)"
	case syscall.EINVAL:
		e.Reason = "its filesystem, or that of OverlayOptions.Dir, cannot be a layer (an overlay itself, or without user.* attributes)"
		e.Remedy = "use directories on ext4, xfs or btrfs"
	}
	return e
}
