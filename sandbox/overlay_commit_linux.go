package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

func (o *overlay) commit(ctx context.Context) ([]Change, error) {
	if err := o.idle(ctx); err != nil {
		return nil, err
	}
	defer o.yield()
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
