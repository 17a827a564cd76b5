package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"syscall"
	"time"
)

// Files is a confined view of one directory that a sandbox may change at any
// moment: a workspace on the host, or a directory inside a [Session]. No name, no
// link and no race leads out of it (os.Root): symbolic links are followed
// as long as they stay below the directory. Names are relative, with slashes.
//
// What it makes belongs to the owner of the directory, also when the caller is
// root, which acts with that owner's rights only (setfsuid(2)). Sizes are logical
// ones: a sparse file counts in full. Named pipes, sockets and devices are never
// opened. Nothing that it makes has a set-user-id, set-group-id or sticky bit.
//
// Its methods may be called from any number of goroutines.
type Files struct {
	root   *os.Root
	owner  owner
	limits FileLimits
	inside bool // it is of a sandbox, whose mount points only that knows
}

// FileLimits bounds what one call of a method of [Files] moves. A zero field has
// the default; a negative one is an [ErrConfig].
type FileLimits struct {
	File    int64 // bytes of any one file; default 256 MiB
	Total   int64 // bytes of all files of one archive; default 1 GiB
	Entries int   // files, directories and links of one archive or walk; default 65536
}

// The defaults of [FileLimits].
const (
	DefaultFileSize    = 256 << 20
	DefaultFileTotal   = 1 << 30
	DefaultFileEntries = 1 << 16
)

const (
	maxDepth = 128      // directories below each other: a walk holds one open file for each
	maxName  = 4095     // PATH_MAX without its NUL
	maxNames = 16 << 20 // bytes of all names of one archive or directory
	// More is no bound on any disk; sums of two do not overflow.
	maxFileLimit = 1 << 61
)

// FileInfo is one file, directory or link of a [Files].
type FileInfo struct {
	Path    string      // relative to the directory of the Files
	Mode    fs.FileMode // type and permission bits
	Size    int64       // logical size of a regular file in bytes
	ModTime time.Time
	Target  string // of a symbolic link: where it points, as it says
}

// ErrTooLarge is a file, an archive or a directory beyond a bound of [FileLimits].
// What was written until then stays; a file is there whole or not at all.
type ErrTooLarge struct {
	Path  string // the file or entry that went beyond
	What  string // "file" or "total" (bytes), "entries", "depth" or "names"
	Limit int64
}

func (e *ErrTooLarge) Error() string {
	return fmt.Sprintf("sandbox: %.200q: more than %d (%s); raise it in FileLimits if that is meant", e.Path, e.Limit, e.What)
}

// ErrFile is a path of a [Files], an entry of an archive or a change of an
// [Overlay] that is refused, or that failed. errors.Is(err, fs.ErrNotExist) and
// the like hold where they apply.
type ErrFile struct {
	Path   string
	Reason string
	Err    error // the system's error, or nil where the name or type alone is refused
}

func (e *ErrFile) Error() string { return fmt.Sprintf("sandbox: %.200q: %s", e.Path, e.Reason) }

func (e *ErrFile) Unwrap() error { return e.Err }

// fileError gives an error its path. Those of readers and writers of the caller pass as they are.
func fileError(name string, err error) error {
	var own *ErrFile
	var large *ErrTooLarge
	if err == nil || errors.As(err, &own) || errors.As(err, &large) {
		return err
	}
	return &ErrFile{name, reason(err), err}
}

// OpenFiles opens a directory of the host, usually a [Config.Workspace], whether
// sandboxes run in it or not. Close must be called.
//
// # Errors
//
// [ErrConfig] (the limits; dir is none, or belongs to the system), [ErrUnsupported].
func OpenFiles(dir string, limits FileLimits) (*Files, error) { return openFiles(dir, limits) }

// Close frees the directory. Readers that GetFile has returned stay usable.
func (f *Files) Close() error { return f.root.Close() }

func (l FileLimits) withDefaults() (FileLimits, error) {
	if l.File < 0 || l.Total < 0 || l.Entries < 0 {
		return l, &ErrConfig{"FileLimits", "negative"}
	}
	if l.File == 0 {
		l.File = DefaultFileSize
	}
	if l.Total == 0 {
		l.Total = DefaultFileTotal
	}
	if l.Entries == 0 {
		l.Entries = DefaultFileEntries
	}
	l.File, l.Total = min(l.File, maxFileLimit), min(l.Total, maxFileLimit)
	return l, nil
}

// cleanName refuses what is no plain relative path. A leading "./" and a trailing
// slash, which archives have, mean nothing.
func cleanName(name string) (string, error) {
	short := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	switch {
	case short == "":
		return "", &ErrFile{name, "empty name", nil}
	case strings.Contains(name, "\x00"):
		return "", &ErrFile{name, "contains a NUL byte", nil}
	case len(name) > maxName:
		return "", &ErrFile{name, fmt.Sprintf("longer than %d bytes", maxName), nil}
	case path.IsAbs(name):
		return "", &ErrFile{name, "absolute; names are relative to the directory", nil}
	case strings.Count(short, "/") >= maxDepth:
		return "", &ErrTooLarge{name, "depth", maxDepth}
	}
	for part := range strings.SplitSeq(short, "/") {
		if part == ".." || part == "" || part == "." && short != "." {
			return "", &ErrFile{name, "not in its shortest form, or leads upwards", nil}
		}
	}
	return short, nil
}

// PutFile writes a file, with the permission bits of mode. It replaces what has that
// name in one step (rename(2)), be it a link, but not a directory; directories
// above are made. Nothing is there under the name if it fails.
//
// # Errors
//
// [ErrFile], [ErrTooLarge], those of r.
func (f *Files) PutFile(name string, r io.Reader, mode fs.FileMode) error {
	clean, err := cleanName(name)
	if err != nil {
		return err
	}
	parent := path.Dir(clean)
	var dir *os.Root
	err = f.owner.do(func() (err error) {
		if err = f.root.MkdirAll(parent, 0o755); err == nil {
			dir, err = f.root.OpenRoot(parent)
		}
		return err
	})
	if err != nil {
		return fileError(name, err)
	}
	defer dir.Close()
	_, err = f.replace(dir, clean, r, mode, time.Time{})
	return err
}

// replace writes a file beside its name and then renames it.
func (f *Files) replace(dir *os.Root, name string, r io.Reader, mode fs.FileMode, modified time.Time) (int64, error) {
	temp := temporary()
	var file *os.File
	err := f.owner.do(func() (err error) {
		file, err = dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return 0, fileError(name, err)
	}
	n, err := io.Copy(file, io.LimitReader(r, f.limits.File+1))
	if n > f.limits.File {
		err = &ErrTooLarge{name, "file", f.limits.File}
	}
	var failed error
	if ferr := f.owner.do(func() error {
		if err == nil {
			failed = file.Chmod(mode.Perm())
		}
		failed = errors.Join(failed, file.Close())
		if err == nil && failed == nil && !modified.IsZero() {
			failed = dir.Chtimes(temp, time.Time{}, modified)
		}
		if err == nil && failed == nil {
			failed = f.rename(dir, temp, path.Base(name))
		}
		if err != nil || failed != nil {
			_ = dir.Remove(temp) // the sandbox may have moved it
		}
		return nil
	}); ferr != nil {
		failed = ferr
	}
	if err == nil {
		err = fileError(name, failed)
	}
	return n, err
}

// rename gives a file its name. The kernel lets nobody replace a mount point of its own
// mount namespace, but that of another, which then loses the mount: a protected
// path of a sandbox would not be any more.
func (f *Files) rename(dir *os.Root, temp, name string) error {
	if f.inside && isMountPoint(dir, name) {
		return syscall.EROFS
	}
	return dir.Rename(temp, name)
}

// temporary is a name that nobody else makes by accident.
func temporary() string { return fmt.Sprintf(".lm-sandbox-%016x", rand.Uint64()) }

// GetFile opens a regular file. The reader fails with [ErrTooLarge] if the file
// grows beyond FileLimits.File while it is read. It must be closed.
//
// # Errors
//
// [ErrFile] (it does not exist, is no regular file, leads out), [ErrTooLarge].
func (f *Files) GetFile(name string) (io.ReadCloser, FileInfo, error) {
	clean, err := cleanName(name)
	if err != nil {
		return nil, FileInfo{}, err
	}
	file, info, err := f.open(f.root, clean)
	if err != nil {
		return nil, FileInfo{}, fileError(name, err)
	}
	info.Path = clean
	return &fileReader{file, clean, f.limits.File, f.limits.File}, info, nil
}

// open opens a regular file for reading. Its type is looked at before, because to
// open a device does something, and after, because it may have been swapped: then
// O_NONBLOCK keeps a pipe, or a file with a lease (fcntl(2)), from blocking.
func (f *Files) open(dir *os.Root, name string) (file *os.File, info FileInfo, err error) {
	err = f.owner.do(func() error {
		st, err := dir.Stat(name)
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return &ErrFile{name, typeName(st.Mode()) + ", not a regular file", nil}
		}
		file, err = dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, info, err
	}
	st, err := file.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = &ErrFile{name, typeName(st.Mode()) + ", not a regular file", nil}
	case st.Size() > f.limits.File:
		err = &ErrTooLarge{name, "file", f.limits.File}
	default:
		return file, FileInfo{Path: name, Mode: st.Mode(), Size: st.Size(), ModTime: st.ModTime()}, nil
	}
	file.Close()
	return nil, info, err
}

func typeName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a directory"
	case m&fs.ModeSymlink != 0:
		return "a symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	case m.IsRegular():
		return "a regular file"
	}
	return "a special file"
}

// fileReader reads a file that may grow meanwhile.
type fileReader struct {
	file        *os.File
	name        string
	limit, left int64
}

func (r *fileReader) Read(b []byte) (int, error) {
	if int64(len(b)) > r.left+1 {
		b = b[:r.left+1]
	}
	n, err := r.file.Read(b)
	if int64(n) > r.left {
		return int(r.left), &ErrTooLarge{r.name, "file", r.limit}
	}
	r.left -= int64(n)
	return n, err
}

func (r *fileReader) Close() error { return r.file.Close() }
