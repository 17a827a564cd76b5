package main

import (
	"context"
	"fmt"
	"io"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// gpuPreflight says before a model is loaded why it is not going to be on a GPU.
type gpuPreflight struct {
	layers  gpuLayers
	inspect func() gpuState
	notes   io.Writer
}

// preflight is nil where nobody expects a GPU: --gpu-layers none, or a program built without CUDA on a machine
// without a GPU.
func (p gpuProbe) preflight(layers gpuLayers, notes io.Writer) engine.Preflight {
	if layers == llama.NoLayers {
		return nil
	}
	if build, err := p.build(); layers == llama.Auto && err == nil && !build.CUDA && !p.host.HasGPU() {
		return nil
	}
	return &gpuPreflight{layers: layers, inspect: p.inspect, notes: notes}
}

// CheckModel refuses where the user insists on a GPU, and else tells why the processor is going to compute.
func (p *gpuPreflight) CheckModel(_ context.Context, need llama.MemoryNeed) error {
	for _, d := range need.Devices {
		if d.Type != "cpu" { // whether it fits is LoadModel's to say
			return nil
		}
	}
	s := p.inspect()
	switch {
	case s.err == nil:
		return nil
	case p.layers != llama.Auto:
		return &failure{code: exitGPU, err: s.err, hint: "--gpu-layers auto does without"}
	}
	problem, remedy := explainGPU(s.err)
	_, err := fmt.Fprintf(p.notes, "lm-sandbox: no GPU is used: %s: %s\n", problem, remedy)
	return err
}
