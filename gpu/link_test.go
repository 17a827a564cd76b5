//go:build linux && cgo

package gpu_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// What doc.go and docs/gpu.md tell users of hardened toolchains.
func TestLateBindingCanBeAskedFor(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gpu")
	if out, err := exec.Command("go", "build", "-ldflags=-extldflags=-Wl,-z,now,-z,lazy", "-o", program, "../examples/gpu").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
