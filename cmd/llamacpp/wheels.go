package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// wheelsVersion is the release that CUDA=wheels takes by default: the oldest of
// those whose nvcc is on PyPI, so that it suits the most drivers. The packages of
// CUDA 12 hold ptxas and headers but no nvcc.
const wheelsVersion = "13.0.2"

// wheelsParts are the parts of NVIDIA's package cuda-toolkit that the build uses:
// its version fixes theirs.
const wheelsParts = "nvcc,crt,nvvm,cccl,cudart,cublas"

// wheelsNeed are the files of a whole toolkit, as this package links it.
var wheelsNeed = []string{
	"bin/nvcc", "bin/ptxas", "bin/cudafe++", "bin/fatbinary", "nvvm/bin/cicc", "nvvm/libdevice/libdevice.10.bc",
	"include/crt/host_config.h", "include/cuda_runtime.h", "include/cublas_v2.h",
	"lib64/libcudart_static.a", "lib64/libcudart.so", "lib64/libcublas.so", "lib64/libcublasLt.so",
}

// wheels returns the toolkit made of PyPI's packages, fetching it where the
// command may.
func (a *app) wheels(ctx context.Context) (*toolkit, error) {
	version, err := a.wheelsRelease()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(a.cache, "cuda", version)
	t, err := openWheels(ctx, dir)
	if err == nil || ctx.Err() != nil {
		return t, err
	}
	if a.offline {
		return nil, errNotBuilt
	}
	lock, err := a.lock(ctx, "cuda-"+version)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if t, err := openWheels(ctx, dir); err == nil {
		return t, nil
	} else if exists(dir) {
		a.say("the cached CUDA toolkit is damaged: %v", err)
	}
	if err := a.fetchWheels(ctx, version, dir); err != nil {
		return nil, err
	}
	return openWheels(ctx, dir)
}

// wheelsRelease turns CUDA_VERSION into a release of cuda-toolkit, of which the
// last number may be open ("13.4").
func (a *app) wheelsRelease() (string, error) {
	switch a.cudaVersion {
	case "", "13", "13.0":
		return wheelsVersion, nil
	}
	first, _, minor := strings.Cut(a.cudaVersion, ".")
	if major, err := strconv.Atoi(first); err != nil || major < 13 {
		return "", fmt.Errorf("CUDA_VERSION is %s, but pip brings an nvcc of CUDA 13 and newer only; for CUDA %s install NVIDIA's toolkit (https://developer.nvidia.com/cuda-toolkit-archive) and set CUDA=1", a.cudaVersion, first)
	}
	if !minor {
		return "", fmt.Errorf("CUDA_VERSION is %s: for CUDA=wheels add the minor version, as in 13.0", a.cudaVersion)
	}
	return a.cudaVersion, nil
}

// openWheels returns the toolkit in dir, where fetchWheels put it.
func openWheels(ctx context.Context, dir string) (*toolkit, error) {
	roots, err := filepath.Glob(filepath.Join(dir, "nvidia", "cu[0-9]*"))
	if err != nil || len(roots) != 1 {
		return nil, fmt.Errorf("%s holds no CUDA toolkit", dir)
	}
	for _, name := range wheelsNeed {
		if _, err := os.Stat(filepath.Join(roots[0], name)); err != nil {
			return nil, err
		}
	}
	return openToolkit(ctx, filepath.Join(roots[0], "bin", "nvcc"))
}

// fetchWheels lets pip put the packages into a scratch directory, completes them
// there to what CMake and the linker look for, and moves them to dir in one step.
func (a *app) fetchWheels(ctx context.Context, version, dir string) error {
	pip, err := findPip()
	if err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	if err := removeLeftovers(parent, version); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(parent, leftover(version)+"*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	stage := filepath.Join(tmp, "toolkit")
	exact := version
	if strings.Count(version, ".") < 2 {
		exact += ".*"
	}
	a.say("fetching CUDA %s with pip (600 MB, 900 MB unpacked)", version)
	env := append(os.Environ(), "TMPDIR="+tmp, "PIP_USER=0", "PIP_REQUIRE_VIRTUALENV=0", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_NO_INPUT=1", "PIP_ROOT_USER_ACTION=ignore")
	args := []string{pip, "install", "--quiet", "--no-compile", "--only-binary=:all:", "--target", stage, "cuda-toolkit[" + wheelsParts + "]==" + exact}
	if err := (child{args: args, env: env}).run(ctx); err != nil {
		return err
	}
	if err := completeWheels(stage); err != nil {
		return err
	}
	if _, err := openWheels(ctx, stage); err != nil {
		return fmt.Errorf("the packages of CUDA %s are incomplete: %w; choose another CUDA_VERSION, or install NVIDIA's toolkit and set CUDA=1", version, err)
	}
	if err := publish(stage, dir); err != nil {
		return err
	}
	a.say("CUDA: %s", dir)
	return nil
}

// completeWheels makes the names that the packages leave out: lib64, and the
// libraries' names without a version.
func completeWheels(dir string) error {
	roots, err := filepath.Glob(filepath.Join(dir, "nvidia", "cu[0-9]*"))
	if err != nil || len(roots) != 1 {
		return errors.New("pip left no CUDA toolkit")
	}
	if lib64 := filepath.Join(roots[0], "lib64"); !exists(lib64) {
		if err := os.Symlink("lib", lib64); err != nil {
			return err
		}
	}
	versioned, err := filepath.Glob(filepath.Join(roots[0], "lib", "lib*.so.*"))
	if err != nil {
		return err
	}
	for _, lib := range versioned {
		plain := lib[:strings.Index(lib, ".so.")+len(".so")]
		if exists(plain) {
			continue
		}
		if err := os.Symlink(filepath.Base(lib), plain); err != nil {
			return err
		}
	}
	return nil
}

// findPip returns the program that is pip, which nothing else needs.
func findPip() (string, error) {
	for _, name := range []string{"pip3", "pip"} {
		if _, err := exec.LookPath(name); err == nil {
			return name, nil
		}
	}
	err := need([]tool{{"pip3", packages{"python3-pip", "python3-pip", "py3-pip", "python-pip", "python"}}})
	return "", fmt.Errorf("CUDA=wheels fetches CUDA with pip: %w", err)
}
