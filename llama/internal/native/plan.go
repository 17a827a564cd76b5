//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import "unsafe"

// Plan is where a model's tensors go; opaque. One goroutine at a time uses it, except that any number of loads may.
type Plan struct{ p *C.lm_plan }

// NewPlan makes a plan for a file; nVocab is 0 without a vocabulary.
func NewPlan(path string, w Placement, arch string, nVocab int64) (Plan, error) {
	cpath, carch := C.CString(path), C.CString(arch)
	defer C.lm_free(unsafe.Pointer(cpath))
	defer C.lm_free(unsafe.Pointer(carch))
	var p Plan
	var cerr *C.char
	where := C.lm_placement{n_gpu_layers: C.int32_t(w.NGPULayers), split_mode: C.int32_t(w.SplitMode), main_gpu: C.int32_t(w.MainGPU)}
	names := ""
	for _, d := range w.Devices {
		names += d + "\x00"
	}
	devices, nDevices := chars(names)
	split := (*C.float)(unsafe.Pointer(unsafe.SliceData(w.TensorSplit)))
	err := toError(C.lm_plan_new(cpath, &where, devices, nDevices, split, C.size_t(len(w.TensorSplit)), carch, C.int64_t(nVocab), &p.p, &cerr), cerr)
	return p, err
}

// Free releases the plan.
func (p Plan) Free() { C.lm_plan_free(p.p) }

// OpenModel loads the model without its tensors' data, for Measure.
func (p Plan) OpenModel() (PlanInfo, error) {
	var i C.lm_plan_info
	var cerr *C.char
	if err := toError(C.lm_plan_open_model(p.p, &i, &cerr), cerr); err != nil {
		return PlanInfo{}, err
	}
	return PlanInfo{NLayer: int32(i.n_layer), NCtxTrain: int32(i.n_ctx_train), HasEncoder: bool(i.has_encoder), CanMap: bool(i.can_map)}, nil
}

// CloseModel undoes OpenModel.
func (p Plan) CloseModel() { C.lm_plan_close_model(p.p) }

// Measure gives what the opened model and a context take: of each of its devices, and last of main memory.
func (p Plan) Measure(cp ContextParams) ([]DeviceMemory, error) {
	c := cp.c()
	var out [mostDevices]C.lm_device_memory
	var n C.int32_t
	var cerr *C.char
	if err := toError(C.lm_plan_measure(p.p, &c, &out[0], C.int32_t(len(out)), &n, &cerr), cerr); err != nil {
		return nil, err
	}
	devices := make([]DeviceMemory, n)
	for i := range devices {
		o := &out[i]
		devices[i] = DeviceMemory{
			Device: toDevice(&o.device), Weights: uint64(o.weights), Mappable: uint64(o.mappable), Context: uint64(o.context), Compute: uint64(o.compute),
		}
	}
	return devices, nil
}

// Fit lowers the number of layers on GPUs, if it is "all", and cp.NCtx, if it is 0, until margins are left free on the
// devices (of main memory, where there are none); it closes the model. It gives the number of layers.
func (p Plan) Fit(cp *ContextParams, margins []uint64, nCtxMin uint32) (int32, error) {
	c := cp.c()
	var layers C.int32_t
	var cerr *C.char
	err := toError(C.lm_plan_fit(p.p, &c, (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(margins))), C.int32_t(len(margins)), C.uint32_t(nCtxMin),
		&layers, &cerr), cerr)
	cp.NCtx = uint32(c.n_ctx)
	return int32(layers), err
}
