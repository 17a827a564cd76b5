//go:build cgo

// Package native is the only place where Go meets llama.cpp: every import of "C" and every line of C++ for package
// llama is here. It offers plain functions on opaque handles and checks nothing that its one caller, package llama,
// has checked already.
package native

/*
#cgo linux CXXFLAGS: -fopenmp
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"sync"
	"unsafe"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// Supported says whether this build contains llama.cpp.
const Supported = true

var initOnce = sync.OnceValue(func() error {
	var cerr *C.char
	if err := toError(C.lm_init(&cerr), cerr); err != nil {
		return err
	}
	version, tree := Version(), C.GoString(C.lm_tree_c_str())
	if version != llamacpp.Version || tree != llamacpp.Tree {
		return &Error{Code: CodeError, Text: fmt.Sprintf("linked is llama.cpp %s of tree %s, this package is for %s of %s: run cmd/llamacpp install again",
			version, tree, llamacpp.Version, llamacpp.Tree)}
	}
	return nil
})

// Init prepares llama.cpp once per process.
func Init() error { return initOnce() }

// Version is the linked llama.cpp's own version.
func Version() string { return C.GoString(C.lm_version_c_str()) }

var systemInfo sync.Mutex

// SystemInfo lists the CPU features that the library was built for. llama.cpp writes it anew into one string at each call.
func SystemInfo() string {
	systemInfo.Lock()
	defer systemInfo.Unlock()
	return C.GoString(C.lm_system_info_c_str())
}

// NThreadsDefault is the thread count that llama.cpp's tools choose: the physical cores.
func NThreadsDefault() int { return int(C.lm_n_threads_default()) }

const mostDevices = 32

// Devices lists ggml's devices.
func Devices() []Device {
	var out [mostDevices]C.lm_device
	n := min(int(C.lm_devices(&out[0], C.int32_t(len(out)))), len(out))
	devices := make([]Device, 0, max(n, 0))
	for i := range max(n, 0) {
		devices = append(devices, toDevice(&out[i]))
	}
	return devices
}

func toDevice(d *C.lm_device) Device {
	return Device{
		Name:        C.GoString(&d.name[0]),
		Description: C.GoString(&d.description[0]),
		Type:        C.GoString(&d._type[0]),
		ID:          C.GoString(&d.id[0]),
		MemoryFree:  uint64(d.memory_free),
		MemoryTotal: uint64(d.memory_total),
	}
}

// toError takes ownership of cerr.
func toError(code C.int32_t, cerr *C.char) error {
	if code == C.LM_OK {
		return nil
	}
	e := &Error{Code: int(code)}
	if cerr != nil {
		e.Text = C.GoString(cerr)
		C.lm_free(unsafe.Pointer(cerr))
	}
	return e
}

// chars passes a string's bytes for the duration of a call; the C side takes a length, never a terminator.
func chars(s string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}

// takeString takes ownership of p.
func takeString(p *C.char, n C.size_t) string {
	defer C.lm_free(unsafe.Pointer(p))
	return string(unsafe.Slice((*byte)(unsafe.Pointer(p)), int(n)))
}

func ptr32(s []int32) *C.int32_t { return (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(s))) }
