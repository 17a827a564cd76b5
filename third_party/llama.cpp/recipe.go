package llamacpp

import (
	"slices"
	"strings"
)

// Recipe counts the changes to this file, or to how cmd/llamacpp applies it, that
// give another output for the same options. It is part of the cache key.
const Recipe = 1

// Variant is what of the recipe depends on the host and on the user's wishes.
type Variant struct {
	GOOS, GOARCH string
	// Native compiles for this processor only (-march=native).
	Native bool
	// ARMArch is the -march value of an arm64 build; "" is the compiler's default.
	ARMArch string
	// CUDA adds the CUDA backend, for the GPU architectures CUDAArchs ("90;120",
	// "" = llama.cpp's own list).
	CUDA      bool
	CUDAArchs string
}

// Options returns the CMake options of v, sorted. What they leave to llama.cpp's
// defaults is fixed by the tree.
func Options(v Variant) []string {
	on := map[string]string{
		"CMAKE_BUILD_TYPE":                "Release",
		"CMAKE_POSITION_INDEPENDENT_CODE": "ON", // Go links position-independent programs
		"BUILD_SHARED_LIBS":               "OFF",
		"LLAMA_BUILD_COMMON":              "ON",
		"LLAMA_BUILD_TESTS":               "OFF",
		"LLAMA_BUILD_EXAMPLES":            "OFF",
		"LLAMA_BUILD_APP":                 "OFF",
		// Tools and server are configured but only Peers' targets are ever built,
		// from the very objects that our program links, but for those that are edited.
		"LLAMA_BUILD_TOOLS":     "ON",
		"LLAMA_BUILD_SERVER":    "ON",
		"LLAMA_BUILD_UI":        "OFF", // needs npm packages
		"LLAMA_USE_PREBUILT_UI": "OFF", // downloads at build time
		"LLAMA_OPENSSL":         "OFF", // we download in Go
		"LLAMA_SUBPROCESS":      "OFF",
		"LLAMA_LLGUIDANCE":      "OFF",
		"LLAMA_BUILD_IS_DEV":    "OFF", // a clean version string
		"LLAMA_BUILD_NUMBER":    "0",
		"LLAMA_BUILD_COMMIT":    "tree-" + Tree[:9],
		"GGML_NATIVE":           onOff(v.Native),
		"GGML_BACKEND_DL":       "OFF",
		"GGML_CUDA":             onOff(v.CUDA),
	}
	if v.GOARCH == "amd64" && !v.Native {
		// ggml drops its AVX2 baseline when SOURCE_DATE_EPOCH is set: say it.
		for _, set := range amd64Baseline {
			on["GGML_"+set] = "ON"
		}
	}
	if v.GOARCH == "arm64" && !v.Native && v.ARMArch != "" {
		on["GGML_CPU_ARM_ARCH"] = v.ARMArch
	}
	if v.GOOS == "darwin" {
		on["GGML_METAL_EMBED_LIBRARY"] = "ON"
	}
	if v.CUDA {
		on["GGML_CUDA_NO_VMM"] = "ON" // else libcuda is needed to link and to start
		on["GGML_CUDA_NCCL"] = "OFF"
		if v.CUDAArchs != "" {
			on["CMAKE_CUDA_ARCHITECTURES"] = v.CUDAArchs
		}
	}
	opts := make([]string, 0, len(on))
	for k, val := range on {
		opts = append(opts, "-D"+k+"="+val)
	}
	slices.Sort(opts)
	return opts
}

// amd64Baseline are the instruction sets of the portable x86-64 build; every
// one of them came with Haswell (2013) and Zen.
var amd64Baseline = []string{"SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C"}

// CPUFlags returns the names in /proc/cpuinfo that a processor must have to run
// the portable build of goarch.
func CPUFlags(goarch string) []string {
	if goarch != "amd64" {
		return nil
	}
	return []string{"sse4_2", "avx", "avx2", "bmi2", "fma", "f16c"}
}

// Targets are the CMake targets of the library.
var Targets = []string{"llama", "llama-common"}

// Peers are llama.cpp's own programs that we measure against; each is a CMake
// target of the same name that leaves bin/NAME.
var Peers = []string{"llama-completion", "llama-tokenize", "llama-bench", "llama-batched-bench", "llama-server"}

// Libraries returns the static libraries of v in link order, as paths in the
// CMake build directory.
func Libraries(v Variant) []string {
	libs := []string{
		"common/libllama-common.a",
		"common/libllama-common-base.a",
		"vendor/cpp-httplib/libcpp-httplib.a",
		"src/libllama.a",
		"ggml/src/libggml.a",
		"ggml/src/libggml-cpu.a",
	}
	if v.GOOS == "darwin" {
		libs = append(libs, "ggml/src/ggml-blas/libggml-blas.a", "ggml/src/ggml-metal/libggml-metal.a")
	}
	if v.CUDA {
		libs = append(libs, "ggml/src/ggml-cuda/libggml-cuda.a")
	}
	return append(libs, "ggml/src/libggml-base.a")
}

// SystemLibraries returns the flags that follow Libraries. openMP are the names
// CMake found for it (gomp with gcc, omp with clang); cudaDir is the library
// directory of the CUDA toolkit.
func SystemLibraries(v Variant, openMP []string, cudaDir string) []string {
	var flags []string
	if v.CUDA {
		flags = append(flags, "-L"+cudaDir, "-Wl,-rpath,"+cudaDir, "-lcudart_static", "-lcublas", "-lcublasLt", "-lrt")
	}
	for _, name := range openMP {
		flags = append(flags, "-l"+name)
	}
	if v.GOOS == "darwin" {
		for _, f := range []string{"Accelerate", "Foundation", "Metal", "MetalKit"} {
			flags = append(flags, "-framework", f)
		}
		return append(flags, "-lc++", "-lm")
	}
	return append(flags, "-lstdc++", "-lm", "-lpthread", "-ldl")
}

// HeaderDirs are the directories of the tree whose headers the library's users
// include.
var HeaderDirs = []string{"include", "ggml/include", "common", "vendor"}

// IsHeader reports whether a file of a header directory is a header.
func IsHeader(name string) bool {
	return strings.HasSuffix(name, ".h") || strings.HasSuffix(name, ".hpp")
}

func onOff(b bool) string {
	if b {
		return "ON"
	}
	return "OFF"
}
