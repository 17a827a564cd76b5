// Package testgpu is what the GPU tests of several packages have in common. `make test-gpu` runs them, one package at a
// time, since they measure the memory of a GPU that nobody else may use meanwhile.
package testgpu

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Variable is set by `make test-gpu`.
const Variable = "LM_SANDBOX_TEST_GPU"

// patience is how long the driver may take to give memory back: five times what it takes on a busy machine.
const patience = 10 * time.Second

// GPU is a GPU that llama.cpp computes on, and NVML to look at it.
type GPU struct {
	llama.Device
	library *gpu.Library
}

// Need gives the first GPU. Where there is none the test is skipped; where there is one that llama.cpp does not use, it
// fails.
func Need(t testing.TB) *GPU {
	t.Helper()
	if os.Getenv(Variable) == "" {
		t.Skip("it needs a GPU for itself: make test-gpu")
	}
	devices, err := llama.Devices()
	require.NoError(t, err)
	library, err := gpu.Open()
	if err != nil {
		for _, d := range devices {
			require.NotEqual(t, "gpu", d.Type, "llama.cpp has %s, but NVML fails: %v", d.Name, err)
		}
		t.Skip("no GPU: ", err)
	}
	t.Cleanup(func() { require.NoError(t, library.Close()) })
	listed, err := library.Devices()
	require.NoError(t, err)
	if len(listed) == 0 {
		t.Skip("no GPU: the driver lists none")
	}
	for _, d := range devices {
		if d.Type == "gpu" {
			return &GPU{d, library}
		}
	}
	t.Fatalf("the driver lists %s, but llama.cpp uses no GPU: 'lm-sandbox doctor' says why", listed[0].Name)
	return nil
}

// Used is how many bytes of the GPU's memory are in use, by whomever.
func (g *GPU) Used(t testing.TB) uint64 {
	t.Helper()
	devices, err := g.library.Devices()
	require.NoError(t, err)
	for _, d := range devices {
		if len(devices) == 1 || address(d.PCIBusID) == address(g.ID) {
			require.NoError(t, d.Err)
			return d.Memory.Used
		}
	}
	t.Fatalf("NVML lists no GPU at %s", g.ID)
	return 0
}

// WaitUsed waits for the memory in use to be at most a number of bytes.
func (g *GPU) WaitUsed(t testing.TB, most uint64) {
	t.Helper()
	end := time.Now().Add(patience)
	for used := g.Used(t); used > most; used = g.Used(t) {
		if time.Now().After(end) {
			t.Fatalf("%d MiB of %s are in use, want %d at most", used>>20, g.Name, most>>20)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// address is a PCI address as all write it: NVML's domain has eight digits, ggml's four.
func address(id string) string {
	domain, rest, _ := strings.Cut(strings.ToLower(id), ":")
	return strings.TrimLeft(domain, "0") + ":" + rest
}
