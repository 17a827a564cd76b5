package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// writeFile replaces path by b at once or not at all.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(tmp))
	}
	return install(f, path)
}

// install makes the file behind f, which is written to the end, appear under path: its bytes reach the disk before its name.
func install(f *os.File, path string) error {
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that cannot
		err = nil
	}
	return errors.Join(err, d.Close())
}

// hashFile is the sha256 of a file.
func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := copyContext(ctx, h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// copyContext is io.Copy that stops when ctx is done.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 256<<10)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		k, err := r.Read(buf)
		if k > 0 {
			if _, werr := w.Write(buf[:k]); werr != nil {
				return n, werr
			}
			n += int64(k)
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// needSpace is a DiskFullError where dir lacks room for n more bytes.
func needSpace(dir string, n int64) error {
	if free := freeSpace(dir); free >= 0 && n > free {
		return &DiskFullError{Dir: dir, Need: n, Free: free}
	}
	return nil
}

// asDiskFull turns the error of a write into a DiskFullError where it is one; need is what was still to be written.
func asDiskFull(err error, dir string, need int64) error {
	if err == nil || !isDiskFull(err) {
		return err
	}
	return &DiskFullError{Dir: dir, Need: need, Free: freeSpace(dir)}
}
