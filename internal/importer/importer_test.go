//go:build long

package importer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/module"
)

const modulePath = "github.com/lm-sandbox/lm-sandbox"

// importer is a new module, with a module cache of its own, that knows this repository by a GOPROXY alone.
type importer struct {
	t       *testing.T
	dir     string
	version string
	env     []string
	shell   []string // what the commands' bash is run by
}

// newImporter packs the clone without the files in omit and starts a module with testdata/NAME.go as its main.go.
func newImporter(t *testing.T, name string, omit ...string) *importer {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	tmp := t.TempDir()
	proxy, modcache := filepath.Join(tmp, "proxy"), filepath.Join(tmp, "mod")
	im := &importer{t: t, dir: filepath.Join(tmp, "new"), version: "v0.0.1-importer"}
	require.NoError(t, pack(t.Context(), root, proxy, module.Version{Path: modulePath, Version: im.version}, omit...))

	// Other modules come from what is downloaded already, else from where this machine gets them. Their sums were checked
	// when they were downloaded.
	im.env = append(os.Environ(),
		"GOPROXY=file://"+proxy+",file://"+filepath.Join(goEnv(t, "GOMODCACHE"), "cache/download")+","+goEnv(t, "GOPROXY"),
		"GOMODCACHE="+modcache, "GOSUMDB=off", "GOFLAGS=-trimpath", "GOWORK=off", "GOTOOLCHAIN=local",
		"OMP_WAIT_POLICY=passive", "CGO_CFLAGS=", "CGO_CPPFLAGS=", "CGO_CXXFLAGS=", "CGO_LDFLAGS=")
	t.Cleanup(func() { // a module cache is read-only
		_ = filepath.WalkDir(modcache, func(path string, d os.DirEntry, _ error) error {
			if d != nil && d.IsDir() {
				return os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	program, err := os.ReadFile(filepath.Join("testdata", name+".go"))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(im.dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(im.dir, "main.go"), program, 0o644))
	im.run("go mod init example.org/new")
	im.run("go get " + modulePath + "@" + im.version)
	im.run("go mod tidy")
	return im
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

// try runs a line of bash in the module.
func (im *importer) try(line string) (string, error) {
	im.t.Helper()
	ctx, cancel := context.WithTimeout(im.t.Context(), 20*time.Minute)
	defer cancel()
	argv := append(slices.Clone(im.shell), "bash", "-euo", "pipefail", "-c", line)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = im.dir, im.env
	start := time.Now()
	out, err := cmd.CombinedOutput()
	im.t.Logf("%6.1f s  %s", time.Since(start).Seconds(), line)
	return string(out), err
}

func (im *importer) run(line string) string {
	im.t.Helper()
	out, err := im.try(line)
	require.NoError(im.t, err, "%s\n%s", line, out)
	return out
}

// install runs the one command that README names, and keeps what it exports.
func (im *importer) install() {
	im.t.Helper()
	command := "go run " + modulePath + "/cmd/llamacpp@" + im.version + " install"
	exports := im.run(`exports=$(` + command + `); eval "$exports"; env | grep ^CGO_ >cgo.env`)
	data, err := os.ReadFile(filepath.Join(im.dir, "cgo.env"))
	require.NoError(im.t, err)
	require.Contains(im.t, string(data), "-DLM_NATIVE_KEY=", "%s", exports)
	im.env = append(im.env, strings.Split(strings.TrimSpace(string(data)), "\n")...)
}

// hide gives the importer a PATH without some programs and an empty cache.
func (im *importer) hide(programs ...string) {
	im.t.Helper()
	bin := im.t.TempDir()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !slices.ContainsFunc(programs, func(p string) bool { ok, _ := filepath.Match(p, e.Name()); return ok }) {
				_ = os.Symlink(filepath.Join(dir, e.Name()), filepath.Join(bin, e.Name())) // the first of a name wins
			}
		}
	}
	im.env = append(im.env, "PATH="+bin, "XDG_CACHE_HOME="+im.t.TempDir(), "GOCACHE="+goEnv(im.t, "GOCACHE"))
	for _, p := range programs {
		if !strings.ContainsAny(p, "*?") {
			_, err := im.try("command -v " + p)
			require.Error(im.t, err, "%s is still in PATH", p)
		}
	}
}

// deps fails for packages outside the standard library that are not in the list.
func (im *importer) deps(allowed ...string) {
	im.t.Helper()
	for line := range strings.Lines(im.run(`go list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' .`)) {
		p := strings.TrimSpace(line)
		require.True(im.t, p == "example.org/new" || slices.Contains(allowed, strings.TrimPrefix(p, modulePath+"/")), "the program depends on %s", p)
	}
}

var (
	sandboxDeps = []string{
		"sandbox", "sandbox/internal/cgroup", "sandbox/internal/helper", "sandbox/internal/proto", "sandbox/internal/proxy", "sandbox/internal/rootfs",
		"sandbox/internal/seccomp",
		"golang.org/x/sys/unix",
		"golang.org/x/net/idna", "golang.org/x/text/transform", "golang.org/x/text/unicode/bidi", "golang.org/x/text/secure/bidirule", "golang.org/x/text/unicode/norm",
	}
	gpuDeps    = []string{"gpu", "github.com/NVIDIA/go-nvml/pkg/dl", "github.com/NVIDIA/go-nvml/pkg/nvml"}
	engineDeps = []string{
		"llama", "llama/engine", "llama/hub", "llama/internal/flock", "llama/internal/native", "third_party/llama.cpp",
		"github.com/google/jsonschema-go/jsonschema", "golang.org/x/sys/unix",
	}
)

// compilers are what neither sandbox nor gpu may need; gpu is cgo and needs the C compiler.
var (
	buildTools = []string{"cmake", "ninja", "make", "npm", "pip", "pip3", "nvcc"}
	compilers  = []string{"gcc", "g++", "cc", "c++", "clang", "clang++", "gcc-*", "g++-*", "clang-*", "*-gcc*", "*-g++*"}
)

func TestWhole(t *testing.T) {
	im := newImporter(t, "whole")
	im.deps(slices.Concat(sandboxDeps, gpuDeps, engineDeps)...)

	_, err := im.try("go build -o program .")
	require.Error(t, err, "without llama.cpp it cannot be built")
	out, _ := im.try("go build -o program . 2>&1")
	require.Contains(t, out, "cmd/llamacpp@VERSION install", "the error names the command")

	im.install()
	im.run("go build -o program .")
	answer := im.run("./program")
	require.Contains(t, answer, "THE CAPITAL OF FRANCE IS PARIS")
	require.Contains(t, answer, "gpu: ")

	t.Run("vendor", func(t *testing.T) {
		im.run("go mod vendor")
		im.run("go build -mod=vendor -o vendored .")
		require.Equal(t, answer, im.run("./vendored"))
		require.NoError(t, os.RemoveAll(filepath.Join(im.dir, "vendor")))
	})
	t.Run("read-only module cache", func(t *testing.T) {
		im.readOnly()
		im.install()
		_, err := im.try(`touch "$GOMODCACHE/cache/x"`)
		require.Error(t, err)
		im.run("go build -o readonly .")
		require.Equal(t, answer, im.run("./readonly"))
	})
}

// readOnly makes every later command see a module cache that nobody can write. Permissions do not stop root: it gets a
// read-only mount in a namespace of its own.
func (im *importer) readOnly() {
	im.run(`chmod -R a-w "$GOMODCACHE"`)
	if os.Geteuid() == 0 {
		im.shell = []string{
			"unshare", "--mount", "bash", "-euc",
			`mount --bind "$GOMODCACHE" "$GOMODCACHE"; mount -o remount,bind,ro "$GOMODCACHE"; exec "$@"`, "bash",
		}
	}
}

func TestSandboxAlone(t *testing.T) {
	im := newImporter(t, "sandbox")
	im.hide(slices.Concat(buildTools, compilers)...)
	im.deps(sandboxDeps...)
	im.run("go build -o program .")
	require.Equal(t, "uid 1000\n", im.run("./program"))
}

func TestGPUAlone(t *testing.T) {
	im := newImporter(t, "gpu")
	im.hide(buildTools...)
	im.deps(gpuDeps...)
	im.run("go build -o program .")
	require.Contains(t, im.run("./program"), "gpu: ")
}

// The test above can fail: without a file that the build needs, as if git did not track it, there is no program.
func TestMissingFile(t *testing.T) {
	for _, tt := range []struct{ program, file string }{
		{"sandbox", "sandbox/internal/helper/helper_" + runtime.GOARCH},
		{"gpu", "gpu/device.go"},
	} {
		t.Run(tt.file, func(t *testing.T) {
			im := newImporter(t, tt.program, tt.file)
			_, err := im.try("go build -o program .")
			require.Error(t, err)
		})
	}
}
