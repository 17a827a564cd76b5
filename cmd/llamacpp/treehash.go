package main

import (
	"cmp"
	"crypto/sha1" // git's object hash; the pin is a git tree hash
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// treeHash returns the git tree hash of the files under dir as they lie on disk:
// no git, no index, no attribute or line-end setting has a say. A .git in dir
// itself is not part of it.
func treeHash(dir string) (string, error) {
	sum, err := hashDir(dir, true)
	if err != nil {
		return "", err
	}
	if sum == nil {
		return "", fmt.Errorf("%s holds no files", dir)
	}
	return hex.EncodeToString(sum), nil
}

// hashDir returns nil for a directory without files: git does not know those.
func hashDir(dir string, top bool) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	// Git sorts a directory as if its name ended with a slash.
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(x, y fs.DirEntry) int { return cmp.Compare(key(x), key(y)) })
	var body []byte
	for _, e := range entries {
		if top && e.Name() == ".git" {
			continue
		}
		mode, sum, err := hashEntry(filepath.Join(dir, e.Name()), e)
		if err != nil {
			return nil, err
		}
		if sum == nil {
			continue
		}
		body = append(body, mode+" "+e.Name()+"\x00"...)
		body = append(body, sum...)
	}
	if body == nil {
		return nil, nil
	}
	return hashObject("tree", body), nil
}

func hashEntry(path string, e fs.DirEntry) (mode string, sum []byte, err error) {
	switch {
	case e.IsDir():
		sum, err = hashDir(path, false)
		return "40000", sum, err
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return "120000", hashObject("blob", []byte(target)), err
	case e.Type().IsRegular():
		return hashFile(path)
	default:
		return "", nil, fmt.Errorf("%s is neither file, directory nor link", path)
	}
}

func hashFile(path string) (mode string, sum []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", nil, err
	}
	mode = "100644"
	if info.Mode()&0o100 != 0 {
		mode = "100755"
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", info.Size())
	n, err := io.Copy(h, f)
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%s changed while it was read", path)
	}
	return mode, h.Sum(nil), err
}

func hashObject(kind string, body []byte) []byte {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(body))
	h.Write(body)
	return h.Sum(nil)
}
