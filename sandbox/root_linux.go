package sandbox

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The defaults of RootFromTar.
const (
	rootFileSize = 2 << 30
	rootTotal    = 8 << 30
	rootEntries  = 1 << 20
)

func rootFromTar(ctx context.Context, r io.Reader, dir string, limits FileLimits) (report TarReport, err error) {
	if limits.File == 0 {
		limits.File = rootFileSize
	}
	if limits.Total == 0 {
		limits.Total = rootTotal
	}
	if limits.Entries == 0 {
		limits.Entries = rootEntries
	}
	if _, err := limits.withDefaults(); err != nil {
		return report, err
	}
	name := filepath.Base(filepath.Clean(dir))
	if dir == "" || name == "." || name == ".." || name == "/" {
		return report, &ErrConfig{"dir", "has no name"}
	}
	path, err := hostDir("dir", filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return report, err
	}
	parent, err := os.OpenRoot(path)
	if err != nil {
		return report, &ErrConfig{"dir", reason(err)}
	}
	defer parent.Close()
	if err := vacant(parent, name); err != nil {
		return report, err
	}
	temp := temporary()
	if err := parent.Mkdir(temp, 0o700); err != nil {
		return report, &ErrConfig{"dir", reason(err)}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeTree(parent, temp))
		}
	}()
	tree, err := viewOf(filepath.Join(path, temp), limits)
	if err != nil {
		return report, err
	}
	defer tree.Close()
	content, err := decompress(r)
	if err != nil {
		return report, err
	}
	if report, err = tree.unpack(ctx, ".", content, true); err != nil {
		return report, err
	}
	if err := tree.root.Chmod(".", 0o755); err != nil {
		return report, fileError(name, err)
	}
	if err := parent.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one
		return report, &ErrConfig{"dir", reason(err)}
	}
	if err := parent.Rename(temp, name); err != nil {
		return report, &ErrConfig{"dir", reason(err)}
	}
	return report, nil
}

// vacant refuses what rename(2) would not replace.
func vacant(parent *os.Root, name string) error {
	st, err := parent.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &ErrConfig{"dir", reason(err)}
	}
	if !st.IsDir() {
		return &ErrConfig{"dir", "is " + typeName(st.Mode())}
	}
	dir, err := parent.Open(name)
	if err != nil {
		return &ErrConfig{"dir", reason(err)}
	}
	defer dir.Close()
	if _, err := dir.Readdirnames(1); !errors.Is(err, io.EOF) {
		return &ErrConfig{"dir", "is not empty"}
	}
	return nil
}

// decompress looks at the first bytes of an archive.
func decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("sandbox: read the archive: %w", err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("sandbox: read the archive: %w", err)
	}
	return z, nil
}
