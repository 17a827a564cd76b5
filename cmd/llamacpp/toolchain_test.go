package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMissingToolsAreNamedTogether(t *testing.T) {
	w := newWorld(t)
	t.Setenv("LLAMA_CPP_SRC", "")
	onlyPrograms(t, "go", "gcc", "g++")
	code, _, stderr := w.llamacpp("install")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "missing: cmake, make, git")
	if install, _ := packageManager(); install != "" {
		assert.Contains(t, stderr, "run: "+install+" cmake make git")
	}

	t.Setenv("CXX", "no-such-c++")
	code, _, stderr = w.llamacpp("install")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "missing: no-such-c++")
}

func TestPackageNames(t *testing.T) {
	cxx := packages{"g++", "gcc-c++", "build-base", "gcc", "llvm"}
	for _, test := range []struct{ release, install, name string }{
		{"NAME=x\nID=debian\n", "sudo apt-get install", "g++"},
		{"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt-get install", "g++"},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "sudo dnf install", "gcc-c++"},
		{"ID=alpine\n", "sudo apk add", "build-base"},
		{"ID=arch\n", "sudo pacman -S", "gcc"},
		{"ID=unheard-of\n", "", "g++"},
	} {
		path := filepath.Join(t.TempDir(), "os-release")
		require.NoError(t, os.WriteFile(path, []byte(test.release), 0o644))
		install, pick := linuxPackageManager(osRelease(path))
		assert.Equal(t, test.install, install, test.release)
		assert.Equal(t, test.name, pick(cxx), test.release)
	}
	assert.Empty(t, osRelease("/no/such/file"))
}
