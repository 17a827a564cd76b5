package llamacpp

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		name     string
		variant  Variant
		has, not []string
	}{
		{
			"portable amd64", Variant{GOOS: "linux", GOARCH: "amd64"},
			[]string{"-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_CUDA=OFF", "-DBUILD_SHARED_LIBS=OFF", "-DCMAKE_POSITION_INDEPENDENT_CODE=ON"},
			[]string{"-DGGML_CUDA_NO_VMM=ON", "-DGGML_AVX512=ON"},
		},
		{
			"native amd64", Variant{GOOS: "linux", GOARCH: "amd64", Native: true},
			[]string{"-DGGML_NATIVE=ON"}, []string{"-DGGML_AVX2=ON"},
		},
		{
			"portable arm64", Variant{GOOS: "linux", GOARCH: "arm64", ARMArch: "armv8.2-a+dotprod+fp16"},
			[]string{"-DGGML_NATIVE=OFF", "-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16"}, []string{"-DGGML_AVX2=ON"},
		},
		{
			"native arm64", Variant{GOOS: "linux", GOARCH: "arm64", Native: true, ARMArch: "armv8.2-a+dotprod+fp16"},
			[]string{"-DGGML_NATIVE=ON"}, []string{"-DGGML_CPU_ARM_ARCH=armv8.2-a+dotprod+fp16"},
		},
		{
			"CUDA", Variant{GOOS: "linux", GOARCH: "amd64", CUDA: true, CUDAArchs: "90;120"},
			[]string{"-DGGML_CUDA=ON", "-DGGML_CUDA_NO_VMM=ON", "-DGGML_CUDA_NCCL=OFF", "-DCMAKE_CUDA_ARCHITECTURES=90;120", "-DGGML_AVX2=ON"}, nil,
		},
		{
			"CUDA for llama.cpp's own list", Variant{GOOS: "linux", GOARCH: "amd64", CUDA: true},
			[]string{"-DGGML_CUDA=ON"}, []string{"-DCMAKE_CUDA_ARCHITECTURES="},
		},
		{
			"no network while building", Variant{GOOS: "linux", GOARCH: "amd64"},
			[]string{"-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF"}, nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := Options(test.variant)
			assert.True(t, slices.IsSorted(opts), "the order is part of the key")
			assert.Subset(t, opts, test.has)
			for _, o := range test.not {
				assert.NotContains(t, opts, o)
			}
		})
	}
}

func TestLinkOrder(t *testing.T) {
	cpu := []string{"common/libllama-common.a", "common/libllama-common-base.a", "vendor/cpp-httplib/libcpp-httplib.a", "src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a"}
	assert.Equal(t, cpu, Libraries(Variant{GOOS: "linux", GOARCH: "amd64"}))

	cuda := Libraries(Variant{GOOS: "linux", GOARCH: "amd64", CUDA: true})
	at := slices.Index(cuda, "ggml/src/ggml-cuda/libggml-cuda.a")
	assert.Greater(t, at, slices.Index(cuda, "ggml/src/libggml.a"), "the registry refers to the backend")
	assert.Less(t, at, slices.Index(cuda, "ggml/src/libggml-base.a"), "the backend refers to the base")
}

func TestSystemLibraries(t *testing.T) {
	linux := Variant{GOOS: "linux", GOARCH: "amd64"}
	assert.Equal(t, []string{"-lgomp", "-lstdc++", "-lm", "-lpthread", "-ldl"}, SystemLibraries(linux, []string{"gomp"}, ""))
	assert.Equal(t, []string{"-lstdc++", "-lm", "-lpthread", "-ldl"}, SystemLibraries(linux, nil, ""))

	cuda := linux
	cuda.CUDA = true
	flags := SystemLibraries(cuda, []string{"gomp"}, "/usr/local/cuda/lib64")
	assert.Equal(t, []string{"-L/usr/local/cuda/lib64", "-Wl,-rpath,/usr/local/cuda/lib64", "-lcudart_static", "-lcublas", "-lcublasLt", "-lrt"}, flags[:6])
	assert.NotContains(t, flags, "-lcuda", "a program must start where there is no driver")

	darwin := SystemLibraries(Variant{GOOS: "darwin", GOARCH: "arm64"}, nil, "")
	assert.Contains(t, darwin, "-lc++")
	assert.NotContains(t, darwin, "-lstdc++")
}

func TestPin(t *testing.T) {
	assert.Regexp(t, "^[0-9a-f]{40}$", Tree)
	assert.Equal(t, "v"+Version, Tag)
}
