package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// pinVariable makes the test binary stand in for llamacpp, so that tests can
// kill it: its value is the pin.
const pinVariable = "LLAMACPP_TEST_PIN"

type pinJSON struct{ Version, Tree, Repository, Tag, NPMPackage, NPMBundle string }

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(pinVariable); ok {
		var p pinJSON
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			panic(err)
		}
		thePin = pin{p.Version, p.Tree, p.Repository, p.Tag, p.NPMPackage, p.NPMBundle, nil}
		main()
	}
	goleak.VerifyTestMain(m)
}

// patience is the deadline for what takes a second or two on an idle machine.
const patience = 60 * time.Second

// world is an empty cache, the miniature tree, and compilers that keep a log.
type world struct {
	t     *testing.T
	pin   pin
	src   string
	dir   string
	log   string // one line per compilation of the tree
	block string // while this file is there, the compilation of common.cpp waits
	pid   string // names the process that waits
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, dir: dir, src: filepath.Join(dir, "mini"),
		log: filepath.Join(dir, "compiled"), block: filepath.Join(dir, "block"), pid: filepath.Join(dir, "pid"),
	}
	unpack(t, "mini.txtar", w.src)
	w.pin = pin{version: "0.0.1", tag: "v0.0.1", npmPackage: "llama-mini@1.0.0", npmBundle: "package/llama/gitRelease.bundle", repository: "file://" + filepath.Join(dir, "none")}
	w.rehash()
	for name, compiler := range map[string]string{"CC": "gcc", "CXX": "g++"} {
		t.Setenv(name, w.compiler(compiler))
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "mein größter cache")) // spaces, any script
	t.Setenv("LLAMA_CPP_SRC", w.src)
	t.Setenv("LLAMA_NATIVE", "")
	t.Setenv("CUDA", "0")
	for _, name := range []string{"CUDA_VERSION", "CUDA_ARCHS", "CUDA_HOME", "CUDA_PATH", "CUDACXX", "CMAKE_BUILD_PARALLEL_LEVEL"} {
		t.Setenv(name, "")
	}
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	t.Chdir(dir) // outside every clone
	for _, name := range []string{"CGO_CPPFLAGS", "CGO_CFLAGS", "CGO_CXXFLAGS", "CGO_LDFLAGS"} {
		t.Setenv(name, "") // so that it is restored
		require.NoError(t, os.Unsetenv(name))
	}
	return w
}

// testdata is absolute: the tests move about.
var testdata = func() string {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		panic(err)
	}
	return dir
}()

// unpack writes the files of an archive in testdata under dir.
func unpack(t *testing.T, archive, dir string, replace ...string) {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join(testdata, archive))
	require.NoError(t, err)
	for _, f := range ar.Files {
		path := filepath.Join(dir, f.Name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		mode := os.FileMode(0o644)
		if strings.HasSuffix(path, ".sh") {
			mode = 0o755
		}
		data := strings.NewReplacer(replace...).Replace(string(f.Data))
		require.NoError(t, os.WriteFile(path, []byte(data), mode))
	}
}

// compiler writes a wrapper around a real compiler.
func (w *world) compiler(name string) string {
	compiler, err := exec.LookPath(name)
	require.NoError(w.t, err)
	path := filepath.Join(w.dir, "log-"+name)
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in
*" -c "*/source/*)
    echo "$*" >>'%[1]s'
    case "$*" in
    *" -c "*common.cpp)
        if [ -e '%[2]s' ]; then
            echo $$ >'%[3]s.new' && mv '%[3]s.new' '%[3]s'
            while [ -e '%[2]s' ]; do sleep 0.05; done
        fi ;;
    esac ;;
esac
exec '%[4]s' "$@"
`, w.log, w.block, w.pid, compiler)
	require.NoError(w.t, os.WriteFile(path, []byte(script), 0o755))
	return path
}

func (w *world) rehash() {
	w.t.Helper()
	var err error
	w.pin.tree, err = treeHash(w.src)
	require.NoError(w.t, err)
}

// edit changes the tree, and the pin with it.
func (w *world) edit(file, from, to string) {
	w.t.Helper()
	path := filepath.Join(w.src, file)
	data, err := os.ReadFile(path)
	require.NoError(w.t, err)
	require.Contains(w.t, string(data), from)
	require.NoError(w.t, os.WriteFile(path, bytes.ReplaceAll(data, []byte(from), []byte(to)), 0o644))
	w.rehash()
}

// llamacpp runs the command in this process.
func (w *world) llamacpp(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, err bytes.Buffer
	code = run(w.t.Context(), w.pin, args, &out, &err)
	return code, out.String(), err.String()
}

func (w *world) must(args ...string) (stdout, stderr string) {
	w.t.Helper()
	code, stdout, stderr := w.llamacpp(args...)
	require.Zero(w.t, code, stderr)
	return stdout, stderr
}

// words are what a process says; they can be read while it says more.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// start runs the command in a process of its own.
func (w *world) start(args ...string) (*exec.Cmd, *words) {
	w.t.Helper()
	exe, err := os.Executable()
	require.NoError(w.t, err)
	text, err := json.Marshal(pinJSON{w.pin.version, w.pin.tree, w.pin.repository, w.pin.tag, w.pin.npmPackage, w.pin.npmBundle})
	require.NoError(w.t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), pinVariable+"="+string(text))
	var stderr words
	cmd.Stderr = &stderr
	require.NoError(w.t, cmd.Start())
	w.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, &stderr
}

// compiled counts the compilations of the tree's file; "" counts all.
func (w *world) compiled(file string) int {
	w.t.Helper()
	data, err := os.ReadFile(w.log)
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(w.t, err)
	n := 0
	for line := range strings.Lines(string(data)) {
		if strings.HasSuffix(strings.TrimSpace(line), file) {
			n++
		}
	}
	return n
}

// blocked waits for the compilation of common.cpp to begin and returns its
// process.
func (w *world) blocked() int {
	w.t.Helper()
	var pid int
	require.Eventually(w.t, func() bool {
		data, err := os.ReadFile(w.pid)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	}, patience, 10*time.Millisecond, "the build never came to common.cpp")
	return pid
}

func (w *world) blockBuilds() { require.NoError(w.t, os.WriteFile(w.block, nil, 0o644)) }

func (w *world) unblockBuilds() { require.NoError(w.t, os.Remove(w.block)) }

// alive tells whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, ok := bytes.Cut(stat, []byte(") "))
	return ok && !bytes.HasPrefix(rest, []byte("Z"))
}

// clone makes a miniature clone and moves into it.
func (w *world) clone(name string) {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	unpack(w.t, "clone.txtar", dir)
	w.t.Chdir(dir)
}

// command runs in the working directory with the real compilers: with one that
// is new to Go, Go's own cgo packages are compiled once more.
func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CC=gcc", "CXX=g++")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// program builds the clone's Go program and returns its output.
func program(t *testing.T) string {
	t.Helper()
	out, err := command(t, "go", "build", "-o", "run-me", "./llama/program")
	require.NoError(t, err, out)
	out, err = command(t, "./run-me")
	require.NoError(t, err, out)
	return out
}

// onlyPrograms makes PATH hold nothing but the named programs.
func onlyPrograms(t *testing.T, names ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(dir, name)))
	}
	t.Setenv("PATH", dir)
}
