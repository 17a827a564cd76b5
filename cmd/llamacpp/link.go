package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	modulePath  = "github.com/lm-sandbox/lm-sandbox"
	linkFile    = "llama/internal/native/link_generated.go"
	sourceLink  = "third_party/llama.cpp/source"
	libraryLink = "third_party/llama.cpp/build"
)

// install builds where needed and links: into the clone that the working
// directory is part of, else by printed lines.
func (a *app) install(ctx context.Context) error {
	lib, err := a.build(ctx)
	if err != nil {
		return err
	}
	root, err := cloneRoot()
	if err != nil {
		return err
	}
	if root == "" {
		return a.printEnv(lib)
	}
	for _, l := range a.symlinks(root, lib) {
		if err := symlink(l.to, l.at); err != nil {
			return err
		}
	}
	path := filepath.Join(root, linkFile)
	if err := replaceFile(path, lib.goFile()); err != nil {
		return err
	}
	a.say("linked: %s (key %s)", path, lib.Key)
	return nil
}

// env prints the shell lines of the built library.
func (a *app) env(ctx context.Context) error {
	p, err := a.plan(ctx)
	if err != nil {
		return err
	}
	lib, err := a.openLibrary(p.key)
	if err != nil {
		return err
	}
	return a.printEnv(lib)
}

type link struct{ at, to string }

func (a *app) symlinks(root string, lib *library) []link {
	links := []link{{filepath.Join(root, libraryLink), lib.dir}}
	if exists(a.sourceDir()) { // a library may outlive its sources
		links = append(links, link{filepath.Join(root, sourceLink), a.sourceDir()})
	}
	return links
}

// cloneRoot returns the clone of lm-sandbox that the working directory lies in,
// "" where it lies in another module or in none.
func cloneRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			if moduleOf(data) == modulePath {
				return dir, nil
			}
			return "", nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", nil
		}
		dir = parent
	}
}

func moduleOf(gomod []byte) string {
	for line := range bytes.Lines(gomod) {
		if rest, ok := bytes.CutPrefix(line, []byte("module ")); ok {
			return strings.Trim(string(bytes.TrimSpace(rest)), `"`)
		}
	}
	return ""
}

// symlink makes at a link to to, replacing another link.
func symlink(to, at string) error {
	if cur, err := os.Readlink(at); err == nil && cur == to {
		return nil
	}
	if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("%s is no symbolic link: move it away", at)
	}
	tmp := fmt.Sprintf("%s.%d", at, os.Getpid())
	if err := os.Symlink(to, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, at)
}

// replaceFile writes data to path in one step, unless it is there already.
func replaceFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".link-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
