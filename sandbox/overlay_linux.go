package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

	turn    chan struct{} // held while the rest is used, also for all of a Commit
	users   int           // sandboxes
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
	o := &overlay{base: base, baseDir: dir, options: options, turn: make(chan struct{}, 1)}
	if err := o.create(); err != nil {
		_ = o.close()
		return nil, err
	}
	return o, nil
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

func (o *overlay) hold(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sandbox: another call changes the overlay: %w", ctx.Err())
	}
}

func (o *overlay) yield() { <-o.turn }

// enter is called before a sandbox uses it, leave when that is gone.
func (o *overlay) enter(ctx context.Context, guarded []string) error {
	if err := o.hold(ctx); err != nil {
		return err
	}
	defer o.yield()
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
	o.turn <- struct{}{}
	defer o.yield()
	o.users--
}

// idle holds o if it can be changed; the caller yields it.
func (o *overlay) idle(ctx context.Context) error {
	if err := o.hold(ctx); err != nil {
		return err
	}
	if o.closed {
		o.yield()
		return ErrOverlayClosed
	}
	if o.users > 0 {
		o.yield()
		return ErrBusy
	}
	return nil
}

func (o *overlay) discard() error {
	if err := o.idle(context.Background()); err != nil {
		return err
	}
	defer o.yield()
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
	o.turn <- struct{}{}
	defer o.yield()
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
