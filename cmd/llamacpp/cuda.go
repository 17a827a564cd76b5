package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The values of CUDA.
const (
	cudaAuto   = "auto"
	cudaNever  = "0"
	cudaInsist = "1"
	cudaWheels = "wheels"
)

// toolkit is a CUDA toolkit: nvcc and the libraries beside it.
type toolkit struct {
	nvcc     string
	version  string   // "12.9"
	identity string   // all that nvcc says of itself
	archs    []string // what nvcc compiles for ("75", "120"); empty = it does not say
}

var (
	versionPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+){0,3}$`)
	archPattern    = regexp.MustCompile(`^([0-9]{2,3}[af]?(-real|-virtual)?|all|all-major)$`)
	releasePattern = regexp.MustCompile(`release ([0-9]+\.[0-9]+)`)
)

// readCUDA reads CUDA, CUDA_VERSION and CUDA_ARCHS.
func (a *app) readCUDA() error {
	a.cuda = cmp.Or(strings.ToLower(os.Getenv("CUDA")), cudaAuto)
	if !slices.Contains([]string{cudaAuto, cudaNever, cudaInsist, cudaWheels}, a.cuda) {
		return fmt.Errorf("CUDA is %q: use auto, 1, 0 or wheels", a.cuda)
	}
	a.cudaVersion = os.Getenv("CUDA_VERSION")
	if a.cudaVersion != "" && !versionPattern.MatchString(a.cudaVersion) {
		return fmt.Errorf("CUDA_VERSION is %q: use a version such as 12.9 or 13", a.cudaVersion)
	}
	archs := strings.FieldsFunc(os.Getenv("CUDA_ARCHS"), func(r rune) bool { return strings.ContainsRune(";, ", r) })
	for _, arch := range archs {
		if !archPattern.MatchString(arch) {
			return fmt.Errorf("CUDA_ARCHS holds %q: use compute capabilities without the dot, for example CUDA_ARCHS=\"86;90\"", arch)
		}
	}
	a.cudaArchs = strings.Join(archs, ";")
	return nil
}

// findToolkit returns the toolkit that the settings ask for, nil where there is
// none.
func (a *app) findToolkit(ctx context.Context) (*toolkit, error) {
	switch a.cuda {
	case cudaNever:
		return nil, nil
	case cudaWheels:
		return a.wheels(ctx)
	}
	for _, nvcc := range a.nvccCandidates() {
		path, err := exec.LookPath(nvcc)
		if err != nil {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		t, err := openToolkit(ctx, path)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			a.say("skipping %s: %v", path, err)
			continue
		}
		if t.is(a.cudaVersion) {
			return t, nil
		}
	}
	return nil, nil
}

// nvccCandidates are the places of a system's toolkits, the user's choice first.
func (a *app) nvccCandidates() []string {
	var places []string
	if p := os.Getenv("CUDACXX"); p != "" {
		places = append(places, p)
	}
	for _, name := range []string{"CUDA_HOME", "CUDA_PATH"} {
		if home := os.Getenv(name); home != "" {
			places = append(places, filepath.Join(home, "bin/nvcc"))
		}
	}
	if a.cudaVersion != "" { // toolkits of several versions lie side by side there
		places = append(places, "/usr/local/cuda-"+a.cudaVersion+"/bin/nvcc")
	}
	return append(places, "nvcc", "/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc")
}

// openToolkit asks nvcc what it is.
func openToolkit(ctx context.Context, nvcc string) (*toolkit, error) {
	identity, err := child{args: []string{nvcc, "--version"}}.output(ctx)
	if err != nil {
		return nil, err
	}
	release := releasePattern.FindStringSubmatch(identity)
	if release == nil {
		return nil, errors.New("it does not tell its release")
	}
	t := &toolkit{nvcc: nvcc, version: release[1], identity: identity}
	list, err := child{args: []string{nvcc, "--list-gpu-arch"}}.output(ctx)
	if err != nil {
		return t, ctx.Err()
	}
	for _, line := range strings.Fields(list) {
		if arch, ok := strings.CutPrefix(line, "compute_"); ok {
			t.archs = append(t.archs, arch)
		}
	}
	slices.SortFunc(t.archs, byNumber)
	return t, nil
}

// is tells whether the toolkit is of version, which may be a part ("12").
func (t *toolkit) is(version string) bool {
	return version == "" || strings.HasPrefix(t.version+".", version+".") || strings.HasPrefix(version, t.version+".")
}

func (t *toolkit) major() int {
	major, _, _ := strings.Cut(t.version, ".")
	n, _ := strconv.Atoi(major) // releasePattern has seen it
	return n
}

// root is the toolkit's directory, with bin, include and the libraries.
func (t *toolkit) root() string {
	nvcc := t.nvcc
	if resolved, err := filepath.EvalSymlinks(nvcc); err == nil {
		nvcc = resolved
	}
	return filepath.Dir(filepath.Dir(nvcc))
}

// libDir returns the directory of the toolkit's libraries.
func (t *toolkit) libDir(goarch string) (string, error) {
	target := map[string]string{"amd64": "x86_64-linux", "arm64": "sbsa-linux"}[goarch]
	root := t.root()
	for _, dir := range []string{"lib64", "targets/" + target + "/lib", "lib", "lib/" + target + "-gnu", "lib/" + strings.Replace(target, "sbsa", "aarch64", 1) + "-gnu"} {
		dir = filepath.Join(root, dir)
		if exists(filepath.Join(dir, "libcudart_static.a")) && exists(filepath.Join(dir, "libcublas.so")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("libcudart_static.a and libcublas.so are not beside %s; install the toolkit's development packages of the CUDA runtime and cuBLAS, or set CUDA=wheels or CUDA=0", t.nvcc)
}

// unsupported returns those of archs ("90-real;120") that nvcc does not compile
// for.
func (t *toolkit) unsupported(archs string) []string {
	var bad []string
	for _, arch := range strings.FieldsFunc(archs, func(r rune) bool { return r == ';' }) {
		number := strings.TrimRight(strings.TrimSuffix(strings.TrimSuffix(arch, "-real"), "-virtual"), "af")
		if strings.Trim(number, "0123456789") == "" && len(t.archs) > 0 && !slices.Contains(t.archs, number) {
			bad = append(bad, arch)
		}
	}
	return bad
}

// firstDriver is the oldest driver branch that runs programs of a CUDA release
// (NVIDIA's CUDA compatibility guide, minor version compatibility).
var firstDriver = map[int]int{11: 450, 12: 525, 13: 580}

// chooseCUDA decides whether and for what the GPU code is built.
func (c *choice) chooseCUDA(a *app, h host) error {
	switch {
	case a.cuda == cudaNever:
		c.because("GPU: no CUDA (CUDA=0)")
		return nil
	case h.toolkit == nil && a.cuda == cudaInsist:
		return fmt.Errorf("CUDA=1, but there is no nvcc%s; %s", ofVersion(a.cudaVersion), cudaRemedy())
	case h.toolkit == nil && h.gpu:
		c.because("GPU: an NVIDIA GPU is here, but no nvcc" + ofVersion(a.cudaVersion) + ": building for the CPU only; " + cudaRemedy())
		return nil
	case h.toolkit == nil:
		c.because("GPU: none found, no nvcc" + ofVersion(a.cudaVersion) + ": building for the CPU")
		return nil
	}
	t := h.toolkit
	archs := cmp.Or(a.cudaArchs, strings.Join(h.gpuArchs, ";"))
	if bad := t.unsupported(archs); len(bad) > 0 {
		err := fmt.Errorf("%s is of CUDA %s, which does not compile for %s but for %s; choose another CUDA_VERSION (12.9 compiles for GPUs from 2014 to 2025) or CUDA_ARCHS",
			t.nvcc, t.version, strings.Join(bad, ", "), strings.Join(t.archs, ", "))
		if a.cuda != cudaAuto || a.cudaArchs != "" {
			return err
		}
		c.because("GPU: building for the CPU only: " + err.Error())
		return nil
	}
	c.CUDA, c.CUDAArchs = true, archs
	c.because("GPU: CUDA " + t.version + " with " + t.nvcc + ", architectures " + cmp.Or(archs, "of llama.cpp's own list: several hours of compiling, CUDA_ARCHS=90 is for one"))
	if first := firstDriver[t.major()]; h.driver != 0 && h.driver < first {
		c.because(fmt.Sprintf("GPU: this machine's driver %d does not run programs of CUDA %d, which takes %d or newer: update the driver, or build with an older CUDA_VERSION", h.driver, t.major(), first))
	}
	return nil
}

func ofVersion(version string) string {
	if version == "" {
		return ""
	}
	return " of CUDA " + version
}

// cudaRemedy is what brings nvcc.
func cudaRemedy() string {
	return "set CUDA=wheels to have it fetched with pip, or install a CUDA toolkit (https://developer.nvidia.com/cuda-downloads), then run this again"
}
