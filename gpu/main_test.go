//go:build linux && cgo

package gpu_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/gpu/gputest"
)

// onMachine runs body in a process of its own, where the loader finds the libraries of the machine: this test binary,
// told to run this test only.
func onMachine(t *testing.T, m gputest.Machine, body func(t *testing.T, fake *gputest.Fake)) {
	t.Helper()
	if dir := os.Getenv("GPU_TEST_DIR"); dir != "" {
		fake, err := gputest.Build(dir, m)
		if err != nil {
			t.Fatal(err)
		}
		body(t, fake)
		if err := os.WriteFile(filepath.Join(dir, "ran"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "GPU_TEST_DIR="+dir, "LD_LIBRARY_PATH="+dir, "GORACE=atexit_sleep_ms=10")
	out, err := cmd.CombinedOutput()
	if _, missed := os.Stat(filepath.Join(dir, "ran")); err != nil || missed != nil {
		t.Fatalf("%v, %v\n%s", err, missed, out)
	}
}

// machine is a machine with one driver and these GPUs.
func machine(devices ...gpu.Device) gputest.Machine {
	for i := range devices {
		devices[i].Index, devices[i].Minor = i, i
	}
	return gputest.Machine{Driver: "550.54.15", CUDA: gpu.Version{Major: 12, Minor: 4}, Devices: devices}
}

// root is a root directory with these files, and the nodes of two GPUs.
func root(files ...string) fstest.MapFS {
	r := fstest.MapFS{}
	for _, name := range append(files, "dev/nvidiactl", "dev/nvidia-uvm", "dev/nvidia0", "dev/nvidia1") {
		r[name] = &fstest.MapFile{}
	}
	return r
}

// forbidding is a root directory in which one file may not be opened.
type forbidding struct {
	fs.FS
	name string
}

func (f forbidding) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

// env is an environment of these NAME=VALUE.
func env(variables ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

func open(t *testing.T, h gpu.Host) *gpu.Library {
	t.Helper()
	l, err := h.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
