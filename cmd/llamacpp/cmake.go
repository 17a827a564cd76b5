package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/internal/progress"
)

// cmakeBuild is the CMake build directory of one plan. It stays in the cache: a
// killed build goes on where it was, and the peers are linked from its objects.
type cmakeBuild struct {
	*app
	plan
	lock *os.File
	dir  string
}

// make configures and builds targets.
func (b cmakeBuild) make(ctx context.Context, label string, targets []string) error {
	name, program := generator()
	fresh, err := b.prepare(name)
	if err != nil {
		return err
	}
	err = b.configure(ctx, name)
	if err != nil && !fresh && ctx.Err() == nil {
		// A directory that another compiler or CMake left behind: once more from nothing.
		if err = os.RemoveAll(b.dir); err == nil {
			err = b.configure(ctx, name)
		}
	}
	if err != nil {
		return err
	}
	return b.compile(ctx, program, label, targets)
}

// prepare removes a build directory that cannot be resumed and tells whether
// there is none to resume.
func (b cmakeBuild) prepare(generator string) (fresh bool, err error) {
	if !exists(filepath.Join(b.dir, "CMakeCache.txt")) {
		return true, os.RemoveAll(b.dir)
	}
	vars, err := cmakeCache(b.dir)
	if err != nil {
		return false, err
	}
	moved := vars["CMAKE_GENERATOR"] != generator || vars["CMAKE_HOME_DIRECTORY"] != b.sourceDir()
	// Ninja knows from its log what a killed compiler left half-written; make
	// takes such an object for finished.
	torn := generator != "Ninja" && exists(b.busyFile())
	if moved || torn {
		return true, os.RemoveAll(b.dir)
	}
	return false, nil
}

// busyFile exists while a build runs: afterwards it tells of one that was killed.
func (b cmakeBuild) busyFile() string { return filepath.Join(b.dir, "lm-sandbox-busy") }

func (b cmakeBuild) tmpDir() string { return filepath.Join(b.dir, "lm-sandbox-tmp") }

func (b cmakeBuild) configure(ctx context.Context, generator string) error {
	b.say("configuring in %s", b.dir)
	args := []string{"cmake", "-S", b.sourceDir(), "-B", b.dir, "-G", generator}
	args = append(args, b.options...)
	args = append(args, "-DGGML_CCACHE=OFF") // it would also take sccache, whose server outlives us
	if ccache, err := exec.LookPath("ccache"); err == nil {
		for _, lang := range []string{"C", "CXX", "CUDA"} {
			args = append(args, "-DCMAKE_"+lang+"_COMPILER_LAUNCHER="+ccache)
		}
	}
	if b.CUDA {
		// CMake looks for the toolkit before it looks at the compiler, and nvcc takes
		// the first gcc it finds unless it is told.
		args = append(args, "-DCMAKE_CUDA_COMPILER="+b.host.toolkit.nvcc, "-DCUDAToolkit_ROOT="+b.host.toolkit.root(),
			"-DCMAKE_CUDA_HOST_COMPILER="+hostCompiler(b.cxx))
	}
	return child{args: args, env: b.buildEnv(), lock: b.lock}.run(ctx)
}

func (b cmakeBuild) compile(ctx context.Context, program, label string, targets []string) error {
	if err := os.WriteFile(b.busyFile(), nil, 0o644); err != nil {
		return err
	}
	// The compilers' own files lie here: nvcc's are large for a /tmp in memory,
	// and need to live for minutes where a /tmp is swept.
	if err := errors.Join(os.RemoveAll(b.tmpDir()), os.MkdirAll(b.tmpDir(), 0o755)); err != nil {
		return err
	}
	bar := progress.New(b.stderr, "llamacpp: "+label, 0, progress.Steps)
	args := append([]string{program, "-C", b.dir, "-j" + jobs()}, targets...)
	err := child{args: args, env: append(b.buildEnv(), "TMPDIR="+b.tmpDir()), lock: b.lock, onLine: func(line string) {
		if done, total, ok := buildStep(line); ok {
			bar.SetTotal(total)
			bar.Set(done)
		}
	}}.run(ctx)
	bar.Done()
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, os.RemoveAll(b.tmpDir()), os.Remove(b.busyFile()))
}

// jobs is how many compilers run at once; CMake's own variable limits them.
func jobs() string {
	if n, err := strconv.Atoi(os.Getenv("CMAKE_BUILD_PARALLEL_LEVEL")); err == nil && n > 0 {
		return strconv.Itoa(n)
	}
	return strconv.Itoa(runtime.NumCPU())
}

// buildEnv is the environment without what would change the output behind the
// key's back, or confuse a make inside a make.
func (b cmakeBuild) buildEnv() []string {
	drop := map[string]bool{
		"CFLAGS": true, "CXXFLAGS": true, "CPPFLAGS": true, "LDFLAGS": true, "CUDAFLAGS": true, "CUDAARCHS": true, "CUDACXX": true, "CUDAHOSTCXX": true,
		"NVCC_PREPEND_FLAGS": true, "NVCC_APPEND_FLAGS": true, "NVCC_CCBIN": true,
		"CC": true, "CXX": true, "SOURCE_DATE_EPOCH": true, "CMAKE_GENERATOR": true, "CMAKE_TOOLCHAIN_FILE": true,
		"CMAKE_BUILD_TYPE": true, "MAKEFLAGS": true, "MFLAGS": true, "MAKELEVEL": true, "GNUMAKEFLAGS": true, "NINJA_STATUS": true,
	}
	var env []string
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); !drop[name] {
			env = append(env, kv)
		}
	}
	return append(env, "CC="+strings.Join(b.cc, " "), "CXX="+strings.Join(b.cxx, " "), "NINJA_STATUS=[%f/%t] ",
		// The sources lie without a .git: no other repository above them is theirs.
		"GIT_CEILING_DIRECTORIES="+filepath.Dir(b.sourceDir()))
}

// buildStep reads ninja's "[12/345] …" and make's "[ 12%] …".
func buildStep(line string) (done, total int64, ok bool) {
	rest, ok := strings.CutPrefix(line, "[")
	if !ok {
		return 0, 0, false
	}
	inner, _, ok := strings.Cut(rest, "]")
	if !ok {
		return 0, 0, false
	}
	if percent, isMake := strings.CutSuffix(inner, "%"); isMake {
		done, err := strconv.ParseInt(strings.TrimSpace(percent), 10, 64)
		return done, 100, err == nil
	}
	d, t, ok := strings.Cut(inner, "/")
	done, err1 := strconv.ParseInt(d, 10, 64)
	total, err2 := strconv.ParseInt(t, 10, 64)
	return done, total, ok && err1 == nil && err2 == nil
}

// cmakeCache reads the variables of a configured build directory.
func cmakeCache(dir string) (map[string]string, error) {
	f, err := os.Open(filepath.Join(dir, "CMakeCache.txt"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	vars := map[string]string{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		typed, value, ok := strings.Cut(s.Text(), "=")
		name, _, typedOK := strings.Cut(typed, ":")
		if ok && typedOK && !strings.HasPrefix(name, "//") && !strings.HasPrefix(name, "#") {
			vars[name] = value
		}
	}
	return vars, s.Err()
}
