package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// git runs git without the user's settings.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=t", "-c", "user.email=t@localhost"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return strings.TrimSpace(string(out))
}

// repository makes a tagged git repository of the miniature tree.
func (w *world) repository() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "repository")
	require.NoError(w.t, os.CopyFS(dir, os.DirFS(w.src)))
	git(w.t, dir, "init", "--quiet")
	git(w.t, dir, "add", "--all", "--force")
	git(w.t, dir, "commit", "--quiet", "-m", "mini")
	git(w.t, dir, "tag", w.pin.tag)
	return dir
}

func TestTreeHashIsGits(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, os.Symlink("include/llama.h", filepath.Join(w.src, "link")))
	require.NoError(t, os.Symlink("no/such/file", filepath.Join(w.src, "dangling")))
	// Git sorts "a.b" < "a/" < "a0".
	for _, name := range []string{"a.b", "a/x", "a0", "größe"} {
		path := filepath.Join(w.src, "sort", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("a\r\nb\n"), 0o644))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(w.src, "empty/empty"), 0o755))
	got, err := treeHash(w.src)
	require.NoError(t, err)
	assert.Equal(t, git(t, w.repository(), "rev-parse", "HEAD^{tree}"), got)

	w.rehash()
	before := w.pin.tree
	require.NoError(t, os.Chmod(filepath.Join(w.src, "scripts/run.sh"), 0o644))
	w.rehash()
	assert.NotEqual(t, before, w.pin.tree, "the executable bit is part of a tree")

	_, err = treeHash(t.TempDir())
	assert.Error(t, err)
}

func TestFetchFromDirectory(t *testing.T) {
	for _, checkout := range []bool{false, true} {
		w := newWorld(t)
		if checkout {
			dir := w.repository()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "untracked.o"), nil, 0o644))
			t.Setenv("LLAMA_CPP_SRC", dir)
		}
		_, stderr := w.must("fetch")
		assert.Contains(t, stderr, "tree "+w.pin.tree+" verified")
		_, stderr = w.must("fetch")
		assert.Contains(t, stderr, "(verified)")
		assertNoLeftovers(t, w)
	}
}

func TestWrongHashStopsWithBothHashes(t *testing.T) {
	change := func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "include/llama.h"), []byte("changed"), 0o644))
	}
	check := func(t *testing.T, w *world, got string) {
		t.Helper()
		for _, command := range []string{"fetch", "build", "install"} {
			code, stdout, stderr := w.llamacpp(command)
			assert.Equal(t, exitFailed, code)
			assert.Empty(t, stdout)
			assert.Contains(t, stderr, "got  "+got)
			assert.Contains(t, stderr, "want "+w.pin.tree)
			assert.NotContains(t, stderr, "skipping")
		}
		assert.Zero(t, w.compiled(""))
		assertNoLeftovers(t, w)
	}
	t.Run("directory", func(t *testing.T) {
		w := newWorld(t)
		change(t, w.src)
		got, err := treeHash(w.src)
		require.NoError(t, err)
		check(t, w, got)
	})
	t.Run("checkout with a local change", func(t *testing.T) {
		w := newWorld(t)
		dir := w.repository()
		t.Setenv("LLAMA_CPP_SRC", dir)
		change(t, dir)
		got, err := treeHash(dir)
		require.NoError(t, err)
		check(t, w, got)
	})
	t.Run("git", func(t *testing.T) {
		w := newWorld(t)
		t.Setenv("LLAMA_CPP_SRC", "")
		change(t, w.src)
		w.pin.repository = "file://" + w.repository()
		got, err := treeHash(w.src)
		require.NoError(t, err)
		onlyPrograms(t, "go", "git", "sh")
		code, _, stderr := w.llamacpp("fetch")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "got  "+got)
		assert.Contains(t, stderr, "want "+w.pin.tree)
	})
	t.Run("not a directory", func(t *testing.T) {
		w := newWorld(t)
		t.Setenv("LLAMA_CPP_SRC", "/no/such/directory")
		code, _, stderr := w.llamacpp("fetch")
		assert.Equal(t, exitFailed, code)
		assert.Contains(t, stderr, "is no directory")
	})
}

func TestDamagedSourcesAreFetchedAgain(t *testing.T) {
	w := newWorld(t)
	w.must("fetch")
	file := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/source", w.pin.tree, "include/llama.h")
	require.NoError(t, os.WriteFile(file, []byte("damaged"), 0o644))
	code, _, _ := w.llamacpp("verify")
	assert.Equal(t, exitFailed, code)
	_, stderr := w.must("build")
	assert.Contains(t, stderr, "fetching the sources again")
	w.must("verify")
	assertNoLeftovers(t, w)
}

// registry is an npm registry on loopback with the one package of a world.
type registry struct {
	*httptest.Server
	archive []byte
	hold    atomic.Bool   // stop in the middle of the archive
	held    chan struct{} // one value per archive that was stopped
}

func newRegistry(t *testing.T, w *world) *registry {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("npm is not installed")
	}
	bundle := filepath.Join(w.dir, "bundle")
	git(t, w.repository(), "bundle", "create", "--quiet", bundle, "HEAD")
	data, err := os.ReadFile(bundle)
	require.NoError(t, err)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	tw := tar.NewWriter(z)
	for name, content := range map[string][]byte{
		"package/package.json": []byte(`{"name":"llama-mini","version":"1.0.0"}`),
		w.pin.npmBundle:        data,
	} {
		require.NoError(t, tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
		_, err := tw.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, z.Close())
	r := &registry{archive: b.Bytes(), held: make(chan struct{}, 8)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	user, global := filepath.Join(w.dir, "npmrc-user"), filepath.Join(w.dir, "npmrc-global")
	require.NoError(t, os.WriteFile(user, nil, 0o644))
	require.NoError(t, os.WriteFile(global, nil, 0o644))
	for name, value := range map[string]string{
		"npm_config_registry": r.URL, "npm_config_cache": filepath.Join(w.dir, "npm"), "npm_config_userconfig": user,
		"npm_config_globalconfig": global, "npm_config_update_notifier": "false", "LLAMA_CPP_SRC": "",
		"HTTP_PROXY": "", "http_proxy": "", "HTTPS_PROXY": "", "https_proxy": "", "npm_config_proxy": "", "npm_config_https_proxy": "",
	} {
		t.Setenv(name, value)
	}
	return r
}

func (r *registry) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	switch req.URL.Path {
	case "/llama-mini":
		s1, s512 := sha1.Sum(r.archive), sha512.Sum512(r.archive)
		_ = json.NewEncoder(rw).Encode(map[string]any{
			"name": "llama-mini", "dist-tags": map[string]string{"latest": "1.0.0"},
			"versions": map[string]any{"1.0.0": map[string]any{
				"name": "llama-mini", "version": "1.0.0",
				"dist": map[string]string{
					"tarball": r.URL + "/llama-mini.tgz", "shasum": hex.EncodeToString(s1[:]),
					"integrity": "sha512-" + base64.StdEncoding.EncodeToString(s512[:]),
				},
			}},
		})
	case "/llama-mini.tgz":
		if r.hold.Load() {
			rw.Header().Set("Content-Length", "1000000")
			_, _ = rw.Write(r.archive[:len(r.archive)/2])
			rw.(http.Flusher).Flush()
			r.held <- struct{}{}
			<-req.Context().Done()
			return
		}
		_, _ = rw.Write(r.archive)
	default:
		http.NotFound(rw, req)
	}
}

func TestFetchFromNPM(t *testing.T) {
	w := newWorld(t)
	newRegistry(t, w)
	_, stderr := w.must("fetch")
	assert.Contains(t, stderr, "from the npm package "+w.pin.npmPackage)
	assertNoLeftovers(t, w)
}

func TestInterruptedFetchRecovers(t *testing.T) {
	w := newWorld(t)
	r := newRegistry(t, w)
	r.hold.Store(true)
	cmd, _ := w.start("fetch")
	select {
	case <-r.held:
	case <-time.After(patience):
		t.Fatal("npm does not come for the archive")
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "lm-sandbox/llama.cpp/source/.tmp-*"))
	require.NoError(t, err)
	assert.Len(t, left, 1, "the killed fetch left its scratch directory")

	r.hold.Store(false)
	w.must("fetch")
	assertNoLeftovers(t, w)
}

func TestWrongPackageStops(t *testing.T) {
	w := newWorld(t)
	newRegistry(t, w)
	want := w.pin.tree
	w.pin.tree = strings.Repeat("0", 40)
	code, _, stderr := w.llamacpp("fetch")
	assert.Equal(t, exitFailed, code)
	assert.Contains(t, stderr, "got  "+want)
	assert.NotContains(t, stderr, "skipping", "a wrong tree is no reason to try elsewhere")
}

func TestSourcesThatCannotBeHadAreSkipped(t *testing.T) {
	w := newWorld(t)
	newRegistry(t, w)
	w.pin.npmPackage = "no-such-package@1.0.0"
	code, _, stderr := w.llamacpp("fetch")
	assert.Equal(t, exitFailed, code)
	assert.Regexp(t, `(?m)^llamacpp: skipping the npm package no-such-package@1\.0\.0: .*404.*$`, stderr)
	assert.Regexp(t, `(?m)^llamacpp: skipping file://.*/none: .*does not.*$`, stderr)
	assert.Contains(t, stderr, "set LLAMA_CPP_SRC")
	assertNoLeftovers(t, w)

	w.pin.repository = "file://" + filepath.Join(w.dir, "repository")
	_, stderr = w.must("fetch")
	assert.Contains(t, stderr, "from file://")

	onlyPrograms(t, "go", "gcc", "g++", "git", "sh")
	require.NoError(t, os.RemoveAll(os.Getenv("XDG_CACHE_HOME")))
	_, stderr = w.must("fetch")
	assert.Contains(t, stderr, "npm is not installed")
}
