package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	llamacpp "github.com/lm-sandbox/lm-sandbox/third_party/llama.cpp"
)

var (
	avx2 = cpuInfo{"a", strings.Fields("fpu sse4_2 avx avx2 bmi2 fma f16c avx512f")}
	old  = cpuInfo{"b", strings.Fields("fpu sse4_2 avx")}
	a76  = cpuInfo{"c", strings.Fields("fp asimd asimdhp asimddp")}
	a53  = cpuInfo{"d", strings.Fields("fp asimd")}
)

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name   string
		app    app
		host   host
		want   llamacpp.Variant
		reason string // part of what is said
	}{
		{
			name: "AVX2", app: app{cuda: "auto"}, host: host{goarch: "amd64", cpu: avx2},
			want: llamacpp.Variant{}, reason: "portable x86-64 with AVX2",
		},
		{
			name: "no AVX2", app: app{cuda: "auto"}, host: host{goarch: "amd64", cpu: old},
			want: llamacpp.Variant{Native: true}, reason: "lacks avx2, bmi2, fma, f16c",
		},
		{
			name: "unknown processor", app: app{cuda: "auto"}, host: host{goarch: "amd64"},
			want: llamacpp.Variant{}, reason: "portable",
		},
		{
			name: "wished native", app: app{cuda: "auto", native: true}, host: host{goarch: "amd64", cpu: avx2},
			want: llamacpp.Variant{Native: true}, reason: "LLAMA_NATIVE=1",
		},
		{
			name: "arm64 with dot products", app: app{cuda: "auto"}, host: host{goos: "linux", goarch: "arm64", cpu: a76},
			want: llamacpp.Variant{ARMArch: "armv8.2-a+dotprod+fp16"}, reason: "armv8.2-a+dotprod+fp16",
		},
		{
			name: "arm64 without", app: app{cuda: "auto"}, host: host{goos: "linux", goarch: "arm64", cpu: a53},
			want: llamacpp.Variant{}, reason: "the compiler's default for arm64",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.app.choose(test.host)
			require.NoError(t, err)
			test.want.GOOS, test.want.GOARCH = test.host.goos, test.host.goarch
			assert.Equal(t, test.want, got.Variant)
			assert.Contains(t, strings.Join(got.reasons, "\n"), test.reason)
		})
	}
}

func TestKeyHoldsAllThatMatters(t *testing.T) {
	base := plan{choice: choice{Variant: llamacpp.Variant{GOOS: "linux", GOARCH: "amd64"}}, options: []string{"-DA=1"}, compiler: "gcc 12", host: host{cpu: avx2}}
	key := cacheKey("tree", base, nil)
	assert.Regexp(t, "^[0-9a-f]{16}$", key)
	assert.Equal(t, key, cacheKey("tree", base, nil))
	assert.NotEqual(t, key, cacheKey("another", base, nil))
	for name, change := range map[string]func(*plan){
		"option":       func(p *plan) { p.options = []string{"-DA=2"} },
		"compiler":     func(p *plan) { p.compiler = "gcc 13" },
		"architecture": func(p *plan) { p.GOARCH = "arm64" },
		"system":       func(p *plan) { p.GOOS = "darwin" },
	} {
		p := base
		change(&p)
		assert.NotEqual(t, key, cacheKey("tree", p, nil), name)
	}

	assert.NotEqual(t, key, cacheKey("tree", base, llamacpp.Edits), "an edit")

	other := base
	other.host.cpu = old
	assert.Equal(t, key, cacheKey("tree", other, nil), "the portable build is one for all processors")
	native, nativeOld := base, other
	native.Native, nativeOld.Native = true, true
	assert.NotEqual(t, cacheKey("tree", native, nil), cacheKey("tree", nativeOld, nil), "the native one is not")
}

func TestSettingsAreChecked(t *testing.T) {
	for name, value := range map[string]string{"CUDA": "yes", "CUDA_VERSION": "twelve", "LLAMA_NATIVE": "on"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			t.Setenv(name, value)
			code, _, stderr := w.llamacpp("build")
			assert.Equal(t, exitFailed, code)
			assert.Contains(t, stderr, name+" is \""+value+"\"")
		})
	}
	for _, args := range [][]string{nil, {"no-such"}, {"build", "x"}, {"peers"}} {
		var out, err bytes.Buffer
		assert.Equal(t, exitUsage, run(t.Context(), thePin, args, &out, &err))
		assert.Contains(t, err.String(), "usage: llamacpp")
		assert.Empty(t, out.String())
	}
}

func TestReadCPUInfo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpuinfo")
	text := "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: none\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	assert.Equal(t, cpuInfo{"Some CPU", []string{"fpu", "avx2", "fma"}}, readCPUInfo(path))
	assert.Equal(t, cpuInfo{}, readCPUInfo(path+"-absent"))
}
