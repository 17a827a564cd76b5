package main

import (
	"bufio"
	"cmp"
	"context"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// host is what of the machine decides the variant.
type host struct {
	goos, goarch string
	cpu          cpuInfo
	toolkit      *toolkit // nil = none
	gpu          bool     // an NVIDIA GPU is there
	gpuArchs     []string // compute capabilities without the dot: "90"
	driver       int      // the driver's branch: 580; 0 = unknown
}

type cpuInfo struct {
	model string
	flags []string // empty = unknown
}

func probeHost(ctx context.Context) host {
	h := host{goos: runtime.GOOS, goarch: runtime.GOARCH}
	h.cpu = readCPUInfo("/proc/cpuinfo")
	h.gpu = exists("/proc/driver/nvidia/version") || exists("/dev/nvidiactl") || exists("/dev/dxg")
	if h.gpu {
		h.gpuArchs = gpuArchs(ctx)
		h.driver = readDriver("/proc/driver/nvidia/version")
	}
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
	slices.SortFunc(archs, byNumber)
	return archs
}

func byNumber(x, y string) int { return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)) }

var driverPattern = regexp.MustCompile(`\b([0-9]{3,})\.[0-9]+`)

// readDriver reads the driver's branch from the kernel module's version.
func readDriver(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	found := driverPattern.FindStringSubmatch(line)
	if found == nil {
		return 0
	}
	branch, _ := strconv.Atoi(found[1])
	return branch
}

// choice is the variant that is built and why, a line each.
type choice struct {
	llamacpp.Variant
	reasons []string
}

// choose decides the variant for h. It fails when CUDA is insisted on and cannot
// be had.
func (a *app) choose(h host) (choice, error) {
	c := choice{Variant: llamacpp.Variant{GOOS: h.goos, GOARCH: h.goarch}}
	c.chooseCPU(h, a.native)
	if err := c.chooseCUDA(a, h); err != nil {
		return c, err
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
