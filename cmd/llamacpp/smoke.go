package main

import (
	"context"
	"errors"
	"path"
)

// smokeDir and smokeKernels are what cuda-smoke compiles: small kernels of the
// backend, which include all that the others do.
const smokeDir = "ggml/src/ggml-cuda"

var smokeKernels = []string{"add-id.cu.o", "scale.cu.o"}

// cudaSmoke configures the tree for CUDA and compiles two kernels. The objects
// stay for the whole build of the same settings.
func (a *app) cudaSmoke(ctx context.Context) error {
	p, err := a.plan(ctx)
	if err != nil {
		return err
	}
	if !p.CUDA {
		return errors.New("these settings build nothing for CUDA: set CUDA=wheels, or CUDA=1 with a CUDA toolkit")
	}
	if err := a.needBuild(); err != nil {
		return err
	}
	lock, err := a.lock(ctx, "native-"+p.work)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := a.fetch(ctx); err != nil {
		return err
	}
	b := cmakeBuild{app: a, plan: p, lock: lock, dir: a.workDir(p.work)}
	if err := b.make(ctx, "compiling two kernels", smokeTargets()); err != nil {
		return err
	}
	a.say("CUDA: two kernels compiled with CUDA %s", p.host.toolkit.version)
	return nil
}

// smokeTargets names the objects as the present generator does.
func smokeTargets() []string {
	if name, _ := generator(); name != "Ninja" {
		return append([]string{"-C", smokeDir}, smokeKernels...)
	}
	targets := make([]string, len(smokeKernels))
	for i, kernel := range smokeKernels {
		targets[i] = path.Join(smokeDir, "CMakeFiles/ggml-cuda.dir", kernel)
	}
	return targets
}
