package main

import (
	"context"
	"os"
	"path/filepath"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// peers puts llama.cpp's own programs of the same tree, options and objects into
// dir.
func (a *app) peers(ctx context.Context, dir string) error {
	p, err := a.plan(ctx)
	if err != nil {
		return err
	}
	built, err := a.openPeers(p.work)
	if err != nil {
		if built, err = a.buildPeers(ctx, p); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, want := range built.Files {
		to := filepath.Join(dir, name)
		if got, err := sha256File(to); err == nil && got == want {
			continue
		}
		if err := replaceProgram(filepath.Join(a.peersDir(p.work), name), to); err != nil {
			return err
		}
	}
	a.say("peers: %s (key %s)", dir, p.work)
	return nil
}

func (a *app) openPeers(key string) (manifest, error) {
	var m manifest
	if err := readManifest(a.peersDir(key), &m); err != nil {
		return m, err
	}
	return m, checkFiles(a.peersDir(key), m.Files)
}

func (a *app) buildPeers(ctx context.Context, p plan) (manifest, error) {
	if err := a.needBuild(); err != nil {
		return manifest{}, err
	}
	lock, err := a.lock(ctx, "native-"+p.work)
	if err != nil {
		return manifest{}, err
	}
	defer lock.Close()
	if m, err := a.openPeers(p.work); err == nil {
		return m, nil
	}
	if err := a.fetch(ctx); err != nil {
		return manifest{}, err
	}
	b := cmakeBuild{app: a, plan: p, lock: lock, dir: a.workDir(p.work)}
	if err := b.make(ctx, "building the peers", llamacpp.Peers); err != nil {
		return manifest{}, err
	}
	out := a.peersDir(p.work)
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return manifest{}, err
	}
	if err := removeLeftovers(parent, p.work); err != nil {
		return manifest{}, err
	}
	tmp, err := os.MkdirTemp(parent, leftover(p.work)+"*")
	if err != nil {
		return manifest{}, err
	}
	defer os.RemoveAll(tmp)
	stage := filepath.Join(tmp, "out")
	for _, name := range llamacpp.Peers {
		if err := copyFile(filepath.Join(b.dir, "bin", name), filepath.Join(stage, name)); err != nil {
			return manifest{}, err
		}
	}
	m := manifest{Version: a.version, Tree: a.tree, Key: p.work, GOOS: p.GOOS, GOARCH: p.GOARCH, Compiler: p.compiler, Options: p.options, CUDA: p.CUDA}
	if err := m.write(stage); err != nil {
		return manifest{}, err
	}
	if err := publish(stage, out); err != nil {
		return manifest{}, err
	}
	return a.openPeers(p.work)
}

// replaceProgram copies a program over one that may be running.
func replaceProgram(from, to string) error {
	tmp := to + ".new"
	if err := copyFile(from, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}
