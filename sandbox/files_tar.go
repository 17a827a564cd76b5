package sandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// TarOptions are those of [Files.GetTar].
type TarOptions struct {
	// Times keeps modification times, to the second; otherwise all are that of the
	// epoch, so that equal trees give equal bytes.
	Times bool
}

// TarReport says what an archive held.
type TarReport struct {
	Entries int   // files, directories and links
	Bytes   int64 // of all regular files
	// Skipped are what GetTar left out: special files and what cannot be read. Of
	// RootFromTar: devices, pipes and sockets.
	Skipped []*ErrFile
}

// skip notes an entry that is left out; the first thousand are enough to see why.
func (r *TarReport) skip(e *ErrFile) {
	if len(r.Skipped) < 1000 {
		r.Skipped = append(r.Skipped, e)
	}
}

// GetTar writes what is below a directory, "." for all of it, as a tar archive:
// sorted, without owners, symbolic links as links, a file with several names as
// several files. A file that shrinks while it is read is an error.
//
// # Errors
//
// [ErrFile], [ErrTooLarge], those of w, ctx's. What was written by then is no whole archive.
func (f *Files) GetTar(ctx context.Context, dir string, w io.Writer, o TarOptions) (TarReport, error) {
	t := &tarWriter{ctx: ctx, f: f, to: tar.NewWriter(w), options: o}
	if dir, _ := cleanName(dir); dir != "." {
		t.prefix = dir + "/"
	}
	walk := &walker{f: f, left: f.limits.Entries, yield: t.entry}
	walk.start(dir)
	if t.err == nil {
		t.err = t.to.Close()
	}
	return t.report, t.err
}

type tarWriter struct {
	ctx     context.Context
	f       *Files
	to      *tar.Writer
	prefix  string // of the names, which are relative to the directory
	options TarOptions
	report  TarReport
	err     error
}

func (t *tarWriter) entry(dir *os.Root, info FileInfo, err error) bool {
	var file *ErrFile
	switch {
	case t.ctx.Err() != nil:
		t.err = t.ctx.Err()
	case errors.As(err, &file) && info.Mode != 0:
		t.report.skip(file)
	case err != nil:
		t.err = err
	default:
		t.err = t.add(dir, info)
	}
	return t.err == nil
}

func (t *tarWriter) add(dir *os.Root, info FileInfo) error {
	h := &tar.Header{Name: strings.TrimPrefix(info.Path, t.prefix), Mode: int64(info.Mode.Perm()), Linkname: info.Target}
	if t.options.Times {
		h.ModTime = info.ModTime.Truncate(time.Second)
	}
	switch {
	case info.Mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, h.Name+"/"
	case info.Mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
	case info.Mode.IsRegular():
		return t.file(dir, info, h)
	default:
		t.report.skip(&ErrFile{info.Path, typeName(info.Mode), nil})
		return nil
	}
	t.report.Entries++
	return fileError(info.Path, t.to.WriteHeader(h))
}

func (t *tarWriter) file(dir *os.Root, info FileInfo, h *tar.Header) error {
	file, now, err := t.f.open(dir, path.Base(info.Path))
	var refused *ErrFile
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission), errors.As(err, &refused):
		t.report.skip(&ErrFile{info.Path, reason(err), err})
		return nil
	case err != nil:
		var large *ErrTooLarge
		if errors.As(err, &large) {
			large.Path = info.Path
		}
		return fileError(info.Path, err)
	}
	defer file.Close()
	if t.report.Bytes += now.Size; t.report.Bytes > t.f.limits.Total {
		return &ErrTooLarge{info.Path, "total", t.f.limits.Total}
	}
	h.Typeflag, h.Size = tar.TypeReg, now.Size
	if err := t.to.WriteHeader(h); err != nil {
		return fileError(info.Path, err)
	}
	t.report.Entries++
	n, err := io.CopyN(t.to, file, now.Size)
	if errors.Is(err, io.EOF) {
		err = &ErrFile{info.Path, fmt.Sprintf("shrank from %d to %d bytes while it was read", now.Size, n), io.ErrUnexpectedEOF}
	}
	return err
}

// PutTar unpacks a tar archive below a directory, "." for the top. Each file
// replaces what has its name in one step; the archive as a whole does not: what was
// unpacked before an error stays. Owners and extended attributes in it mean nothing.
//
// Refused, by an [ErrFile] that names the entry: absolute names and "..", a name that
// comes twice (but directories), symbolic links that point out, hard links to what
// is no file of the same archive, what is to be unpacked through a symbolic link,
// devices, pipes and sparse files.
//
// # Errors
//
// [ErrFile], [ErrTooLarge], those of r (tar.ErrHeader for what is no archive), ctx's.
func (f *Files) PutTar(ctx context.Context, dir string, r io.Reader) (TarReport, error) {
	clean, err := cleanName(dir)
	if err != nil {
		return TarReport{}, err
	}
	return f.unpack(ctx, clean, r, false)
}

func (f *Files) unpack(ctx context.Context, dir string, r io.Reader, tree bool) (TarReport, error) {
	u := &unpacker{f: f, dir: dir, tree: tree, kinds: map[string]byte{}}
	archive := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return u.report, ctx.Err()
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return u.report, nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // whose names are refused below
			return u.report, fmt.Errorf("sandbox: read the archive: %w", err)
		}
		if err := u.entry(h, archive); err != nil {
			return u.report, err
		}
	}
}

type unpacker struct {
	f      *Files
	dir    string
	tree   bool            // it is a root tree: links resolve in the sandbox, special files are left out
	kinds  map[string]byte // of the entries so far, by name
	names  int             // bytes of their names
	report TarReport
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == tar.TypeDir && strings.Trim(h.Name, "/") == "." {
		return nil
	}
	refuse := func(why string) error { return &ErrFile{h.Name, why, nil} }
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return refuse("a sparse file; pack it without --sparse")
		}
	}
	if kind, ok := u.kinds[name]; ok && (kind != tar.TypeDir || h.Typeflag != tar.TypeDir) {
		return refuse("comes twice")
	}
	u.kinds[name] = h.Typeflag
	u.report.Entries++
	if u.report.Entries > u.f.limits.Entries {
		return &ErrTooLarge{h.Name, "entries", int64(u.f.limits.Entries)}
	}
	if most := max(maxNames, 256*u.f.limits.Entries); u.names+len(name) > most {
		return &ErrTooLarge{h.Name, "names", int64(most)}
	}
	u.names += len(name)
	if u.tree && !u.f.inside && strings.HasPrefix(path.Base(name), ".wh.") {
		return refuse("a layer of an image has it, no tree does; merge the layers first (docker export)")
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(name, h, content)
	case tar.TypeDir:
		return u.directory(name, h)
	case tar.TypeSymlink:
		if !u.tree && (path.IsAbs(h.Linkname) || escapes(path.Join(path.Dir(name), h.Linkname))) {
			return refuse(fmt.Sprintf("a symbolic link to %.100q, which leads out", h.Linkname))
		}
		return u.link(name, func(temp string) error { return u.f.root.Symlink(h.Linkname, temp) })
	case tar.TypeLink:
		target, err := cleanName(h.Linkname)
		if err != nil || u.kinds[target] != tar.TypeReg && u.kinds[target] != tar.TypeLink || target == name {
			return refuse(fmt.Sprintf("a hard link to %.100q, which is no file earlier in the archive", h.Linkname))
		}
		return u.link(name, func(temp string) error { return u.f.root.Link(path.Join(u.dir, target), temp) })
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		if u.tree {
			u.report.Entries--
			u.report.skip(&ErrFile{h.Name, "a device or pipe", nil})
			return nil
		}
		return refuse("a device or pipe")
	case tar.TypeGNUSparse:
		return refuse("a sparse file; pack it without --sparse")
	}
	return refuse(fmt.Sprintf("of unknown type %q", h.Typeflag))
}

// escapes says that a clean relative path leads upwards.
func escapes(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// parent opens the directory of an entry.
func (u *unpacker) parent(name string) (*os.Root, error) {
	dir, err := u.f.openDir(path.Join(u.dir, path.Dir(name)), true)
	if err != nil {
		var inner *ErrFile
		if errors.As(err, &inner) {
			return nil, &ErrFile{name, inner.Reason, inner.Err}
		}
	}
	return dir, err
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	if h.Size > u.f.limits.File {
		return &ErrTooLarge{h.Name, "file", u.f.limits.File}
	}
	if h.Size > u.f.limits.Total-u.report.Bytes {
		return &ErrTooLarge{h.Name, "total", u.f.limits.Total}
	}
	dir, err := u.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	n, err := u.f.replace(dir, name, content, h.FileInfo().Mode(), h.ModTime)
	u.report.Bytes += n
	return err
}

// directory makes one, which the owner can always enter, or changes the mode of it.
func (u *unpacker) directory(name string, h *tar.Header) error {
	dir, err := u.f.openDir(path.Join(u.dir, name), true)
	if err != nil {
		return err
	}
	defer dir.Close()
	return fileError(name, u.f.owner.do(func() error { return dir.Chmod(".", h.FileInfo().Mode().Perm()|0o700) }))
}

// link makes a link beside its name, and renames it.
func (u *unpacker) link(name string, create func(temp string) error) error {
	dir, err := u.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	parent := path.Join(u.dir, path.Dir(name))
	temp := temporary()
	return fileError(name, u.f.owner.do(func() error {
		full := path.Join(parent, temp)
		if err := create(full); err != nil {
			return err
		}
		defer func() { _ = u.f.root.Remove(full) }() // there still if both are names of one file
		return u.f.rename(dir, temp, path.Base(name))
	}))
}
