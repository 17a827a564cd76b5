package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What overlayfs leaves in its upper layer: a character device 0:0 for what is
// deleted, and attributes of files.
const (
	opaqueAttr = "user.overlay.opaque" // of a directory: nothing of the base shows through
	originAttr = "user.overlay.origin" // of what was copied up from the base
)

func isWhiteout(st fs.FileInfo) bool {
	return st.Mode()&fs.ModeCharDevice != 0 && st.Sys().(*syscall.Stat_t).Rdev == 0
}

// differ compares the upper layer with the base.
type differ struct {
	ctx     context.Context
	o       *overlay
	left    int       // entries
	since   time.Time // for conflicts
	changes []Change
	against []string // paths in conflict
}

func (o *overlay) diff(ctx context.Context) ([]Change, error) {
	if err := o.hold(ctx); err != nil {
		return nil, err
	}
	closed, since := o.closed, o.since
	o.yield()
	if closed {
		return nil, ErrOverlayClosed
	}
	d, err := o.compare(ctx, since)
	return d.changes, err
}

func (o *overlay) compare(ctx context.Context, since time.Time) (*differ, error) {
	d := &differ{ctx: ctx, o: o, left: o.options.Limits.Entries, since: since}
	var upper *os.Root
	err := o.owner.do(func() (err error) { upper, err = o.layers.OpenRoot(upperLayer); return err })
	if err != nil {
		return d, fileError(".", err)
	}
	defer upper.Close()
	err = d.dir(upper, o.base.root, "", false)
	slices.SortFunc(d.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d, err
}

func (d *differ) upper(f func() error) error { return d.o.owner.do(f) }
func (d *differ) base(f func() error) error  { return d.o.base.owner.do(f) }

func (d *differ) add(kind ChangeKind, name string, st fs.FileInfo) {
	c := Change{Path: name, Kind: kind, Mode: st.Mode()}
	if st.Mode().IsRegular() {
		c.Size = st.Size()
	}
	d.changes = append(d.changes, c)
}

func (d *differ) conflict(name string) { d.against = append(d.against, name) }

// dir compares a directory of the upper layer with that of the base, or nil.
func (d *differ) dir(up, base *os.Root, prefix string, opaque bool) error {
	names, err := d.names(up, prefix, d.upper)
	if err != nil {
		return err
	}
	for _, name := range names {
		if d.ctx.Err() != nil {
			return d.ctx.Err()
		}
		if err := d.entry(up, base, name, path.Join(prefix, name)); err != nil {
			return fileError(path.Join(prefix, name), err)
		}
	}
	if !opaque || base == nil {
		return nil
	}
	below, err := d.names(base, prefix, d.base)
	if err != nil {
		return err
	}
	for _, name := range below {
		if _, found := slices.BinarySearch(names, name); found {
			continue
		}
		st, err := d.stat(base, name, d.base)
		if err != nil {
			return fileError(path.Join(prefix, name), err)
		}
		if st != nil {
			err = d.deleted(base, name, path.Join(prefix, name), st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) names(dir *os.Root, prefix string, as func(func() error) error) ([]string, error) {
	var list *os.File
	if err := as(func() (err error) { list, err = dir.Open("."); return err }); err != nil {
		return nil, fileError(prefix, err)
	}
	defer list.Close()
	return readNames(list, prefix, &d.left, d.o.options.Limits.Entries)
}

// stat is nil for what is not there.
func (d *differ) stat(dir *os.Root, name string, as func(func() error) error) (st fs.FileInfo, err error) {
	if dir == nil {
		return nil, nil
	}
	err = as(func() error { st, err = dir.Lstat(name); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return st, err
}

func (d *differ) entry(up, base *os.Root, name, full string) error {
	now, err := d.stat(up, name, d.upper)
	if err != nil || now == nil {
		return err
	}
	was, err := d.stat(base, name, d.base)
	if err != nil {
		return err
	}
	if isWhiteout(now) {
		if was == nil {
			return nil
		}
		return d.deleted(base, name, full, was)
	}
	if was == nil {
		return d.added(up, base, name, full, now)
	}
	if now.IsDir() && was.IsDir() {
		if now.Mode().Perm() != was.Mode().Perm() {
			d.add(ChangeModified, full, now)
		}
		return d.below(up, base, name, full, now, was)
	}
	same, err := d.same(up, base, name, now, was)
	if err != nil || same {
		return err
	}
	if err := d.unchanged(base, name, full, was); err != nil {
		return err
	}
	d.add(ChangeModified, full, now)
	if now.IsDir() {
		return d.below(up, nil, name, full, now, nil)
	}
	return nil
}

// added is a path that the base does not have; or has no more, if it was copied
// from there and its directory in the base has changed.
func (d *differ) added(up, base *os.Root, name, full string, now fs.FileInfo) error {
	if base != nil {
		st, err := d.stat(base, ".", d.base)
		if err != nil {
			return err
		}
		if st.ModTime().After(d.since) && d.copied(up, name) {
			d.conflict(full)
		}
	}
	d.add(ChangeAdded, full, now)
	if now.IsDir() {
		return d.below(up, nil, name, full, now, nil)
	}
	return nil
}

// below compares what is in a directory of the upper layer.
func (d *differ) below(up, base *os.Root, name, full string, now, was fs.FileInfo) error {
	if strings.Count(full, "/") >= maxDepth {
		return &ErrTooLarge{full, "depth", maxDepth}
	}
	var inUp, inBase *os.Root
	err := d.upper(func() (err error) { inUp, err = openSame(up, name, now); return err })
	if err != nil {
		return err
	}
	defer inUp.Close()
	if was != nil {
		err = d.base(func() (err error) { inBase, err = openSame(base, name, was); return err })
		if err != nil {
			return err
		}
		defer inBase.Close()
	}
	return d.dir(inUp, inBase, full, d.opaque(up, name))
}

// opaque says that nothing of the base shows through a directory, copied that a
// file or directory was copied up from the base: its origin is noted, in a user
// namespace as an empty note.
func (d *differ) opaque(up *os.Root, name string) bool {
	value, _ := d.attribute(up, name, opaqueAttr)
	return value == "y"
}

func (d *differ) copied(up *os.Root, name string) bool {
	_, ok := d.attribute(up, name, originAttr)
	return ok
}

func (d *differ) attribute(dir *os.Root, name, attr string) (value string, ok bool) {
	err := d.upper(func() error {
		f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, 256)
		n, err := unix.Fgetxattr(int(f.Fd()), attr, buf)
		if err == nil {
			value = string(buf[:n])
		}
		return err
	})
	return value, err == nil
}

func (d *differ) deleted(base *os.Root, name, full string, was fs.FileInfo) error {
	d.add(ChangeDeleted, full, was)
	return d.unchanged(base, name, full, was)
}

// unchanged notes a conflict for what has changed in the base, directories with
// all that is in them. Nobody can set the time of a change of status back.
func (d *differ) unchanged(base *os.Root, name, full string, was fs.FileInfo) error {
	if changed := was.Sys().(*syscall.Stat_t).Ctim; time.Unix(changed.Unix()).After(d.since) {
		d.conflict(full)
	}
	if !was.IsDir() {
		return nil
	}
	if strings.Count(full, "/") >= maxDepth {
		return &ErrTooLarge{full, "depth", maxDepth}
	}
	var dir *os.Root
	if err := d.base(func() (err error) { dir, err = openSame(base, name, was); return err }); err != nil {
		return fileError(full, err)
	}
	defer dir.Close()
	names, err := d.names(dir, full, d.base)
	if err != nil {
		return err
	}
	for _, n := range names {
		st, err := d.stat(dir, n, d.base)
		if err == nil && st != nil {
			err = d.unchanged(dir, n, path.Join(full, n), st)
		}
		if err != nil {
			return fileError(path.Join(full, n), err)
		}
	}
	return nil
}

// same says that a file or link is as it was, but for its times.
func (d *differ) same(up, base *os.Root, name string, now, was fs.FileInfo) (bool, error) {
	if now.Mode() != was.Mode() || now.Size() != was.Size() {
		return false, nil
	}
	switch {
	case now.Mode()&fs.ModeSymlink != 0:
		var a, b string
		err := d.upper(func() (err error) { a, err = up.Readlink(name); return err })
		if err == nil {
			err = d.base(func() (err error) { b, err = base.Readlink(name); return err })
		}
		return a == b, err
	case now.Mode().IsRegular():
		return d.sameContent(up, base, name)
	}
	return true, nil
}

func (d *differ) sameContent(up, base *os.Root, name string) (bool, error) {
	var files [2]*os.File
	opened := func(i int, dir *os.Root) func() error {
		return func() (err error) {
			files[i], err = dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			return err
		}
	}
	for i, err := range []error{d.upper(opened(0, up)), d.base(opened(1, base))} {
		if files[i] != nil {
			defer files[i].Close()
		}
		if errors.Is(err, fs.ErrPermission) {
			return false, nil // what cannot be compared may have changed
		}
		if err != nil {
			return false, err
		}
	}
	var a, b [64 << 10]byte
	for {
		n, err := io.ReadFull(files[0], a[:])
		m, other := io.ReadFull(files[1], b[:])
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if err != nil || other != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), nil
		}
		if d.ctx.Err() != nil {
			return false, d.ctx.Err()
		}
	}
}
