package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// manifest describes a built library; it lies beside its files.
type manifest struct {
	Version         string            `json:"version"`
	Tree            string            `json:"tree"`
	Key             string            `json:"key"`
	GOOS            string            `json:"goos"`
	GOARCH          string            `json:"goarch"`
	CUDA            bool              `json:"cuda"`
	Compiler        string            `json:"compiler"`
	Options         []string          `json:"options"`
	Libraries       []string          `json:"libraries"`        // in lib/, in link order
	SystemLibraries []string          `json:"system_libraries"` // flags that follow them
	Files           map[string]string `json:"files"`            // path → sha256
}

const manifestFile = "manifest.json"

// write hashes every file under dir into the manifest and stores it there.
func (m manifest) write(dir string) error {
	m.Files = map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		m.Files[filepath.ToSlash(rel)], err = sha256File(path)
		return err
	})
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestFile), append(data, '\n'), 0o644)
}

// library is a built library in the cache.
type library struct {
	manifest
	dir string
}

// errNotBuilt says that the cache has no library for the present settings.
var errNotBuilt = errors.New("llama.cpp is not built for these settings: run llamacpp install")

// openLibrary returns the library of key after hashing its files.
func (a *app) openLibrary(key string) (*library, error) {
	l := &library{dir: a.outDir(key)}
	if err := readManifest(l.dir, &l.manifest); err != nil {
		return nil, err
	}
	if l.Key != key || l.Tree != a.tree {
		return nil, fmt.Errorf("%s is of key %s and tree %s", l.dir, l.Key, l.Tree)
	}
	return l, checkFiles(l.dir, l.Files)
}

func readManifest(dir string, m *manifest) error {
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, os.ErrNotExist) {
		return errNotBuilt
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(m); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, manifestFile), err)
	}
	return nil
}

func checkFiles(dir string, files map[string]string) error {
	for rel, want := range files {
		got, err := sha256File(filepath.Join(dir, rel))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s has sha256 %s, was built with %s", filepath.Join(dir, rel), got, want)
		}
	}
	return nil
}

func sha256File(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
