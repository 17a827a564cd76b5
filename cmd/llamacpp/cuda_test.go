package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

func TestChooseCUDA(t *testing.T) {
	cuda12 := &toolkit{nvcc: "/x/nvcc", version: "12.9", archs: strings.Fields("50 75 86 90 120")}
	cuda13 := &toolkit{nvcc: "/y/nvcc", version: "13.0", archs: strings.Fields("75 86 90 120")}
	silent := &toolkit{nvcc: "/z/nvcc", version: "11.0"}
	for _, test := range []struct {
		name    string
		app     app
		host    host
		want    llamacpp.Variant
		reason  string // part of what is said
		failure string
	}{
		{
			name: "no GPU", app: app{cuda: cudaAuto},
			reason: "none found, no nvcc: building for the CPU",
		},
		{
			name: "a GPU without nvcc", app: app{cuda: cudaAuto}, host: host{gpu: true},
			reason: "an NVIDIA GPU is here, but no nvcc: building for the CPU only; set CUDA=wheels",
		},
		{
			name: "a GPU without nvcc of the version", app: app{cuda: cudaAuto, cudaVersion: "12.9"}, host: host{gpu: true},
			reason: "no nvcc of CUDA 12.9",
		},
		{
			name: "a GPU with nvcc", app: app{cuda: cudaAuto}, host: host{gpu: true, toolkit: cuda12, gpuArchs: []string{"86", "90"}},
			want: llamacpp.Variant{CUDA: true, CUDAArchs: "86;90"}, reason: "CUDA 12.9 with /x/nvcc, architectures 86;90",
		},
		{
			name: "chosen architectures", app: app{cuda: cudaInsist, cudaArchs: "120a-real"}, host: host{toolkit: cuda12, gpuArchs: []string{"90"}},
			want: llamacpp.Variant{CUDA: true, CUDAArchs: "120a-real"}, reason: "architectures 120a-real",
		},
		{
			name: "nvcc without a GPU", app: app{cuda: cudaInsist}, host: host{toolkit: cuda12},
			want: llamacpp.Variant{CUDA: true}, reason: "llama.cpp's own list",
		},
		{
			name: "never CUDA", app: app{cuda: cudaNever}, host: host{gpu: true},
			reason: "CUDA=0",
		},
		{
			name: "insisting without nvcc", app: app{cuda: cudaInsist}, host: host{gpu: true},
			failure: "CUDA=1, but there is no nvcc; set CUDA=wheels",
		},
		{
			name: "insisting on another version", app: app{cuda: cudaInsist, cudaVersion: "12.9"}, host: host{gpu: true},
			failure: "there is no nvcc of CUDA 12.9",
		},
		{
			name: "an old GPU that CUDA 13 left", app: app{cuda: cudaAuto}, host: host{gpu: true, toolkit: cuda13, gpuArchs: []string{"61"}},
			reason: "building for the CPU only: /y/nvcc is of CUDA 13.0, which does not compile for 61",
		},
		{
			name: "insisting for an old GPU", app: app{cuda: cudaWheels}, host: host{gpu: true, toolkit: cuda13, gpuArchs: []string{"61", "90"}},
			failure: "does not compile for 61 but for 75, 86, 90, 120; choose another CUDA_VERSION",
		},
		{
			name: "chosen architectures that nvcc has not", app: app{cuda: cudaAuto, cudaArchs: "90;50-virtual;all-major"}, host: host{toolkit: cuda13},
			failure: "does not compile for 50-virtual but",
		},
		{
			name: "an nvcc that does not tell", app: app{cuda: cudaAuto, cudaArchs: "50"}, host: host{toolkit: silent},
			want: llamacpp.Variant{CUDA: true, CUDAArchs: "50"}, reason: "architectures 50",
		},
		{
			name: "a driver that is too old", app: app{cuda: cudaAuto}, host: host{gpu: true, toolkit: cuda13, gpuArchs: []string{"90"}, driver: 550},
			want: llamacpp.Variant{CUDA: true, CUDAArchs: "90"}, reason: "driver 550 does not run programs of CUDA 13, which takes 580",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.host.cpu = avx2
			got, err := test.app.choose(test.host)
			if test.failure != "" {
				require.ErrorContains(t, err, test.failure)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got.Variant)
			assert.Contains(t, strings.Join(got.reasons, "\n"), test.reason)
		})
	}
}

func TestArchitecturesAreChecked(t *testing.T) {
	for text, want := range map[string]string{
		"":                     "",
		"90":                   "90",
		"86;90":                "86;90",
		"86, 90-real 120a":     "86;90-real;120a",
		"75-virtual;all-major": "75-virtual;all-major",
	} {
		t.Setenv("CUDA_ARCHS", text)
		a := &app{}
		require.NoError(t, a.readCUDA(), text)
		assert.Equal(t, want, a.cudaArchs)
	}
	for _, text := range []string{"9.0", "sm_90", "native", "90;x", "9", "-DX=1"} {
		t.Setenv("CUDA_ARCHS", text)
		assert.ErrorContains(t, (&app{}).readCUDA(), "CUDA_ARCHS holds", text)
	}
}

func TestToolkitVersion(t *testing.T) {
	t12 := &toolkit{version: "12.9"}
	for _, version := range []string{"", "12", "12.9", "12.9.1"} { // NVIDIA's images set the last
		assert.True(t, t12.is(version), version)
	}
	for _, version := range []string{"1", "13", "12.8", "12.90", "2.9"} {
		assert.False(t, t12.is(version), version)
	}
}

func TestReadDriver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "version")
	for text, want := range map[string]int{
		"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version:  gcc version 12.3.0\n": 535,
		"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n":                        580,
		"something else\n": 0,
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		assert.Equal(t, want, readDriver(path), text)
	}
	assert.Zero(t, readDriver(path+"-absent"))
}

func TestCUDALibDir(t *testing.T) {
	for _, dir := range []string{"lib64", "targets/x86_64-linux/lib", "lib", "lib/x86_64-linux-gnu"} {
		root := t.TempDir()
		writeFiles(t, root, "bin/nvcc")
		kit := &toolkit{nvcc: filepath.Join(root, "bin/nvcc")}
		writeFiles(t, root, dir+"/libcudart_static.a")
		_, err := kit.libDir("amd64")
		require.ErrorContains(t, err, "libcublas.so")
		writeFiles(t, root, dir+"/libcublas.so")
		got, err := kit.libDir("amd64")
		require.NoError(t, err)
		assert.Equal(t, filepath.Join(root, dir), got)
	}
}

func writeFiles(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, nil, 0o755))
	}
}

// fakeNVCC answers the questions that are asked of nvcc before a build.
func fakeNVCC(t *testing.T, root, release string, archs ...string) {
	t.Helper()
	script := fmt.Sprintf("#!/bin/sh\ncase \"$1\" in\n--version) echo 'Cuda compilation tools, release %s, V%[1]s.86' ;;\n--list-gpu-arch) printf 'compute_%%s\\n' %s ;;\n*) exit 1 ;;\nesac\n", release, strings.Join(archs, " "))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "bin"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "bin/nvcc"), []byte(script), 0o755))
}

// fakeToolkit is a toolkit with which the miniature tree links; versioned gives
// the libraries the names that they have in the wheels.
func fakeToolkit(t *testing.T, root, release string, lib, suffix string) {
	t.Helper()
	fakeNVCC(t, root, release, "75", "90")
	source := filepath.Join(t.TempDir(), "cublas.c")
	require.NoError(t, os.WriteFile(source, []byte("int cublas_answer(void) { return 100; }\n"), 0o644))
	dir := filepath.Join(root, lib)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"libcublas.so" + suffix, "libcublasLt.so" + suffix, "libcudart.so" + suffix} {
		out, err := command(t, "gcc", "-shared", "-fPIC", "-Wl,-soname,"+name, source, "-o", filepath.Join(dir, name))
		require.NoError(t, err, out)
	}
	out, err := command(t, "ar", "rcs", filepath.Join(dir, "libcudart_static.a"))
	require.NoError(t, err, out)
}

func TestFindToolkit(t *testing.T) {
	dir := t.TempDir()
	for _, release := range []string{"11.8", "12.9", "13.0"} {
		fakeNVCC(t, filepath.Join(dir, release), release, "90")
	}
	writeFiles(t, dir, "broken/bin/nvcc")
	in := func(release string) string { return filepath.Join(dir, release) }
	path := os.Getenv("PATH")
	for _, test := range []struct{ name, cxx, home, path, version, want string }{
		{"none", "", "", "", "", ""},
		{"in PATH", "", "", "12.9", "", "12.9"},
		{"CUDA_HOME goes first", "", "11.8", "12.9", "", "11.8"},
		{"CUDACXX goes before it", "13.0", "11.8", "12.9", "", "13.0"},
		{"the version decides", "13.0", "11.8", "12.9", "12", "12.9"},
		{"no such version", "13.0", "11.8", "12.9", "12.4", ""},
		{"a broken one is passed over", "broken", "11.8", "", "", "11.8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range map[string]string{"CUDACXX": test.cxx, "CUDA_HOME": test.home, "CUDA_PATH": ""} {
				if value != "" {
					value = in(value)
					if name == "CUDACXX" {
						value += "/bin/nvcc"
					}
				}
				t.Setenv(name, value)
			}
			t.Setenv("PATH", path)
			if test.path != "" {
				t.Setenv("PATH", in(test.path)+"/bin:"+path)
			}
			var said strings.Builder
			a := &app{cuda: cudaAuto, cudaVersion: test.version, stderr: &said}
			got, err := a.findToolkit(t.Context())
			require.NoError(t, err)
			if test.want == "" {
				if got != nil { // this machine's own
					assert.NotContains(t, got.nvcc, dir)
					assert.Equal(t, test.version, "", "a toolkit of another version")
				}
				return
			}
			require.NotNil(t, got)
			assert.Equal(t, in(test.want)+"/bin/nvcc", got.nvcc)
			assert.Equal(t, test.want, got.version)
			assert.Equal(t, []string{"90"}, got.archs)
			if test.cxx == "broken" {
				assert.Contains(t, said.String(), "skipping "+in("broken"))
			}
		})
	}
}

// Going from the CPU to CUDA and back leaves nothing of the other behind, and
// compiles nothing twice.
func TestSwitchBetweenCPUAndCUDA(t *testing.T) {
	w := newWorld(t)
	w.clone("clone")
	w.must("install")
	cpu := program(t)
	require.Regexp(t, `^1 1 0\.0\.1 `, cpu)
	linkedCPU, err := os.ReadFile(linkFile)
	require.NoError(t, err)

	kit := filepath.Join(w.dir, "a toolkit")
	fakeToolkit(t, kit, "12.9", "lib64", "")
	t.Setenv("CUDA", "1")
	t.Setenv("CUDA_HOME", kit)
	w.must("install")
	cuda := program(t)
	assert.Regexp(t, `^101 1 0\.0\.1 `, cuda, "the answer is the CUDA library's")
	w.must("verify")
	linked, err := os.ReadFile(linkFile)
	require.NoError(t, err)
	assert.Contains(t, ldflags(t, linked), "libggml-cuda.a")

	built := w.compiled("")
	t.Setenv("CUDA_ARCHS", "90") // another library again
	w.must("install")
	assert.Regexp(t, `^101 1 0\.0\.1 `, program(t))
	assert.NotEqual(t, cuda, program(t))
	t.Setenv("CUDA_ARCHS", "")
	assert.Greater(t, w.compiled(""), built)

	built = w.compiled("")
	for range 2 {
		t.Setenv("CUDA", "0")
		w.must("install")
		assert.Equal(t, cpu, program(t))
		now, err := os.ReadFile(linkFile)
		require.NoError(t, err)
		assert.Equal(t, string(linkedCPU), string(now))
		t.Setenv("CUDA", "1")
		w.must("install")
		assert.Equal(t, cuda, program(t))
	}
	assert.Equal(t, built, w.compiled(""), "both are in the cache")

	fakeNVCC(t, kit, "12.8", "90") // another nvcc in the same place
	w.must("install")
	assert.NotEqual(t, cuda, program(t), "the key holds nvcc's version")
}

// In another module, too: the lines of one variant replace those of the other.
func TestEnvSwitchesBetweenCPUAndCUDA(t *testing.T) {
	w := newWorld(t)
	kit := filepath.Join(w.dir, "a toolkit")
	fakeToolkit(t, kit, "12.9", "lib64", "")
	cpu, _ := w.must("install")
	t.Setenv("CUDA", "1")
	t.Setenv("CUDA_HOME", kit)
	cuda, _ := w.must("install")
	require.Contains(t, cuda, "-lcublas")
	for line := range strings.Lines(cuda) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		t.Setenv(name, strings.Trim(value, "'"))
	}
	again, _ := w.must("env")
	assert.Equal(t, cuda, again)
	t.Setenv("CUDA", "0")
	back, _ := w.must("install")
	assert.Equal(t, cpu, back)
}

func TestCUDASmoke(t *testing.T) {
	for _, generator := range []string{"Ninja", "Unix Makefiles"} {
		t.Run(generator, func(t *testing.T) {
			w := newWorld(t)
			kit := filepath.Join(w.dir, "kit")
			fakeToolkit(t, kit, "13.0", "lib64", "")
			useGenerator(t, generator)
			code, _, stderr := w.llamacpp("cuda-smoke")
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, "set CUDA=wheels, or CUDA=1")

			t.Setenv("CUDA", "1")
			t.Setenv("CUDA_HOME", kit)
			w.must("cuda-smoke")
			assert.Equal(t, 2, w.compiled(""))
			assert.Equal(t, 1, w.compiled("scale.cu"))
			w.must("build")
			assert.Equal(t, sources+3, w.compiled(""), "the two are not compiled again")
		})
	}
}
