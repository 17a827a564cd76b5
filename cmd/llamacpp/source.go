package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// hashError reports sources that are not the pinned tree.
type hashError struct{ from, got, want string }

func (e *hashError) Error() string {
	return fmt.Sprintf("the sources from %s are not the pinned tree\n  got  %s\n  want %s", e.from, e.got, e.want)
}

// unavailableError is a source that cannot be had; the next one is tried.
type unavailableError struct{ reason string }

func (e *unavailableError) Error() string { return e.reason }

// fetch puts the pinned tree into the cache, unless it is there and whole.
func (a *app) fetch(ctx context.Context) error {
	lock, err := a.lock(ctx, "source-"+a.tree)
	if err != nil {
		return err
	}
	defer lock.Close()
	return a.fetchLocked(ctx)
}

func (a *app) fetchLocked(ctx context.Context) error {
	dir := a.sourceDir()
	if exists(dir) {
		err := a.checkTree(dir, "the cache")
		if err == nil {
			a.say("sources: %s (verified)", dir)
			return nil
		}
		a.say("%v", err)
		a.say("fetching the sources again")
	}
	if err := need(a.fetchTools()); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := removeLeftovers(parent, a.tree); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, leftover(a.tree)+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	got := filepath.Join(tmp, "tree")
	from, err := a.fetchInto(ctx, tmp, got)
	if err != nil {
		return err
	}
	if err := a.checkTree(got, from); err != nil {
		return err
	}
	if err := publish(got, dir); err != nil {
		return err
	}
	a.say("sources: %s (from %s, tree %s verified)", dir, from, a.tree)
	return nil
}

// fetchInto fills dir from the first source that can be had and returns that
// source's name; tmp is scratch space that the caller removes.
func (a *app) fetchInto(ctx context.Context, tmp, dir string) (from string, err error) {
	if a.src != "" { // the user named the source: no other may stand in for it
		return a.src, a.fromDirectory(ctx, dir)
	}
	for _, s := range []struct {
		name string
		get  func(ctx context.Context, tmp, dir string) error
	}{
		{"the npm package " + a.npmPackage, a.fromNPM},
		{a.repository, a.fromGit},
	} {
		err := s.get(ctx, tmp, dir)
		var unavailable *unavailableError
		if !errors.As(err, &unavailable) {
			return s.name, err
		}
		a.say("skipping %s: %s", s.name, unavailable.reason)
		if err := os.RemoveAll(dir); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("no source of llama.cpp could be had; set LLAMA_CPP_SRC to a checkout of %s, or let npm or git reach the network", a.tag)
}

// checkTree hashes the files under dir.
func (a *app) checkTree(dir, from string) error {
	got, err := treeHash(dir)
	if err != nil {
		return err
	}
	if got != a.tree {
		return &hashError{from, got, a.tree}
	}
	return nil
}

// leftover is the prefix of the scratch directories of name: what a killed
// llamacpp leaves, and what the next one with the lock removes.
func leftover(name string) string { return ".tmp-" + name + "-" }

func removeLeftovers(parent, name string) error {
	stale, err := filepath.Glob(filepath.Join(parent, leftover(name)+"*"))
	for _, dir := range stale {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// publish moves the finished directory from to its place in one step, durably. A
// former one is moved aside first, into from's parent, which the caller removes.
func publish(from, to string) error {
	if err := syncTree(from); err != nil {
		return err
	}
	if exists(to) {
		if err := os.Rename(to, from+".old"); err != nil {
			return err
		}
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFile(filepath.Dir(to))
}

// syncTree asks the disk to keep every file and directory under dir.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || (!d.IsDir() && !d.Type().IsRegular()) {
			return err
		}
		return syncFile(path)
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
