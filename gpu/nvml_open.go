//go:build linux && cgo

package gpu

import (
	"sync"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// libraryPaths are where NVML is looked for: where the loader looks, then where WSL, Kubernetes nodes and NixOS have it.
var libraryPaths = []string{
	libraryName,
	"/usr/lib/wsl/lib/" + libraryName,
	"/usr/local/nvidia/lib64/" + libraryName,
	"/run/opengl-driver/lib/" + libraryName,
}

// needed are the functions without which there is nothing to ask: of each row, one. A call of a function that the
// library lacks would end the process, so that they are looked up first.
var needed = [][]string{
	{"nvmlInit_v2", "nvmlInit"},
	{"nvmlShutdown"},
	{"nvmlErrorString"},
	{"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"},
	{"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"},
	{"nvmlDeviceGetName"},
	{"nvmlDeviceGetUUID"},
	{"nvmlDeviceGetMemoryInfo"},
	{"nvmlDeviceGetCudaComputeCapability"},
}

// shared is the one open library of the process. go-nvml keeps which versions of the functions there are in package
// variables, which it writes when a library is opened and closed: all Libraries share one, opened and closed under mu.
var shared struct {
	mu    sync.Mutex
	users int
	src   *nvmlSource
}

// sharedSource is a user of the shared library.
type sharedSource struct{ *nvmlSource }

func (s sharedSource) close() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users--; shared.users > 0 {
		return nil
	}
	shared.src = nil
	return s.nvmlSource.close()
}

func open(h Host) (source, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.users == 0 {
		src, err := load(h, libraryPaths)
		if err != nil {
			return nil, err
		}
		shared.src = src
	}
	shared.users++
	return sharedSource{shared.src}, nil
}

// load opens the first library of paths that can be opened, and initializes it.
func load(h Host, paths []string) (*nvmlSource, error) {
	var first error
	for _, path := range paths {
		// go-nvml does not tell why a library cannot be opened.
		lib := dl.New(path, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		if err := lib.Open(); err != nil {
			// One that is there and broken says more than the names that are not.
			if first == nil || isMissing(first) && !isMissing(err) {
				first = err
			}
			continue
		}
		for _, alternatives := range needed {
			if !hasAny(lib.Lookup, alternatives) {
				_ = lib.Close()
				return nil, &ErrDriverTooOld{Symbol: alternatives[0], Remedy: "install driver 525 or newer"}
			}
		}
		src := &nvmlSource{api: nvml.New(nvml.WithLibraryPath(path)), library: path, host: h, libcuda: openCUDA}
		ret := src.api.Init()
		_ = lib.Close() // api has opened it itself
		if ret != nvml.SUCCESS {
			return nil, src.initError(ret)
		}
		return src, nil
	}
	return nil, h.noLibrary(libraryName, first)
}

func hasAny(lookup func(string) error, symbols []string) bool {
	for _, s := range symbols {
		if lookup(s) == nil {
			return true
		}
	}
	return false
}

// openCUDA tries libcuda as the CUDA runtime would: where the loader looks.
func openCUDA() error {
	lib := dl.New(cudaLibraryName, dl.RTLD_LAZY)
	if err := lib.Open(); err != nil {
		return err
	}
	return lib.Close()
}
