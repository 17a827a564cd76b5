package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// sources is how many files of the miniature tree the library is made of.
const sources = 7

func TestSecondCloneCompilesNothing(t *testing.T) {
	w := newWorld(t)
	w.clone("first")
	w.must("install")
	require.Equal(t, sources, w.compiled(""))
	_, stderr := w.must("verify")
	assert.Contains(t, stderr, "is current")

	w.clone("second")
	onlyPrograms(t, "go", "gcc", "g++") // a warm cache needs neither CMake nor git
	_, stderr = w.must("install")
	assert.Equal(t, sources, w.compiled(""), "a warm cache compiles no C++")
	assert.Contains(t, stderr, "(cached)")
}

func TestKilledBuildGoesOn(t *testing.T) {
	for _, test := range []struct {
		name      string
		generator string
		recompile int // of a file that was finished when the build was killed
	}{
		{"ninja resumes", "Ninja", 1},
		{"make starts over", "Unix Makefiles", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			useGenerator(t, test.generator)
			w.blockBuilds()
			cmd, _ := w.start("build")
			compiler := w.blocked()
			require.NoError(t, cmd.Process.Kill())
			require.Error(t, cmd.Wait())
			if test.generator == "Ninja" {
				require.Eventually(t, func() bool { return !alive(compiler) }, patience, 10*time.Millisecond,
					"the compiler outlives a killed llamacpp")
			}
			// Make's shells do not hand the signal on: what lives on keeps the lock.
			again, stderr := w.start("build")
			require.Eventually(t, func() bool { return hasLock(t, again.Process.Pid) }, patience, 10*time.Millisecond)
			assert.Never(t, func() bool { return w.compiled("common.cpp") > 1 && alive(compiler) }, 500*time.Millisecond, 10*time.Millisecond,
				"two builds in one directory")
			w.unblockBuilds()
			require.NoError(t, again.Wait(), stderr)

			assert.Equal(t, test.recompile, w.compiled("ggml-base.c"))
			assert.Equal(t, 2, w.compiled("common.cpp"))
			w.must("verify")
			assertNoLeftovers(t, w)
		})
	}
}

// useGenerator leaves in PATH what a build takes with this generator.
func useGenerator(t *testing.T, generator string) {
	t.Helper()
	names := []string{"go", "gcc", "g++", "cmake", "git", "ar", "ranlib", "ld", "as", "sh", "sleep", "mv", "uname"}
	if generator == "Ninja" {
		if _, err := exec.LookPath("ninja"); err != nil {
			t.Skip("ninja is not installed")
		}
		names = append(names, "ninja")
	} else {
		names = append(names, "make")
	}
	onlyPrograms(t, names...)
}

func TestInterruptEndsTheCompilers(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newWorld(t)
			w.blockBuilds()
			cmd, stderr := w.start("build")
			compiler := w.blocked()
			require.NoError(t, cmd.Process.Signal(sig))
			require.Error(t, cmd.Wait())
			assert.Equal(t, exitInterrupted, cmd.ProcessState.ExitCode(), stderr)
			assert.Contains(t, stderr.String(), "interrupted")
			assert.Eventually(t, func() bool { return !alive(compiler) }, patience, 10*time.Millisecond,
				"the compiler outlives an interrupted llamacpp")
		})
	}
}

func TestTwoBuildsAtOnceCompileOnce(t *testing.T) {
	w := newWorld(t)
	w.blockBuilds()
	first, err1 := w.start("build")
	w.blocked()
	second, err2 := w.start("build")
	require.Eventually(t, func() bool { return strings.Contains(err2.String(), "waiting for another llamacpp") }, patience, 10*time.Millisecond,
		"the second build does not come to the lock")
	w.unblockBuilds()
	require.NoError(t, first.Wait(), err1)
	require.NoError(t, second.Wait(), err2)
	assert.Equal(t, sources, w.compiled(""))
}

// hasLock tells whether the process waits for the lock of a build, or holds it.
func hasLock(t *testing.T, pid int) bool {
	t.Helper()
	fds, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*"))
	require.NoError(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "/locks/native-") {
			return true
		}
	}
	return false
}

func TestDamagedCacheIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.must("build")
	key := onlyEntry(t, filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/native"))
	lib := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/native", key, "lib/libllama.a")
	for name, damage := range map[string]func() error{
		"changed":   func() error { return os.WriteFile(lib, []byte("!<arch>\n"), 0o644) },
		"truncated": func() error { return os.Truncate(lib, 10) },
		"removed":   func() error { return os.Remove(lib) },
		"manifest":  func() error { return os.WriteFile(filepath.Join(lib, "../../manifest.json"), []byte("{"), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			require.NoError(t, damage())
			code, _, stderr := w.llamacpp("verify")
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, "damaged")
			_, stderr = w.must("build")
			assert.Contains(t, stderr, "damaged")
			w.must("verify")
			assertNoLeftovers(t, w)
		})
	}
	assert.Equal(t, sources, w.compiled(""), "objects are kept")
}

// What the key does not hold must not change the output.
func TestEnvironmentStaysOutOfTheBuild(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"} {
		t.Setenv(name, "-DLEAK")
	}
	t.Setenv("MAKEFLAGS", "n")
	t.Setenv("CMAKE_GENERATOR", "No Such Generator")
	t.Setenv("CMAKE_TOOLCHAIN_FILE", "/no/such/file")
	w.must("build")
	log, err := os.ReadFile(w.log)
	require.NoError(t, err)
	assert.NotContains(t, string(log), "LEAK")
}

func TestFailedBuildShowsTheCompilersError(t *testing.T) {
	w := newWorld(t)
	w.edit("src/llama.cpp", "return ggml_answer();", "return no_such_function();")
	code, _, stderr := w.llamacpp("build")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "no_such_function")

	w.edit("src/llama.cpp", "no_such_function", "ggml_answer")
	w.must("build")
}

func TestPeers(t *testing.T) {
	w := newWorld(t)
	w.must("build")
	built := w.compiled("")
	dir := filepath.Join(w.dir, "bin/peers")
	w.must("peers", dir)
	assert.Equal(t, built+len(llamacpp.Peers), w.compiled(""), "peers are linked from the library's objects")
	for _, name := range llamacpp.Peers {
		out, err := child{args: []string{filepath.Join(dir, name)}}.output(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "1", out)
	}

	require.NoError(t, os.Remove(filepath.Join(dir, llamacpp.Peers[0])))
	onlyPrograms(t, "go", "gcc", "g++")
	w.must("peers", dir)
	assert.FileExists(t, filepath.Join(dir, llamacpp.Peers[0]))
	assertNoLeftovers(t, w)
}

func assertNoLeftovers(t *testing.T, w *world) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/*/.tmp-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func onlyEntry(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	return entries[0].Name()
}

// A /tmp that is swept, or small, does not end a long build.
func TestCompilersWriteBesideTheObjects(t *testing.T) {
	w := newWorld(t)
	w.blockBuilds()
	cmd, stderr := w.start("build")
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.blocked()), "environ"))
	require.NoError(t, err)
	var tmp string
	for variable := range strings.SplitSeq(string(environ), "\x00") {
		if value, ok := strings.CutPrefix(variable, "TMPDIR="); ok {
			tmp = value
		}
	}
	require.Contains(t, tmp, "lm-sandbox/llama.cpp/work/")
	require.DirExists(t, tmp)
	w.unblockBuilds()
	require.NoError(t, cmd.Wait(), stderr)
	require.NoDirExists(t, tmp)
}
