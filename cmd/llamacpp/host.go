package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// host is what of the machine decides the variant.
type host struct {
	goos, goarch string
	cpu          cpuInfo
	nvcc         string   // path, "" = none
	gpu          bool     // an NVIDIA GPU is there
	gpuArchs     []string // compute capabilities without the dot: "90"
	install      string   // the package manager's install command
}

type cpuInfo struct {
	model string
	flags []string // empty = unknown
}

func probeHost(ctx context.Context) host {
	h := host{goos: runtime.GOOS, goarch: runtime.GOARCH}
	h.cpu = readCPUInfo("/proc/cpuinfo")
	h.nvcc = findNVCC()
	h.gpu = exists("/proc/driver/nvidia/version") || exists("/dev/nvidiactl") || exists("/dev/dxg")
	if h.gpu {
		h.gpuArchs = gpuArchs(ctx)
	}
	h.install, _ = packageManager()
	return h
}

// readCPUInfo reads the first processor of /proc/cpuinfo.
func readCPUInfo(path string) cpuInfo {
	var c cpuInfo
	f, err := os.Open(path)
	if err != nil {
		return c
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() && s.Text() != "" {
		key, value, _ := strings.Cut(s.Text(), ":")
		switch strings.TrimSpace(key) {
		case "model name", "CPU part":
			c.model = strings.TrimSpace(value)
		case "flags", "Features":
			c.flags = strings.Fields(value)
		}
	}
	return c
}

func findNVCC() string {
	for _, p := range []string{os.Getenv("CUDACXX"), filepath.Join(os.Getenv("CUDA_HOME"), "bin", "nvcc"), "nvcc", "/usr/local/cuda/bin/nvcc"} {
		if p == "" || p == "bin/nvcc" {
			continue
		}
		if path, err := exec.LookPath(p); err == nil {
			if abs, err := filepath.Abs(path); err == nil {
				return abs
			}
		}
	}
	return ""
}

// gpuArchs asks the driver; nil where it does not say.
func gpuArchs(ctx context.Context) []string {
	out, err := child{args: []string{"nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"}}.output(ctx)
	if err != nil {
		return nil
	}
	var archs []string
	for _, c := range strings.Fields(out) {
		if a := strings.ReplaceAll(c, ".", ""); strings.Trim(a, "0123456789") == "" && !slices.Contains(archs, a) {
			archs = append(archs, a)
		}
	}
	slices.SortFunc(archs, func(x, y string) int { return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) })
	return archs
}

// choice is the variant that is built and why, a line each.
type choice struct {
	llamacpp.Variant
	reasons []string
}

// choose decides the variant for h. It fails when CUDA is insisted on and nvcc
// is not there.
func (a *app) choose(h host) (choice, error) {
	c := choice{Variant: llamacpp.Variant{GOOS: h.goos, GOARCH: h.goarch}}
	c.chooseCPU(h, a.native)
	switch {
	case a.cuda == "0":
		c.because("GPU: no CUDA (CUDA=0)")
	case h.nvcc != "":
		c.CUDA = true
		c.CUDAArchs = cmp.Or(a.cudaArchs, strings.Join(h.gpuArchs, ";"))
		c.because("GPU: CUDA with " + h.nvcc + ", architectures " + cmp.Or(c.CUDAArchs, "of llama.cpp's own list"))
	case a.cuda == "1":
		return c, errors.New("CUDA=1, but there is no nvcc; " + cudaRemedy(h))
	case h.gpu:
		c.because("GPU: an NVIDIA GPU is here, but no nvcc: building for the CPU only; " + cudaRemedy(h))
	default:
		c.because("GPU: none found, no nvcc: building for the CPU")
	}
	return c, nil
}

func (c *choice) because(reason string) { c.reasons = append(c.reasons, reason) }

func (c *choice) chooseCPU(h host, native bool) {
	has := func(f string) bool { return slices.Contains(h.cpu.flags, f) }
	var lacks []string
	for _, f := range llamacpp.CPUFlags(h.goarch) {
		if len(h.cpu.flags) > 0 && !has(f) {
			lacks = append(lacks, f)
		}
	}
	switch {
	case native:
		c.Native = true
		c.because("CPU: for this processor only (LLAMA_NATIVE=1)")
	case len(lacks) > 0:
		c.Native = true
		c.because("CPU: this processor lacks " + strings.Join(lacks, ", ") + ": building for it alone")
	case h.goarch == "amd64":
		c.because("CPU: portable x86-64 with AVX2")
	case h.goarch == "arm64" && h.goos == "linux" && has("asimddp") && has("asimdhp"):
		c.ARMArch = "armv8.2-a+dotprod+fp16"
		c.because("CPU: portable " + c.ARMArch)
	default:
		c.because("CPU: the compiler's default for " + h.goarch)
	}
}

// cudaRemedy is the one command that brings nvcc.
func cudaRemedy(h host) string {
	switch h.install {
	case "sudo apt-get install":
		return "run: sudo apt-get install nvidia-cuda-toolkit, then this again"
	case "sudo dnf install":
		return "run: sudo dnf install cuda-toolkit, then this again"
	case "sudo pacman -S":
		return "run: sudo pacman -S cuda, then this again"
	}
	return "install the CUDA toolkit (https://developer.nvidia.com/cuda-downloads), then run this again"
}

// cudaLibDir returns the directory of the toolkit's libraries.
func cudaLibDir(nvcc, goarch string) (string, error) {
	if resolved, err := filepath.EvalSymlinks(nvcc); err == nil {
		nvcc = resolved
	}
	root := filepath.Dir(filepath.Dir(nvcc))
	target := map[string]string{"amd64": "x86_64-linux", "arm64": "sbsa-linux"}[goarch]
	for _, dir := range []string{
		filepath.Join(root, "lib64"),
		filepath.Join(root, "targets", target, "lib"),
		filepath.Join(root, "lib"),
		filepath.Join(root, "lib", strings.Replace(target, "-linux", "-linux-gnu", 1)),
	} {
		if exists(filepath.Join(dir, "libcudart_static.a")) {
			return dir, nil
		}
	}
	return "", errors.New("libcudart_static.a is not beside " + nvcc + "; install the CUDA toolkit's runtime and cuBLAS development packages, or set CUDA=0")
}
