// Package gputest makes a directory with a libnvidia-ml.so.1 and a libcuda.so.1 that answer for a made-up machine, for
// tests of programs that use package gpu. The library is compiled from C and is opened by the loader like the real one:
//
//	fake, err := gputest.Build(t.TempDir(), gputest.Machine{Driver: "550.54.15", CUDA: gpu.Version{Major: 12, Minor: 4},
//		Devices: []gpu.Device{gputest.H200()}})
//	cmd.Env = append(os.Environ(), fake.Env())
//
// The loader reads LD_LIBRARY_PATH when a program starts, and a library once opened stays for the life of a process:
// each test needs a process of its own. Only Linux.
package gputest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/gpu"
)

var (
	//go:embed src/nvml.c
	nvmlSource string
	//go:embed src/cuda.c
	cudaSource string
)

// Machine is what the driver tells. [gpu.Library] gives Devices back as they are here; of a Device.Err that is a
// [*gpu.ErrNVML] the Call fails for that device, with its Code.
type Machine struct {
	Driver  string
	CUDA    gpu.Version
	Devices []gpu.Device
	// Missing are functions that the library lacks, as that of an older driver would. It counts when the library is
	// built only.
	Missing []string
	// Returns are functions that fail for all devices, with their codes (nvmlReturn_t).
	Returns map[string]int
	// NoCUDA leaves a libcuda.so.1 that cannot be loaded.
	NoCUDA bool
}

// H200 is a GPU as the driver describes one that nobody uses.
func H200() gpu.Device {
	const total = 143771 << 20
	return gpu.Device{
		UUID: "GPU-6d2f1c1e-52a5-4a58-9c3b-0d1f6f1c0a01", Name: "NVIDIA H200", PCIBusID: "00000000:19:00.0",
		ComputeCapability: gpu.Version{Major: 9, Minor: 0}, ComputeMode: gpu.ComputeDefault,
		Memory: gpu.Memory{Total: total, Free: total - 531<<20, Used: 531 << 20}, Processes: []gpu.Process{},
	}
}

// Fake is a directory with the libraries.
type Fake struct{ dir string }

// Env is the environment variable that makes the loader take the libraries.
func (f *Fake) Env() string { return "LD_LIBRARY_PATH=" + f.dir }

// Build compiles the libraries into dir, which is empty, with $CC or cc.
func Build(dir string, m Machine) (*Fake, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	f := &Fake{dir: dir}
	if err := f.Set(m); err != nil {
		return nil, err
	}
	// What is local in the version script is not among the library's functions.
	exports := "{ global: nvml*; local: *; };\n"
	if len(m.Missing) > 0 {
		exports = "{ global: nvml*; local: " + strings.Join(m.Missing, "; ") + "; *; };\n"
	}
	script := filepath.Join(dir, "exports")
	if err := os.WriteFile(script, []byte(exports), 0o644); err != nil {
		return nil, err
	}
	if err := compile(filepath.Join(dir, "libnvidia-ml.so.1"), nvmlSource, "-DSTATE="+strconv.Quote(f.state()), "-Xlinker", "--version-script="+script); err != nil {
		return nil, err
	}
	cuda := filepath.Join(dir, "libcuda.so.1")
	if m.NoCUDA {
		return f, os.WriteFile(cuda, nil, 0o644)
	}
	return f, compile(cuda, cudaSource)
}

func (f *Fake) state() string { return filepath.Join(f.dir, "machine") }

func compile(output, source string, flags ...string) error {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	args := append([]string{"-shared", "-fPIC", "-O1", "-o", output, "-x", "c", "-"}, flags...)
	cmd := exec.CommandContext(context.Background(), compiler, args...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("gputest: %s: %w\n%s", compiler, err, out)
	}
	return nil
}

// Set changes the machine; a program that runs sees it with its next call.
func (f *Fake) Set(m Machine) error {
	var s state
	s.put("driver", m.Driver)
	if m.CUDA != (gpu.Version{}) {
		s.put("cuda", strconv.Itoa(1000*m.CUDA.Major+10*m.CUDA.Minor))
	}
	s.put("count", strconv.Itoa(len(m.Devices)))
	for call, code := range m.Returns {
		s.put("return."+call, strconv.Itoa(code))
	}
	for i, d := range m.Devices {
		s.device(strconv.Itoa(i)+".", d)
	}
	// A reader has the old file or the new one, and no part of either.
	if err := os.WriteFile(f.state()+"~", []byte(s.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(f.state()+"~", f.state())
}

// state writes the lines that src/nvml.c reads.
type state struct{ strings.Builder }

func (s *state) put(key, value string) {
	if value != "" {
		fmt.Fprintf(s, "%s %s\n", key, value)
	}
}

func (s *state) number(key string, n int) {
	if n >= 0 {
		s.put(key, strconv.Itoa(n))
	}
}

func (s *state) memory(prefix string, m gpu.Memory) {
	if m.Total == 0 {
		return
	}
	for key, n := range map[string]uint64{"total": m.Total, "free": m.Free, "used": m.Used} {
		s.put(prefix+key, strconv.FormatUint(n, 10))
	}
}

func (s *state) device(prefix string, d gpu.Device) {
	var fault *gpu.ErrNVML
	if errors.As(d.Err, &fault) {
		s.put(prefix+"return."+fault.Call, strconv.Itoa(fault.Code))
	}
	s.put(prefix+"name", d.Name)
	s.put(prefix+"uuid", d.UUID)
	s.put(prefix+"bus", strings.TrimSuffix(d.PCIBusID, ".0"))
	s.put(prefix+"cc", d.ComputeCapability.String())
	s.number(prefix+"minor", d.Minor)
	s.number(prefix+"utilization", d.Utilization)
	s.memory(prefix, d.Memory)
	s.put(prefix+"mode", computeModes[d.ComputeMode])
	var processes []string
	for _, p := range d.Processes {
		memory := p.Memory
		if memory == 0 { // unknown: NVML_VALUE_NOT_AVAILABLE
			memory = ^uint64(0)
		}
		processes = append(processes, fmt.Sprintf("%d:%d", p.PID, memory))
		s.put(fmt.Sprintf("process%d", p.PID), p.Name)
	}
	s.put(prefix+"compute", strings.Join(processes, " "))
	if !d.MIG.Enabled && !d.MIG.Pending {
		return
	}
	s.put(prefix+"mig", bit(d.MIG.Enabled))
	s.put(prefix+"pending", bit(d.MIG.Pending))
	s.put(prefix+"parts", "7")
	for i, p := range d.MIG.Instances {
		part := fmt.Sprintf("%spart%d.", prefix, i)
		s.put(part+"name", p.Name)
		s.put(part+"uuid", p.UUID)
		s.number(part+"gi", p.GPUInstance)
		s.number(part+"ci", p.ComputeInstance)
		s.memory(part, p.Memory)
	}
}

// computeModes are nvmlComputeMode_t.
var computeModes = map[gpu.ComputeMode]string{gpu.ComputeDefault: "0", gpu.ComputeProhibited: "2", gpu.ComputeExclusiveProcess: "3"}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
