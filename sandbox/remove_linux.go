package sandbox

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
)

// removeTree removes what a sandbox may have made: directories that nobody may read, and
// nested so deeply that this process had not open files enough to go down. So it does not
// go down: what is two levels below is moved up.
func removeTree(root *os.Root, name string) error {
	err := root.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	top, err := openOwn(root, name, err)
	if err != nil {
		return err
	}
	defer top.Close()
	for {
		names, err := someNames(top)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return root.Remove(name)
		}
		for _, n := range names {
			if err := raise(top, n); err != nil {
				return err
			}
		}
	}
}

// raise removes an entry of top; the directories of a directory become entries of top.
func raise(top *os.Root, name string) error {
	err := top.Remove(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	dir, err := openOwn(top, name, err)
	if err != nil {
		return err
	}
	defer dir.Close()
	for {
		names, err := someNames(dir)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return top.Remove(name)
		}
		for _, n := range names {
			err := dir.Remove(n)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			below, err := openOwn(dir, n, err) // moving it writes to it: its ".."
			if err != nil {
				return err
			}
			below.Close()
			if err := top.Rename(path.Join(name, n), temporary()); err != nil {
				return err
			}
		}
	}
}

// openOwn opens a directory that was not removed because of why, with the rights of its
// owner.
func openOwn(dir *os.Root, name string, why error) (*os.Root, error) {
	st, err := dir.Lstat(name)
	if err != nil || !st.IsDir() {
		return nil, errors.Join(why, err)
	}
	if st.Mode().Perm()&0o700 != 0o700 {
		if err := dir.Chmod(name, 0o700); err != nil {
			return nil, err
		}
	}
	return openSame(dir, name, st)
}

func someNames(dir *os.Root) ([]string, error) {
	const batch = 1024
	list, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer list.Close()
	names, err := list.Readdirnames(batch)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
