package sandbox

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
)

// Walk lists what is below a directory, "." for all of it, sorted by name, each
// directory before what is in it. Links are listed, not followed. An entry that
// cannot be read comes with its error, and the walk goes on; [ErrTooLarge] ends it.
// What the sandbox removes meanwhile is left out.
func (f *Files) Walk(dir string) iter.Seq2[FileInfo, error] {
	return func(yield func(FileInfo, error) bool) {
		w := &walker{f: f, left: f.limits.Entries, yield: func(_ *os.Root, info FileInfo, err error) bool { return yield(info, err) }}
		w.start(dir)
	}
}

// walker visits a tree. Each directory is opened from its parent, so that a path
// of any length stays cheap and no swapped link is followed out of the parent.
type walker struct {
	f     *Files
	left  int // entries
	yield func(dir *os.Root, info FileInfo, err error) bool
}

func (w *walker) start(name string) {
	clean, err := cleanName(name)
	if err != nil {
		w.yield(nil, FileInfo{Path: name}, err)
		return
	}
	root, err := w.f.openDir(clean, false)
	if err != nil {
		w.yield(nil, FileInfo{Path: clean}, fileError(clean, err))
		return
	}
	defer root.Close()
	prefix := clean
	if clean == "." {
		prefix = ""
	}
	w.dir(root, prefix, 0)
}

// dir visits what is in a directory; false ends the walk.
func (w *walker) dir(dir *os.Root, prefix string, depth int) bool {
	names, err := w.names(dir, prefix)
	if err != nil {
		var large *ErrTooLarge
		return w.yield(dir, FileInfo{Path: prefix, Mode: fs.ModeDir}, fileError(prefix, err)) && !errors.As(err, &large)
	}
	for _, name := range names {
		if !w.entry(dir, name, path.Join(prefix, name), depth) {
			return false
		}
	}
	return true
}

func (w *walker) names(dir *os.Root, prefix string) (names []string, err error) {
	var list *os.File
	if err := w.f.owner.do(func() (err error) { list, err = dir.Open("."); return err }); err != nil {
		return nil, err
	}
	defer list.Close()
	return readNames(list, prefix, &w.left, w.f.limits.Entries)
}

// readNames reads a directory of which at most left entries may be read, sorted.
func readNames(list *os.File, path string, left *int, limit int) (names []string, err error) {
	const batch = 1024
	total := 0
	for {
		some, err := list.Readdirnames(batch)
		for _, n := range some {
			total += len(n)
		}
		names = append(names, some...)
		*left -= len(some)
		switch {
		case *left < 0:
			return nil, &ErrTooLarge{path, "entries", int64(limit)}
		case total > maxNames:
			return nil, &ErrTooLarge{path, "names", maxNames}
		case errors.Is(err, io.EOF):
			slices.Sort(names)
			return names, nil
		case err != nil:
			return nil, err
		}
	}
}

func (w *walker) entry(dir *os.Root, name, full string, depth int) bool {
	info := FileInfo{Path: full}
	var below *os.Root
	err := w.f.owner.do(func() error {
		st, err := dir.Lstat(name)
		if err != nil {
			return err
		}
		info.Mode, info.ModTime = st.Mode(), st.ModTime()
		switch {
		case st.Mode().IsRegular():
			info.Size = st.Size()
		case st.Mode()&fs.ModeSymlink != 0:
			info.Target, err = dir.Readlink(name)
		case st.IsDir():
			below, err = openSame(dir, name, st)
		}
		return err
	})
	if below != nil {
		defer below.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err == nil && below != nil && depth+1 >= maxDepth {
		w.yield(dir, info, &ErrTooLarge{full, "depth", maxDepth})
		return false
	}
	if !w.yield(dir, info, fileError(full, err)) {
		return false
	}
	return err != nil || below == nil || w.dir(below, full, depth+1)
}

// openSame opens the directory that st is of.
func openSame(dir *os.Root, name string, st fs.FileInfo) (*os.Root, error) {
	below, err := dir.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	now, err := below.Stat(".")
	if err == nil && !os.SameFile(st, now) {
		err = &ErrFile{name, "was swapped while it was opened", nil}
	}
	if err != nil {
		below.Close()
		return nil, err
	}
	return below, nil
}

// openDir opens a directory by a path without links; what is missing is made if asked.
func (f *Files) openDir(name string, create bool) (dir *os.Root, err error) {
	err = f.owner.do(func() error {
		dir, err = f.root.OpenRoot(".")
		if err != nil || name == "." {
			return err
		}
		for part := range strings.SplitSeq(name, "/") {
			next, err := stepInto(dir, part, create)
			dir.Close()
			if err != nil {
				return err
			}
			dir = next
		}
		return nil
	})
	if err != nil {
		return nil, fileError(name, err)
	}
	return dir, nil
}

func stepInto(dir *os.Root, part string, create bool) (*os.Root, error) {
	st, err := dir.Lstat(part)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = dir.Mkdir(part, 0o755); err == nil {
			err = dir.Chmod(part, 0o755) // whatever the umask
		}
		if err == nil || errors.Is(err, fs.ErrExist) {
			st, err = dir.Lstat(part)
		}
	}
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return nil, &ErrFile{part, "leads through " + typeName(st.Mode()), nil}
	}
	return openSame(dir, part, st)
}
