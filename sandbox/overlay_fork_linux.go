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

// fork copies the upper layer.
func (o *overlay) fork(ctx context.Context) (*overlay, error) {
	if err := o.hold(ctx); err != nil {
		return nil, err
	}
	closed, since, guarded := o.closed, o.since, slices.Clone(o.guarded)
	o.yield()
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
