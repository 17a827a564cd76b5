package hub

import (
	"context"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/flock"
)

func TestPullOfPath(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "My Model.GGUF")
	require.NoError(t, os.WriteFile(good, fakeModel(1000, 1), 0o600))
	m, err := Pull(t.Context(), good, Options{Dir: filepath.Join(dir, "cache")})
	require.NoError(t, err)
	require.Equal(t, good, m.Path)
	require.Equal(t, "My Model", m.Name)
	require.Equal(t, int64(1000), m.Size)
	require.NoDirExists(t, filepath.Join(dir, "cache"))
	require.ErrorIs(t, Verify(t.Context(), m), ErrRef)

	t.Chdir(dir)
	m, err = Pull(t.Context(), "My Model.GGUF", Options{})
	require.NoError(t, err)
	require.Equal(t, "My Model.GGUF", m.Path)

	for name, want := range map[string]error{
		"":      ErrModelFormat,
		"GG":    ErrModelFormat,
		"<html": ErrModelFormat,
	} {
		bad := filepath.Join(dir, "bad.gguf")
		require.NoError(t, os.WriteFile(bad, []byte(name), 0o600))
		_, err := Pull(t.Context(), bad, Options{})
		require.ErrorIs(t, err, want)
		require.True(t, strings.HasPrefix(err.Error(), "hub: "), err)
	}
	_, err = Pull(t.Context(), dir, Options{})
	require.ErrorIs(t, err, ErrModelFormat)
	_, err = Pull(t.Context(), "/dev/zero", Options{})
	require.ErrorIs(t, err, ErrModelFormat)
	_, err = Pull(t.Context(), filepath.Join(dir, "absent.gguf"), Options{})
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestPulledModelIsFoundAgain(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	pull := func() Model {
		t.Helper()
		m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		return m
	}
	first := pull()
	require.Equal(t, first, pull())
	require.Len(t, o.requests(), 1)

	t.Run("touched: hashed again", func(t *testing.T) {
		require.NoError(t, os.Chtimes(first.Path, time.Time{}, time.Now().Add(-time.Hour)))
		_, err := List(Options{Dir: dir})
		require.ErrorContains(t, err, "changed")
		pull()
		require.Len(t, o.requests(), 1)
	})
	t.Run("damaged: fetched again", func(t *testing.T) {
		f, err := os.OpenFile(first.Path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0}, 10)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.ErrorIs(t, Verify(t.Context(), first), ErrChecksum)
		pull()
		require.NoError(t, Verify(t.Context(), first))
		require.Len(t, o.requests(), 2)
	})
	t.Run("removed: fetched again", func(t *testing.T) {
		require.NoError(t, os.Remove(first.Path))
		_, err := List(Options{Dir: dir})
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorIs(t, Verify(t.Context(), first), fs.ErrNotExist)
		pull()
		require.Len(t, o.requests(), 3)
	})
	t.Run("replaced by a link: fetched again", func(t *testing.T) {
		require.NoError(t, os.Remove(first.Path))
		require.NoError(t, os.Symlink("/etc/hostname", first.Path))
		pull()
		st, err := os.Lstat(first.Path)
		require.NoError(t, err)
		require.True(t, st.Mode().IsRegular())
		require.Len(t, o.requests(), 4)
	})
	for _, note := range []string{"", "{", "[]", "{}", `{"files":[{"name":"../../../../etc/hostname"}]}`, `{"files":[{"name":".."}]}`} {
		t.Run("note damaged: "+note, func(t *testing.T) {
			path := filepath.Join(filepath.Dir(first.Path), manifestName)
			before := len(o.requests())
			require.NoError(t, os.WriteFile(path, []byte(note), 0o600))
			list, err := List(Options{Dir: dir})
			require.ErrorContains(t, err, "pull the model again")
			require.Empty(t, list)
			pull() // a URL has no checksum, so the file is not believed
			require.Len(t, o.requests(), before+1)
		})
	}
}

func TestNoteThatLeadsElsewhere(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside.gguf")
	require.NoError(t, os.WriteFile(outside, fakeModel(1000, 1), 0o600))
	st, err := os.Stat(outside)
	require.NoError(t, err)
	for _, name := range []string{"../../outside.gguf", outside} {
		man := manifest{Ref: "x", Files: []manifestFile{{Name: name, Size: 1000, Modified: st.ModTime().UnixNano(), SHA256: sumOf(fakeModel(1000, 1))}}}
		model := filepath.Join(dir, "models", "x")
		require.NoError(t, os.MkdirAll(model, 0o755))
		require.NoError(t, man.save(model))
		list, err := List(Options{Dir: filepath.Join(dir, "models")})
		require.ErrorContains(t, err, "it names the file")
		require.Empty(t, list)
	}
}

func TestModelWithLostNoteIsHashedNotFetched(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
	m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(m.Path), manifestName)))
	before := len(h.requests())
	m, err = pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Len(t, h.requests(), before+1) // the list of files alone
}

func TestList(t *testing.T) {
	list, err := List(Options{Dir: filepath.Join(t.TempDir(), "absent")})
	require.NoError(t, err)
	require.Empty(t, list)

	dir := t.TempDir()
	o := newOrigin(t, fakeModel(modelSize, 1))
	b, err := pullFast(t.Context(), t, o.URL+"/b.gguf", Options{Dir: dir})
	require.NoError(t, err)
	a, err := pullFast(t.Context(), t, o.URL+"/a.gguf", Options{Dir: dir})
	require.NoError(t, err)
	// A pull that was cut short, and things that are not ours.
	o.fail(o.cut(1000), status(404, ""), status(404, ""))
	_, err = pullFast(t.Context(), t, o.URL+"/c.gguf", Options{Dir: dir})
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	list, err = List(Options{Dir: dir})
	require.NoError(t, err)
	require.Equal(t, []Model{a, b}, list)
	require.WithinDuration(t, time.Now(), a.Time, time.Minute)

	_, err = List(Options{Dir: filepath.Join(dir, "file")})
	require.Error(t, err)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	list, err = List(Options{})
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestCacheDirectory(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	for in, want := range map[string]string{"/x": "/x/lm-sandbox/models", "relative": "/home/someone/.cache/lm-sandbox/models", "": "/home/someone/.cache/lm-sandbox/models"} {
		t.Setenv("XDG_CACHE_HOME", in)
		got, err := cacheDir()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	_, err := Pull(t.Context(), "default", Options{})
	require.ErrorContains(t, err, "XDG_CACHE_HOME")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Pull(t.Context(), "default", Options{Dir: file})
	require.ErrorContains(t, err, "XDG_CACHE_HOME")
}

func TestProgress(t *testing.T) {
	body := fakeModel(4<<20, 1)
	o := newOrigin(t, body)
	o.fail(o.cut(1 << 20))
	var seen []Progress
	begin := time.Now()
	_, err := pullFast(t.Context(), t, o.url(), Options{Dir: t.TempDir(), Progress: func(p Progress) { seen = append(seen, p) }})
	require.NoError(t, err)
	most := 2 + int(time.Since(begin)/meterPause) // the first, the last, and one each pause
	require.LessOrEqual(t, len(seen), most)
	require.Equal(t, Progress{Ref: "test", Done: 4 << 20, Total: 4 << 20}, seen[len(seen)-1])
	for i, p := range seen {
		require.Equal(t, int64(4<<20), p.Total)
		require.True(t, i == 0 || p.Done > seen[i-1].Done)
	}
}

func TestConcurrentPullsFetchOnce(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			m, err := Pull(t.Context(), o.url(), Options{Dir: dir})
			if err != nil || m.SHA256 != sumOf(body) {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	var procs []*exec.Cmd
	for range 2 {
		procs = append(procs, startChild(t, o.url(), dir))
	}
	wg.Wait()
	for _, p := range procs {
		require.NoError(t, p.Wait())
	}
	require.Len(t, o.requests(), 1)
}

// startChild starts a process that pulls ref into dir.
func startChild(t *testing.T, ref, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+ref, "HUB_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	return cmd
}

func TestKilledPullIsResumed(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	o := newOrigin(t, body)
	sent := make(chan struct{})
	o.fail(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", "600000")
		_, _ = w.Write(body[:300_000])
		_ = http.NewResponseController(w).Flush()
		close(sent)
		<-r.Context().Done()
	})
	cmd := startChild(t, o.url(), dir)
	<-sent
	// The bytes are on their way: wait until the process has written some of them.
	require.Eventually(t, func() bool {
		parts, err := filepath.Glob(filepath.Join(dir, "*", "*.part"))
		if err != nil || len(parts) == 0 {
			return false
		}
		st, err := os.Stat(parts[0])
		return err == nil && st.Size() > 0
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())

	m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Regexp(t, `^bytes=[1-9]\d*-$`, o.ranges()[1])
}

func TestWaitForAnotherPullCanBeCancelled(t *testing.T) {
	dir := t.TempDir()
	o := newOrigin(t, fakeModel(1000, 1))
	r, err := parseRef(o.url())
	require.NoError(t, err)
	held := filepath.Join(dir, urlDir(r.url))
	require.NoError(t, os.MkdirAll(held, 0o755))
	unlock, err := flock.Lock(t.Context(), filepath.Join(held, lockName))
	require.NoError(t, err)
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Pull(ctx, o.url(), Options{Dir: dir})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, o.requests())
}
