package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func (o *overlay) commit(ctx context.Context) ([]Change, error) {
	if err := o.idle(); err != nil {
		return nil, err
	}
	defer o.mu.Unlock()
	d, err := o.compare(ctx, o.since)
	if err != nil {
		return nil, err
	}
	if err := o.allowed(d); err != nil {
		return nil, err
	}
	// If it fails from here on, the next Commit must not take for a conflict what
	// this one has written.
	applied := o.apply(ctx, d.changes)
	if applied == nil {
		applied = syncTree(o.base.root)
	}
	if applied != nil {
		o.since = settled()
		return nil, applied
	}
	return d.changes, o.reset()
}

// allowed refuses a commit as a whole, before it writes anything.
func (o *overlay) allowed(d *differ) error {
	var guarded []string
	var total int64
	for _, c := range d.changes {
		if slices.ContainsFunc(o.guarded, func(p string) bool { return within(c.Path, p) || replaces(c) && within(p, c.Path) }) {
			guarded = append(guarded, c.Path)
		}
		if c.Kind == ChangeDeleted {
			continue
		}
		if !c.Mode.IsRegular() && !c.Mode.IsDir() && c.Mode&fs.ModeSymlink == 0 {
			return &ErrFile{c.Path, typeName(c.Mode) + " cannot be committed; delete it in the sandbox", nil}
		}
		if c.Size > o.base.limits.File {
			return &ErrTooLarge{c.Path, "file", o.base.limits.File}
		}
		if total += c.Size; total > o.base.limits.Total {
			return &ErrTooLarge{c.Path, "total", o.base.limits.Total}
		}
	}
	if len(guarded) > 0 {
		return &ErrProtected{guarded}
	}
	if len(d.against) > 0 {
		slices.Sort(d.against)
		return &ErrConflict{slices.Compact(d.against)}
	}
	return nil
}

// replaces says that what was below the path is not there any more: but for a new
// directory, and one that has other permissions.
func replaces(c Change) bool { return c.Kind == ChangeDeleted || !c.Mode.IsDir() }

func (o *overlay) apply(ctx context.Context, changes []Change) error {
	var upper *os.Root
	err := o.owner.do(func() (err error) { upper, err = o.layers.OpenRoot(upperLayer); return err })
	if err != nil {
		return fileError(".", err)
	}
	defer upper.Close()
	for _, c := range changes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.Kind == ChangeDeleted {
			continue
		}
		if err := o.put(upper, c); err != nil {
			return fileError(c.Path, err)
		}
	}
	for _, c := range slices.Backward(changes) {
		if c.Kind != ChangeDeleted {
			continue
		}
		if err := o.take(c.Path); err != nil {
			return fileError(c.Path, err)
		}
	}
	return nil
}

// put brings one path of the upper layer to the base.
func (o *overlay) put(upper *os.Root, c Change) error {
	dir, err := o.base.openDir(path.Dir(c.Path), false)
	if err != nil {
		return err
	}
	defer dir.Close()
	name := path.Base(c.Path)
	if c.Kind == ChangeModified {
		var st fs.FileInfo
		if err := o.base.owner.do(func() (err error) { st, err = dir.Lstat(name); return err }); err != nil {
			return err
		}
		if st.IsDir() != c.Mode.IsDir() { // rename(2) does not replace one by the other
			if err := o.take(c.Path); err != nil {
				return err
			}
		}
	}
	switch {
	case c.Mode.IsDir():
		return o.base.owner.do(func() error {
			if err := dir.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			return dir.Chmod(name, c.Mode.Perm())
		})
	case c.Mode&fs.ModeSymlink != 0:
		var target string
		if err := o.owner.do(func() (err error) { target, err = upper.Readlink(c.Path); return err }); err != nil {
			return err
		}
		return o.base.owner.do(func() error {
			temp := temporary()
			if err := dir.Symlink(target, temp); err != nil {
				return err
			}
			return dir.Rename(temp, name)
		})
	}
	from := &Files{root: upper, owner: o.owner, limits: o.base.limits}
	file, info, err := from.open(upper, c.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = o.base.replace(dir, c.Path, file, info.Mode, info.ModTime)
	return err
}

// take removes a path from the base: out of sight in one step, then for good.
func (o *overlay) take(name string) error {
	dir, err := o.base.openDir(path.Dir(name), false)
	if err != nil {
		return err
	}
	defer dir.Close()
	return o.base.owner.do(func() error {
		temp := temporary()
		err := dir.Rename(path.Base(name), temp)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return removeTree(dir, temp)
	})
}

func syncTree(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return fileError(".", err)
	}
	defer dir.Close()
	return fileError(".", unix.Syncfs(int(dir.Fd())))
}

// fork copies the upper layer.
func (o *overlay) fork(ctx context.Context) (*overlay, error) {
	o.mu.Lock()
	closed, since, guarded := o.closed, o.since, slices.Clone(o.guarded)
	o.mu.Unlock()
	if closed {
		return nil, ErrOverlayClosed
	}
	n, err := newOverlay(o.baseDir, o.options)
	if err != nil {
		return nil, err
	}
	n.since, n.guarded = since, guarded
	c := &copier{ctx: ctx, left: o.options.Limits.Entries, bytes: o.options.Limits.Total, limits: o.options.Limits}
	var from, to *os.Root
	err = o.owner.do(func() (err error) {
		if from, err = o.layers.OpenRoot(upperLayer); err != nil {
			return err
		}
		defer from.Close()
		if to, err = n.layers.OpenRoot(upperLayer); err != nil {
			return err
		}
		defer to.Close()
		return c.dir(from, to, "")
	})
	if err != nil {
		return nil, errors.Join(fileError(".", err), n.close())
	}
	return n, nil
}

// copier copies an upper layer with what overlayfs has noted in it. It runs as the
// owner of both.
type copier struct {
	ctx    context.Context
	left   int
	bytes  int64
	limits FileLimits
}

func (c *copier) dir(from, to *os.Root, prefix string) error {
	list, err := from.Open(".")
	if err != nil {
		return fileError(prefix, err)
	}
	defer list.Close()
	names, err := readNames(list, prefix, &c.left, c.limits.Entries)
	if err != nil {
		return fileError(prefix, err)
	}
	target, err := to.Open(".")
	if err != nil {
		return fileError(prefix, err)
	}
	defer target.Close()
	for _, name := range names {
		full := path.Join(prefix, name)
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		st, err := from.Lstat(name)
		if err == nil {
			err = c.entry(from, to, target, name, full, st)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a sandbox may run on it
			return fileError(full, err)
		}
	}
	copyAttributes(list, target)
	return nil
}

func (c *copier) entry(from, to *os.Root, target *os.File, name, full string, st fs.FileInfo) error {
	switch {
	case st.IsDir():
		return c.subdirectory(from, to, name, full, st)
	case st.Mode().IsRegular():
		return c.file(from, to, name, full, st)
	case st.Mode()&fs.ModeSymlink != 0:
		link, err := from.Readlink(name)
		if err != nil {
			return err
		}
		return to.Symlink(link, name)
	case isWhiteout(st):
		return unix.Mknodat(int(target.Fd()), name, unix.S_IFCHR, 0)
	case st.Mode()&fs.ModeNamedPipe != 0:
		return unix.Mknodat(int(target.Fd()), name, unix.S_IFIFO|uint32(st.Mode().Perm()), 0)
	}
	return nil // a socket: nobody listens on its copy
}

func (c *copier) subdirectory(from, to *os.Root, name, full string, st fs.FileInfo) error {
	if err := to.Mkdir(name, 0o700); err != nil {
		return err
	}
	source, err := openSame(from, name, st)
	if err != nil {
		return err
	}
	defer source.Close()
	copied, err := to.OpenRoot(name)
	if err != nil {
		return err
	}
	defer copied.Close()
	if err := c.dir(source, copied, full); err != nil {
		return err
	}
	return copied.Chmod(".", st.Mode().Perm())
}

func (c *copier) file(from, to *os.Root, name, full string, st fs.FileInfo) error {
	view := &Files{root: from, limits: c.limits}
	source, info, err := view.open(from, name)
	if err != nil {
		return err
	}
	defer source.Close()
	if c.bytes -= info.Size; c.bytes < 0 {
		return &ErrTooLarge{full, "total", c.limits.Total}
	}
	copied, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(copied.Fd()), int(source.Fd())) != nil {
		_, err = copied.ReadFrom(source)
	}
	copyAttributes(source, copied)
	err = errors.Join(err, copied.Chmod(st.Mode().Perm()), copied.Close())
	if err != nil {
		return err
	}
	return to.Chtimes(name, time.Time{}, st.ModTime())
}

func copyAttributes(from, to *os.File) {
	buf := make([]byte, 256)
	for _, attr := range []string{opaqueAttr, originAttr} {
		if n, err := unix.Fgetxattr(int(from.Fd()), attr, buf); err == nil {
			_ = unix.Fsetxattr(int(to.Fd()), attr, buf[:n], 0)
		}
	}
}
