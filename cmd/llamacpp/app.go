package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// pin says which tree is built and where it comes from.
type pin struct {
	version, tree         string
	repository, tag       string
	npmPackage, npmBundle string
	edits                 []llamacpp.Edit
}

// thePin is what main builds; tests put a small tree in its place.
var thePin = pin{
	version: llamacpp.Version, tree: llamacpp.Tree,
	repository: llamacpp.Repository, tag: llamacpp.Tag,
	npmPackage: llamacpp.NPMPackage, npmBundle: llamacpp.NPMBundle,
	edits: llamacpp.Edits,
}

// app is one invocation: the pin, the user's settings and where output goes.
type app struct {
	pin
	cache   string // …/lm-sandbox/llama.cpp
	src     string // LLAMA_CPP_SRC
	native  bool
	cc, cxx []string // with arguments: "ccache", "g++"

	cuda        string // auto, 1, 0 or wheels
	cudaVersion string // "" = any
	cudaArchs   string // "90;120", "" = the GPUs found
	offline     bool   // only look at what is there

	stdout, stderr io.Writer
}

func newApp(ctx context.Context, p pin, stdout, stderr io.Writer) (*app, error) {
	root := os.Getenv("XDG_CACHE_HOME")
	if root == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("no place for the cache: set XDG_CACHE_HOME or HOME: %w", err)
		}
		root = filepath.Join(home, ".cache")
	}
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("XDG_CACHE_HOME is %q, which is no absolute path", root)
	}
	a := &app{
		pin:    p,
		cache:  filepath.Join(root, "lm-sandbox", "llama.cpp"),
		src:    os.Getenv("LLAMA_CPP_SRC"),
		stdout: stdout,
		stderr: stderr,
	}
	if bad := unsafeInFlag(a.cache); bad != "" {
		return nil, fmt.Errorf("the cache path %q holds %q, which cgo refuses in a flag: set XDG_CACHE_HOME to another directory", a.cache, bad)
	}
	if err := a.readCUDA(); err != nil {
		return nil, err
	}
	switch v := os.Getenv("LLAMA_NATIVE"); v {
	case "", "0":
	case "1":
		a.native = true
	default:
		return nil, fmt.Errorf("LLAMA_NATIVE is %q: use 1 or 0", v)
	}
	a.cc, a.cxx = compilers(ctx)
	return a, nil
}

// say prints one line for the user; stdout is kept for what a shell evaluates.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, "llamacpp: "+format+"\n", args...)
}

func (a *app) sourceDir() string          { return filepath.Join(a.cache, "source", a.tree) }
func (a *app) workDir(key string) string  { return filepath.Join(a.cache, "work", key) }
func (a *app) outDir(key string) string   { return filepath.Join(a.cache, "native", key) }
func (a *app) peersDir(key string) string { return filepath.Join(a.cache, "peers", key) }

// exists tells whether path is there; another failure than absence counts as
// there, so that the operation that follows reports it.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
