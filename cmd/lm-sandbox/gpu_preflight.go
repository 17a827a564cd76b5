package main

import (
	"context"
	"fmt"
	"io"

	"github.com/lm-sandbox/lm-sandbox/gpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// gpuPreflight says before a model is loaded why it is not going to be on a GPU.
type gpuPreflight struct {
	layers  gpuLayers
	inspect func() gpuState
	check   func(gpu.Requirements) (gpu.Report, error)
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
	return &gpuPreflight{layers: layers, inspect: p.inspect, check: p.check, notes: notes}
}

// CheckModel refuses where the user insists on a GPU, and else tells why the processor is going to compute.
func (p *gpuPreflight) CheckModel(_ context.Context, need llama.MemoryNeed) error {
	var onGPU bool
	var model uint64
	for _, d := range need.Devices {
		onGPU = onGPU || d.Type != "cpu"
		model += d.Weights + d.Mapped + d.Context
	}
	switch {
	case onGPU && need.NGPULayers > 0, onGPU && p.layers != llama.Auto: // whether that fits is LoadModel's to say
		return nil
	case onGPU:
		if _, err := p.check(gpu.Requirements{FreeMemory: model}); err != nil { // it names who holds the memory
			p.note(err)
		}
		return nil
	}
	s := p.inspect()
	switch {
	case s.err == nil:
		return nil
	case p.layers != llama.Auto:
		return &failure{code: exitGPU, err: s.err, hint: "--gpu-layers auto does without"}
	}
	p.note(s.err)
	return nil
}

func (p *gpuPreflight) note(err error) {
	text, remedy := explainGPU(err)
	if remedy != "" {
		text += ": " + remedy
	}
	fmt.Fprintf(p.notes, "lm-sandbox: no GPU is used: %s\n", text)
}
