package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakePip puts a pip3 before all others in PATH. It does script with $target and
// $wish set, and notes each call in the file whose name is returned.
func fakePip(t *testing.T, script string) (calls string) {
	t.Helper()
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	text := fmt.Sprintf(`#!/bin/sh
echo "$*" >>'%s'
while [ $# -gt 0 ]; do
    case "$1" in --target) target=$2; shift ;; esac
    wish=$1; shift
done
%s
`, calls, script)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pip3"), []byte(text), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

// fakeWheels is what pip unpacks: no lib64, no library without a version.
func fakeWheels(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "nvidia/cu13")
	for _, name := range wheelsNeed {
		if !strings.HasPrefix(name, "lib64/") {
			writeFiles(t, root, name)
		}
	}
	fakeToolkit(t, root, "13.0", "lib", ".13")
	return dir
}

func callsOf(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func TestWheels(t *testing.T) {
	w := newWorld(t)
	w.clone("clone")
	calls := fakePip(t, "mkdir -p \"$target\" && cp -R '"+fakeWheels(t)+"/.' \"$target\"")
	t.Setenv("CUDA", "wheels")
	for _, command := range []string{"env", "verify"} { // they fetch nothing
		code, _, stderr := w.llamacpp(command)
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "run llamacpp install")
	}
	assert.Empty(t, callsOf(t, calls))

	w.must("install")
	assert.Regexp(t, `^101 1 0\.0\.1 `, program(t))
	require.Len(t, callsOf(t, calls), 1)
	assert.Contains(t, callsOf(t, calls)[0], "cuda-toolkit[nvcc,crt,nvvm,cccl,cudart,cublas]==13.0.2")
	assertNoLeftovers(t, w)

	t.Setenv("CUDA_VERSION", "13") // the same one
	w.must("install")
	w.must("verify")
	assert.Len(t, callsOf(t, calls), 1, "the toolkit is in the cache")

	t.Setenv("CUDA_VERSION", "13.5")
	w.must("install")
	require.Len(t, callsOf(t, calls), 2)
	assert.Contains(t, callsOf(t, calls)[1], "==13.5.*")

	t.Setenv("CUDA_VERSION", "")
	damaged := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/cuda/13.0.2/nvidia/cu13/nvvm/bin/cicc")
	require.NoError(t, os.Remove(damaged))
	_, stderr := w.must("install")
	assert.Contains(t, stderr, "the cached CUDA toolkit is damaged")
	assert.Len(t, callsOf(t, calls), 3)
	assert.FileExists(t, damaged)
	assertNoLeftovers(t, w)
}

func TestWheelsThatCannotBeHad(t *testing.T) {
	for _, test := range []struct{ name, script, version, want string }{
		{"no such version", "echo 'ERROR: No matching distribution found for cuda-toolkit==13.9.*' >&2; exit 1", "13.9", "choose a CUDA_VERSION from 13.0 on"},
		{"no network", "echo 'WARNING: Retrying after connection broken by NewConnectionError' >&2; echo 'ERROR: No matching distribution found for cuda-toolkit==13.0.2' >&2; exit 1", "", "check the network"},
		{"full disk", "echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1", "", "the disk is full"},
		{"nothing", "exit 0", "", "pip left no CUDA toolkit"},
		{"half of it", "mkdir -p \"$target/nvidia/cu13/lib\"", "", "the packages of CUDA 13.0.2 are incomplete"},
		{"CUDA 12", "exit 0", "12.9", "pip brings an nvcc of CUDA 13 and newer only; for CUDA 12 install NVIDIA's toolkit"},
		{"a new one", "exit 0", "14", "add the minor version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			fakePip(t, test.script)
			t.Setenv("CUDA", "wheels")
			t.Setenv("CUDA_VERSION", test.version)
			code, _, stderr := w.llamacpp("build")
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, test.want)
			assertNoLeftovers(t, w)
			assert.NoDirExists(t, filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/cuda", wheelsVersion))
		})
	}
}

func TestWheelsWithoutPip(t *testing.T) {
	w := newWorld(t)
	t.Setenv("CUDA", "wheels")
	onlyPrograms(t, "go", "gcc", "g++")
	code, _, stderr := w.llamacpp("build")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "CUDA=wheels fetches CUDA with pip: missing: pip3")
}

func TestRemedies(t *testing.T) {
	failed := func(lines ...string) error { return fmt.Errorf("x: %w", &childError{"ninja", syscall.EIO, lines}) }
	for _, test := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}, "XDG_CACHE_HOME"},
		{failed("FAILED: x.o", "x.s: fatal error: No space left on device"), "XDG_CACHE_HOME"},
		{failed("/x/host_config.h:143:2: error: #error -- unsupported GNU version! gcc versions later than 15 are not supported!"), "CC=gcc-13 CXX=g++-13"},
		{failed("nvcc error   : 'cicc' died due to signal 9 (Kill signal)"), "CMAKE_BUILD_PARALLEL_LEVEL=2"},
		{failed("error: no member"), ""},
		{syscall.EIO, ""},
	} {
		got := remedy(test.err)
		if test.want == "" {
			assert.Empty(t, got)
			continue
		}
		assert.Contains(t, got, test.want)
	}
}
