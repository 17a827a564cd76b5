//go:build linux && cgo

package gputest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

// The compiler compares our functions with the prototypes of NVIDIA's header, and our structs are not used then.
func TestAgainstHeader(t *testing.T) {
	module, err := exec.CommandContext(context.Background(), "go", "list", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml/pkg/nvml").Output()
	require.NoError(t, err)
	header, err := os.ReadFile(filepath.Join(string(module[:len(module)-1]), "nvml.h"))
	require.NoError(t, err)
	// go-nvml wraps the pointer in a struct for cgo's sake.
	wrapped := regexp.MustCompile(`typedef struct\s*\{\s*struct nvmlDevice_st\s*\*\s*handle;\s*\} nvmlDevice_t;`)
	require.True(t, wrapped.Match(header))
	dir := t.TempDir()
	header = wrapped.ReplaceAll(header, []byte("typedef struct nvmlDevice_st *nvmlDevice_t;"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nvml.h"), header, 0o644))
	strict := []string{"-DSTATE=\"x\"", "-Wall", "-Wextra", "-Werror"}
	require.NoError(t, compile(filepath.Join(dir, "own.so"), nvmlSource, strict...))
	require.NoError(t, compile(filepath.Join(dir, "nvidias.so"), nvmlSource, append(strict, "-DWITH_NVML_H", "-I", dir)...))

	// It would notice.
	wrong := regexp.MustCompile(`unsigned long long used;`)
	require.True(t, wrong.Match(header))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nvml.h"), wrong.ReplaceAll(header, []byte("unsigned long long usedMemory;")), 0o644))
	assert.ErrorContains(t, compile(filepath.Join(dir, "x.so"), nvmlSource, append(strict, "-DWITH_NVML_H", "-I", dir)...), "used")
}

func TestBuildFails(t *testing.T) {
	t.Setenv("CC", filepath.Join(t.TempDir(), "no-compiler"))
	_, err := Build(t.TempDir(), Machine{Devices: []gpu.Device{H200()}})
	assert.ErrorIs(t, err, os.ErrNotExist)
	_, err = Build(filepath.Join(t.TempDir(), "missing"), Machine{})
	assert.ErrorIs(t, err, os.ErrNotExist)
}
