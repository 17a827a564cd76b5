//go:build cgo

package native

/*
#include "shim.h"
*/
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// Adapter is an opaque llama_adapter_lora.
type Adapter struct{ p *C.struct_llama_adapter_lora }

// LoadAdapter is llama_adapter_lora_init. Nothing may compute with the model meanwhile, nor during Free.
func LoadAdapter(m Model, path string) (Adapter, error) {
	cpath := C.CString(path)
	defer C.lm_free(unsafe.Pointer(cpath))
	var a Adapter
	var cerr *C.char
	err := toError(C.lm_adapter_load(m.p, cpath, &a.p, &cerr), cerr)
	return a, err
}

// Free releases the adapter. The model does, too.
func (a Adapter) Free() { C.lm_adapter_free(a.p) }

// SetAdapters is llama_set_adapters_lora.
func (c Context) SetAdapters(adapters []Adapter, scales []float32) error {
	var cerr *C.char
	p := (**C.struct_llama_adapter_lora)(unsafe.Pointer(unsafe.SliceData(adapters)))
	s := (*C.float)(unsafe.Pointer(unsafe.SliceData(scales)))
	return toError(C.lm_context_set_adapters(c.p, p, s, C.size_t(len(adapters)), &cerr), cerr)
}

// StateSize is llama_state_get_size.
func (c Context) StateSize() int { return int(C.lm_state_size(c.p)) }

// StateGet is llama_state_get_data: the number of bytes written, 0 where it failed.
func (c Context) StateGet(dst []byte) int {
	return int(C.lm_state_get(c.p, (*C.uint8_t)(unsafe.SliceData(dst)), C.size_t(len(dst))))
}

// StateSet is llama_state_set_data: the number of bytes read, 0 where it failed.
func (c Context) StateSet(src []byte) int {
	return int(C.lm_state_set(c.p, (*C.uint8_t)(unsafe.SliceData(src)), C.size_t(len(src))))
}

// TypeSize is ggml_blck_size and ggml_type_size; 0 and 0 for a number that is no type.
func TypeSize(kind uint32) (block, bytes uint64) {
	C.lm_type_size(C.uint32_t(kind), (*C.uint64_t)(&block), (*C.uint64_t)(&bytes))
	return block, bytes
}

// Quantize is llama_model_quantize; progress is called on this goroutine's thread and stops it by returning false.
func Quantize(in, out string, p QuantizeParams, progress func(float32) bool) error {
	cin, cout := C.CString(in), C.CString(out)
	defer C.lm_free(unsafe.Pointer(cin))
	defer C.lm_free(unsafe.Pointer(cout))
	h := cgo.NewHandle(progress)
	defer h.Delete()
	cp := C.lm_quantize_params{
		ftype: C.int32_t(p.Ftype), n_threads: C.int32_t(p.NThreads), allow_requantize: C.bool(p.AllowRequantize), pure: C.bool(p.Pure),
		quantize_output_tensor: C.bool(p.QuantizeOutputTensor), progress: C.uintptr_t(h),
	}
	var cerr *C.char
	return toError(C.lm_quantize(cin, cout, &cp, &cerr), cerr)
}
