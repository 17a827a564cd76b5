package llama

import (
	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

// System describes the llama.cpp in this program.
type System struct {
	Version  string // of llama.cpp
	Tree     string // the git tree hash of its sources
	Features string // of the CPU, as the library was built for: "CPU : SSE3 = 1 | AVX2 = 1 | …"
	NThreads int    // the default of ContextParams.NThreads
}

// SystemInfo describes the linked llama.cpp.
//
// # Errors
//
//   - [ErrUnsupported] in a build without cgo, or when the linked library is not the one this package was written for
//
// C: llama_version, llama_print_system_info
func SystemInfo() (System, error) {
	if err := native.Init(); err != nil {
		return System{}, fromNative(err, ErrUnsupported, "llama.cpp")
	}
	return System{Version: native.Version(), Tree: llamacpp.Tree, Features: native.SystemInfo(), NThreads: native.NThreadsDefault()}, nil
}

// Device is something that llama.cpp computes on.
type Device struct {
	Name, Description string
	Type              string // cpu, gpu, igpu, accel or other
	ID                string // a GPU's PCI address, such as 0000:3b:00.0; "" where unknown
	MemoryFree        uint64 // bytes, 0 where unknown
	MemoryTotal       uint64 // bytes, 0 where unknown
}

// Devices lists what llama.cpp can compute on, the CPU included.
//
// # Errors
//
//   - as [SystemInfo]
//
// C: ggml_backend_dev_get_props
func Devices() ([]Device, error) {
	if err := native.Init(); err != nil {
		return nil, fromNative(err, ErrUnsupported, "llama.cpp")
	}
	var out []Device
	for _, d := range native.Devices() {
		out = append(out, Device(d))
	}
	return out, nil
}
