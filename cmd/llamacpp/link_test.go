package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program never keeps a former library, or one library with another's headers,
// and nobody calls `go clean`.
func TestChangedLibraryRelinks(t *testing.T) {
	w := newWorld(t)
	w.clone("clone")
	w.must("install")
	first := program(t)
	require.Regexp(t, `^1 1 0\.0\.1 `+w.pin.tree, first)
	linkedFirst, err := os.ReadFile(linkFile)
	require.NoError(t, err)

	w.edit("ggml/include/ggml.h", "MINI_ANSWER 1", "MINI_ANSWER 2")
	w.must("install")
	assert.Regexp(t, `^2 2 0\.0\.1 `+w.pin.tree, program(t))

	// What was compiled for one key does not link with the library of another.
	linkedSecond, err := os.ReadFile(linkFile)
	require.NoError(t, err)
	mixed := strings.Replace(string(linkedFirst), ldflags(t, linkedFirst), ldflags(t, linkedSecond), 1)
	require.NoError(t, os.WriteFile(linkFile, []byte(mixed), 0o644))
	out, err := command(t, "go", "build", "-o", "run-me", "./llama/program")
	require.Error(t, err)
	assert.Contains(t, out, "undefined reference to `lm_native_")

	w.edit("ggml/include/ggml.h", "MINI_ANSWER 2", "MINI_ANSWER 1")
	built := w.compiled("")
	w.must("install")
	assert.Equal(t, first, program(t))
	assert.Equal(t, built, w.compiled(""), "the former library is still in the cache")

	t.Setenv("LLAMA_NATIVE", "1") // other options, same tree
	w.must("install")
	native := program(t)
	assert.Regexp(t, `^1 1 0\.0\.1 `+w.pin.tree, native)
	assert.NotEqual(t, first, native, "the stamp has another key")

	code, _, stderr := w.llamacpp("verify")
	assert.Zero(t, code, stderr)
	t.Setenv("LLAMA_NATIVE", "0")
	code, _, stderr = w.llamacpp("verify")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "links another library")
}

// ldflags returns the line of a link file that names the libraries.
func ldflags(t *testing.T, file []byte) string {
	t.Helper()
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "#cgo LDFLAGS:") {
			return line
		}
	}
	t.Fatal("no LDFLAGS")
	return ""
}

// In another module the printed lines do what the generated file does in a clone.
func TestImporterLinksByPrintedLines(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "an importer")
	unpack(t, "clone.txtar", dir, modulePath, "example.com/importer")
	t.Chdir(dir)
	t.Setenv("CGO_LDFLAGS", "-O1 -L/an/older/path")
	lines, _ := w.must("install")
	assert.NoFileExists(t, linkFile)
	again, _ := w.must("env")
	assert.Equal(t, lines, again)

	out, err := command(t, "sh", "-ec", lines+"go build -o run-me ./llama/program && ./run-me")
	require.NoError(t, err, out)
	assert.Regexp(t, `^1 1 0\.0\.1 `+w.pin.tree, out)
	assert.Contains(t, lines, "export CGO_LDFLAGS='-O1 -L/an/older/path ")
	assert.Contains(t, lines, "export CGO_CXXFLAGS='-O2 -g -std=c++17'")
}

func TestEnvReplacesFormerLines(t *testing.T) {
	w := newWorld(t)
	former, _ := w.must("install")
	w.edit("ggml/include/ggml.h", "MINI_ANSWER 1", "MINI_ANSWER 2")
	for line := range strings.Lines(former) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		t.Setenv(name, strings.Trim(value, "'"))
	}
	lines, _ := w.must("install")
	for line := range strings.Lines(lines) {
		assert.LessOrEqual(t, strings.Count(line, "libllama.a"), 1, line)
		assert.LessOrEqual(t, strings.Count(line, "LM_NATIVE_KEY"), 1, line)
		assert.LessOrEqual(t, strings.Count(line, "-lstdc++"), 1, line)
	}
}

func TestEnvWithoutLibraryNamesTheCommand(t *testing.T) {
	w := newWorld(t)
	for _, command := range []string{"env", "verify"} {
		code, stdout, stderr := w.llamacpp(command)
		assert.Equal(t, exitFailed, code)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, "run llamacpp install")
	}
}

// A user's own file in the place of a link is not removed.
func TestInstallSparesRealDirectories(t *testing.T) {
	w := newWorld(t)
	w.clone("clone")
	require.NoError(t, os.Mkdir(libraryLink, 0o755))
	code, _, stderr := w.llamacpp("install")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "is no symbolic link")
	assert.DirExists(t, libraryLink)
}

func TestCachePathThatCgoRefuses(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/tmp/it's", `/tmp/"x"`, "/tmp/$HOME", "/tmp/a;b", "relative"} {
		t.Setenv("XDG_CACHE_HOME", path)
		code, _, stderr := w.llamacpp("env")
		assert.Equal(t, exitFailed, code, path)
		assert.Contains(t, stderr, "XDG_CACHE_HOME", path)
	}
}

// The package that wraps llama.cpp names the command when there is no library.
func TestMissingLibraryNamesTheCommand(t *testing.T) {
	root, err := filepath.Abs(filepath.Join(testdata, "../../.."))
	require.NoError(t, err)
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	without := `{"Replace": {"` + filepath.Join(root, linkFile) + `": ""}}`
	require.NoError(t, os.WriteFile(overlay, []byte(without), 0o644))
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./"+filepath.Dir(linkFile))
	build.Dir = root
	out, err := build.CombinedOutput()
	require.Error(t, err)
	first := ""
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "error") {
			first = line
			break
		}
	}
	assert.Contains(t, first, "make native", string(out))
	assert.Contains(t, first, "go run "+modulePath+"/cmd/llamacpp@VERSION install")
}

// What was compiled for one library does not link with another's: our package
// refers to the key's symbol in a way that the compiler keeps.
func TestShimRefersToTheStamp(t *testing.T) {
	list := exec.CommandContext(t.Context(), "go", "list", "-export", "-f", "{{.Export}}", "./"+filepath.Dir(linkFile))
	list.Dir = filepath.Join(testdata, "../../..")
	var stderr strings.Builder
	list.Stderr = &stderr
	out, err := list.Output()
	require.NoError(t, err, stderr.String())
	archive, err := os.ReadFile(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	dir, err := os.Readlink(filepath.Join(list.Dir, libraryLink))
	require.NoError(t, err, "run make native")
	symbol := "lm_native_" + filepath.Base(dir)
	assert.True(t, slices.Contains(undefined(t, archive), symbol), "%s is not referred to", symbol)
}

// undefined returns the symbols that the objects of an ar archive leave open.
func undefined(t *testing.T, archive []byte) []string {
	t.Helper()
	const magic, headerSize = "!<arch>\n", 60
	require.Equal(t, magic, string(archive[:len(magic)]))
	var names []string
	for rest := archive[len(magic):]; len(rest) >= headerSize; {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		require.NoError(t, err)
		if f, err := elf.NewFile(bytes.NewReader(rest[headerSize : headerSize+size])); err == nil {
			symbols, err := f.Symbols()
			require.NoError(t, err)
			for _, s := range symbols {
				if s.Section == elf.SHN_UNDEF {
					names = append(names, s.Name)
				}
			}
		}
		rest = rest[headerSize+size+size%2:]
	}
	require.NotEmpty(t, names)
	return names
}

// The library that this clone links is the one its manifest describes.
func TestInstalledLibrary(t *testing.T) {
	root := filepath.Join(testdata, "../../..")
	dir, err := os.Readlink(filepath.Join(root, libraryLink))
	require.NoError(t, err, "run make native")
	a := &app{pin: thePin, cache: filepath.Dir(filepath.Dir(dir)), stderr: os.Stderr}
	lib, err := a.openLibrary(filepath.Base(dir))
	require.NoError(t, err)
	assert.Equal(t, dir, lib.dir)
	linked, err := os.ReadFile(filepath.Join(root, linkFile))
	require.NoError(t, err)
	assert.Equal(t, string(lib.goFile()), string(linked))
	if source, err := os.Readlink(filepath.Join(root, sourceLink)); err == nil {
		tree, err := treeHash(source)
		require.NoError(t, err)
		assert.Equal(t, thePin.tree, tree)
	}
}
