package llama

import (
	"math"
	"slices"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// SplitMode says how several GPUs share a model (llama_split_mode).
type SplitMode int

// Split modes; the zero value is by layers.
const (
	SplitLayer SplitMode = iota // each GPU has some of the layers, with their part of the KV cache
	SplitRow                    // each GPU has some rows of the matrices, where its back end can
	SplitNone                   // one GPU has all of it: ModelParams.MainGPU
)

var splitModes = map[SplitMode]int32{SplitLayer: 1, SplitRow: 2, SplitNone: 0}

// placement checks the parameters about devices. layers is how many go to GPUs, negative for all.
func (p *ModelParams) placement(layers int32) (native.Placement, error) {
	w := native.Placement{NGPULayers: layers, MainGPU: int32(p.MainGPU)}
	mode, ok := splitModes[p.SplitMode]
	if !ok {
		return w, errorf(ErrInvalidParam, "SplitMode %d is none of the constants", p.SplitMode)
	}
	w.SplitMode = mode
	var gpus, all []string
	for _, d := range native.Devices() {
		all = append(all, d.Name)
		if d.Type == "gpu" || d.Type == "igpu" {
			gpus = append(gpus, d.Name)
		}
	}
	if len(p.Devices) > 0 && layers == 0 {
		return w, errorf(ErrInvalidParam, "Devices are given, and NGPULayers says that none is used")
	}
	for i, name := range p.Devices {
		switch {
		case !slices.Contains(gpus, name):
			return w, errorf(ErrInvalidParam, "Devices[%d] is %q: no such GPU; the devices are %s", i, name, strings.Join(all, ", "))
		case slices.Contains(p.Devices[:i], name):
			return w, errorf(ErrInvalidParam, "Devices[%d] is %q, twice", i, name)
		}
	}
	w.Devices = p.Devices
	n := len(p.Devices)
	if n == 0 {
		n = len(gpus)
	}
	if layers == 0 {
		n = 0
	}
	switch {
	case p.MainGPU != 0 && p.SplitMode != SplitNone:
		return w, errorf(ErrInvalidParam, "MainGPU = %d is for SplitNone", p.MainGPU)
	case p.MainGPU < 0 || p.MainGPU >= max(n, 1):
		return w, errorf(ErrInvalidParam, "MainGPU = %d: want the index of one of %d GPUs", p.MainGPU, n)
	case len(p.TensorSplit) > 0 && p.SplitMode == SplitNone:
		return w, errorf(ErrInvalidParam, "TensorSplit is given, and SplitNone splits nothing")
	case len(p.TensorSplit) > n:
		return w, errorf(ErrInvalidParam, "TensorSplit has %d shares for %d GPUs", len(p.TensorSplit), n)
	}
	sum := 0.0
	for i, share := range p.TensorSplit {
		if !(share >= 0) || math.IsInf(float64(share), 0) {
			return w, errorf(ErrInvalidParam, "TensorSplit[%d] is %v: want 0 or more", i, share)
		}
		sum += float64(share)
	}
	if len(p.TensorSplit) > 0 && sum == 0 {
		return w, errorf(ErrInvalidParam, "TensorSplit gives no GPU a share")
	}
	w.TensorSplit = p.TensorSplit
	return w, nil
}
