package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// build returns the library for this machine and these settings, compiling it
// where the cache does not hold it whole.
func (a *app) build(ctx context.Context) (*library, error) {
	p, err := a.plan(ctx)
	if err != nil {
		return nil, err
	}
	lib, err := a.openLibrary(p.key)
	if err == nil {
		a.say("library: %s (cached)", lib.dir)
		return lib, nil
	}
	if err := a.needBuild(); err != nil {
		return nil, err
	}
	lock, err := a.lock(ctx, "native-"+p.work)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if lib, err := a.openLibrary(p.key); err == nil {
		a.say("library: %s (built by another llamacpp meanwhile)", lib.dir)
		return lib, nil
	} else if exists(a.outDir(p.key)) {
		a.say("the cached library is damaged: %v", err)
	}
	if err := a.fetch(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	b := cmakeBuild{app: a, plan: p, lock: lock, dir: a.workDir(p.work)}
	if err := b.make(ctx, "building", llamacpp.Targets); err != nil {
		return nil, err
	}
	if err := b.install(ctx); err != nil {
		return nil, err
	}
	lib, err = a.openLibrary(p.key)
	if err != nil {
		return nil, err
	}
	a.say("library: %s (built in %s)", lib.dir, time.Since(start).Round(time.Second))
	return lib, nil
}

// install stages headers, libraries, the key's symbol and the manifest beside
// their place and moves them there in one step.
func (b cmakeBuild) install(ctx context.Context) error {
	out := b.outDir(b.key)
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := removeLeftovers(parent, b.key); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, leftover(b.key)+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	stage := filepath.Join(tmp, "out")
	for _, dir := range llamacpp.HeaderDirs {
		if err := copyHeaders(filepath.Join(b.sourceDir(), dir), filepath.Join(stage, dir)); err != nil {
			return err
		}
	}
	vars, err := cmakeCache(b.dir)
	if err != nil {
		return err
	}
	m := manifest{
		Version: b.version, Tree: b.tree, Key: b.key, GOOS: b.GOOS, GOARCH: b.GOARCH,
		Compiler: b.compiler, Options: b.options, CUDA: b.CUDA,
	}
	for _, lib := range llamacpp.Libraries(b.Variant) {
		name := filepath.Base(lib)
		if err := copyFile(filepath.Join(b.dir, lib), filepath.Join(stage, "lib", name)); err != nil {
			return err
		}
		m.Libraries = append(m.Libraries, name)
	}
	if err := b.edit(ctx, stage, vars["CMAKE_AR"]); err != nil {
		return err
	}
	if err := b.stamp(ctx, stage, vars["CMAKE_AR"]); err != nil {
		return err
	}
	m.Libraries = append([]string{stampLibrary}, m.Libraries...)
	m.SystemLibraries = llamacpp.SystemLibraries(b.Variant, openMPNames(vars), b.cudaDir)
	if err := m.write(stage); err != nil {
		return err
	}
	return publish(stage, out)
}

// openMPNames returns the libraries that CMake found for OpenMP, without those
// that every program links.
func openMPNames(vars map[string]string) []string {
	var names []string
	for _, n := range strings.Split(vars["OpenMP_CXX_LIB_NAMES"], ";") {
		if n != "" && n != "pthread" && !strings.HasSuffix(n, "NOTFOUND") {
			names = append(names, n)
		}
	}
	return names
}

func copyHeaders(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !llamacpp.IsHeader(d.Name()) {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(to, rel))
	})
}
