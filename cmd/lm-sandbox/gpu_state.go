package main

import (
	"debug/elf"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
)

// gpuProbe looks for GPUs that this program can compute on.
type gpuProbe struct {
	host  gpu.Host
	build func() (gpuBuild, error)
}

// gpus looks at this machine, for this program. The tests put others in their place.
var gpus = gpuProbe{build: thisBuild}

// gpuBuild is what this program was built with to compute on GPUs.
type gpuBuild struct {
	CUDA    bool          `json:"cuda"`
	Toolkit gpu.Version   `json:"toolkit"` // major version only
	Archs   []gpu.Version `json:"archs"`   // compute capabilities
}

func (b gpuBuild) String() string {
	if !b.CUDA {
		return "llama.cpp is built without CUDA"
	}
	archs := make([]string, len(b.Archs))
	for i, a := range b.Archs {
		archs[i] = a.String()
	}
	return fmt.Sprintf("llama.cpp is built with CUDA %d for compute capability %s", b.Toolkit.Major, strings.Join(archs, ", "))
}

// thisBuild asks the linked llama.cpp, and the program itself for CUDA's libraries.
func thisBuild() (gpuBuild, error) {
	info, err := llama.SystemInfo()
	if err != nil {
		return gpuBuild{}, err
	}
	b := readFeatures(info.Features)
	if b.CUDA {
		b.Toolkit = linkedCUDA("/proc/self/exe")
	}
	return b, nil
}

// readFeatures reads llama_print_system_info: "CUDA : ARCHS = 860,900 | USE_GRAPHS = 1 | CPU : …".
func readFeatures(features string) gpuBuild {
	_, rest, found := strings.Cut("| "+features, "| CUDA : ")
	b := gpuBuild{CUDA: found, Archs: []gpu.Version{}}
	for feature := range strings.SplitSeq(rest, "|") {
		name, value, _ := strings.Cut(feature, " = ")
		if strings.Contains(name, " : ") { // the next backend
			break
		}
		if strings.TrimSpace(name) != "ARCHS" {
			continue
		}
		for arch := range strings.SplitSeq(value, ",") {
			if n, err := strconv.ParseUint(strings.TrimSpace(arch), 10, 16); err == nil {
				b.Archs = append(b.Archs, gpu.Version{Major: int(n) / 100, Minor: int(n) % 100 / 10})
			}
		}
	}
	return b
}

// linkedCUDA is the major version of CUDA in the name of the cuBLAS that a program loads; zero where it loads none.
func linkedCUDA(program string) gpu.Version {
	f, err := elf.Open(program)
	if err != nil {
		return gpu.Version{}
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return gpu.Version{}
	}
	for _, name := range libraries {
		if version, ok := strings.CutPrefix(name, "libcublas.so."); ok {
			if v, err := gpu.ParseVersion(version); err == nil {
				return gpu.Version{Major: v.Major}
			}
		}
	}
	return gpu.Version{}
}

// usedGPU is a GPU that llama.cpp computes on.
type usedGPU struct {
	Name        string `json:"name"` // ggml's, such as CUDA0
	Description string `json:"description"`
	MemoryFree  uint64 `json:"memory_free"`
	MemoryTotal uint64 `json:"memory_total"`
}

func (u usedGPU) String() string {
	return fmt.Sprintf("%s %s, %d of %d MiB free", u.Name, u.Description, u.MemoryFree>>20, u.MemoryTotal>>20)
}

// gpuState is what the driver and llama.cpp say about the GPUs.
type gpuState struct {
	build  gpuBuild
	report gpu.Report
	used   []usedGPU
	err    error // why llama.cpp computes on none; nil where it does
}

// inspect asks the driver first: what it refuses, llama.cpp refuses with fewer words.
func (p gpuProbe) inspect() gpuState {
	var s gpuState
	var devices []llama.Device
	build, err := p.build()
	if err == nil {
		devices, err = llama.Devices()
	}
	if err != nil {
		s.err = &gpuProblem{err.Error(), "build it again: make build"}
		return s
	}
	s.build = build
	for _, d := range devices {
		if d.Type == "gpu" || d.Type == "igpu" {
			s.used = append(s.used, usedGPU{d.Name, d.Description, d.MemoryFree, d.MemoryTotal})
		}
	}
	s.report, s.err = p.check(gpu.Requirements{CUDA: build.Toolkit, Archs: build.Archs})
	switch {
	case len(s.used) > 0: // whatever the driver's library says
		s.err = nil
	case s.err == nil && !build.CUDA:
		s.err = noCUDA(s.report)
	case s.err == nil:
		s.err = &gpuProblem{"the driver lists a GPU that CUDA does not take", "'lm-sandbox -v gpu' shows what CUDA says" + variables()}
	}
	return s
}

func (p gpuProbe) check(r gpu.Requirements) (gpu.Report, error) {
	library, err := p.host.Open()
	if err != nil {
		return gpu.Report{}, err
	}
	defer library.Close()
	return library.Check(r)
}

// noCUDA says how to build for the first GPU that could be used.
func noCUDA(r gpu.Report) error {
	d := r.Devices[r.Usable[0]]
	how := "make build CUDA=wheels" // CUDA 13: pip brings no older nvcc
	if oldest := (gpu.Version{Major: 7, Minor: 5}); r.Driver.CUDA.Major < 13 || d.ComputeCapability.Compare(oldest) < 0 {
		toolkit := r.Driver.CUDA
		if toolkit.Major >= 13 {
			toolkit = gpu.Version{Major: 12, Minor: 9} // the last for older GPUs
		}
		how = fmt.Sprintf("install the CUDA toolkit %s, then make build CUDA=1", toolkit)
	}
	return &gpuProblem{
		fmt.Sprintf("llama.cpp in this program is built without CUDA, so that %s is not used", d.Name),
		fmt.Sprintf("build it again (%s CUDA_ARCHS=%d%d)", how, d.ComputeCapability.Major, d.ComputeCapability.Minor),
	}
}

// variables names those of the environment that hide GPUs from CUDA or llama.cpp in other ways than the driver knows.
func variables() string {
	var set []string
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "GGML_CUDA_DEVICES", "NVIDIA_VISIBLE_DEVICES"} {
		if value, ok := os.LookupEnv(name); ok {
			set = append(set, name+"="+strconv.Quote(value))
		}
	}
	if len(set) == 0 {
		return ""
	}
	return "; this is set: " + strings.Join(set, " ")
}
