package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeHub answers as a model hub does: a paged list of files, and the files.
type fakeHub struct {
	*httptest.Server
	mu       sync.Mutex
	repo     string
	files    map[string][]byte
	entries  []map[string]any
	pageSize int
	special  map[string]http.HandlerFunc // by path
	seen     []*http.Request
}

func newFakeHub(t *testing.T, repo string, files map[string][]byte) *fakeHub {
	h := &fakeHub{repo: repo, files: files, pageSize: 2, special: map[string]http.HandlerFunc{}}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		h.entries = append(h.entries, map[string]any{
			"type": "file", "path": path, "size": len(files[path]), "oid": "0123456789012345678901234567890123456789",
			"lfs": map[string]any{"oid": sumOf(files[path]), "size": len(files[path]), "pointerSize": 134},
		})
	}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *fakeHub) handle(path string, f http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.special[path] = f
}

func (h *fakeHub) requests() []*http.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.seen = append(h.seen, r)
	special := h.special[r.URL.Path]
	h.mu.Unlock()
	if special != nil {
		special(w, r)
		return
	}
	if r.URL.Path == "/api/models/"+h.repo+"/tree/main" {
		h.list(w, r)
		return
	}
	file, ok := strings.CutPrefix(r.URL.Path, "/"+h.repo+"/resolve/main/")
	body, known := h.files[file]
	if !ok || !known {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+sumOf(body)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (h *fakeHub) list(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("recursive") != "true" {
		http.Error(w, "only the top", http.StatusBadRequest)
		return
	}
	var from int
	_, _ = fmt.Sscan(r.URL.Query().Get("cursor"), &from)
	to := min(from+h.pageSize, len(h.entries))
	if to < len(h.entries) {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&cursor=%d>; rel="next"`, h.URL, r.URL.Path, to))
	}
	_ = json.NewEncoder(w).Encode(append([]map[string]any{{"type": "directory", "path": "x.gguf"}}, h.entries[from:to]...))
}

func TestHubModel(t *testing.T) {
	files := map[string][]byte{
		"README.md":             []byte("hello"),
		"a model-Q4_K_M.gguf":   fakeModel(50_000, 1),
		"a model-Q8_0.gguf":     fakeModel(60_000, 2),
		"mmproj-model-f16.gguf": fakeModel(1_000, 3),
		"sub/m+f-F16.gguf":      fakeModel(70_000, 4),
	}
	h := newFakeHub(t, "Own-er/re.po_1", files)
	for ref, want := range map[string]string{
		"hf:Own-er/re.po_1":                       "a model-Q4_K_M.gguf",
		"hf:Own-er/re.po_1:q8_0":                  "a model-Q8_0.gguf",
		"hf:Own-er/re.po_1:F16":                   "sub/m+f-F16.gguf",
		"hf:Own-er/re.po_1:mmproj-model-f16.gguf": "mmproj-model-f16.gguf",
	} {
		t.Run(ref, func(t *testing.T) {
			dir := t.TempDir()
			m, err := pullFast(t.Context(), t, ref, Options{Dir: dir, Endpoint: h.URL})
			require.NoError(t, err)
			requireModel(t, dir, m, files[want])
			require.Equal(t, "hf:Own-er/re.po_1:"+want, m.Ref)
			require.True(t, strings.HasPrefix(m.Source, h.URL+"/Own-er/re.po_1/resolve/main/"), m.Source)

			// From now on neither reference needs the hub.
			before := len(h.requests())
			for _, r := range []string{ref, m.Ref} {
				again, err := pullFast(t.Context(), t, r, Options{Dir: dir, Endpoint: h.URL})
				require.NoError(t, err)
				require.Equal(t, m, again)
			}
			require.Len(t, h.requests(), before)
		})
	}
	t.Run("two references, one file", func(t *testing.T) {
		dir := t.TempDir()
		a, err := pullFast(t.Context(), t, "hf:Own-er/re.po_1", Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		b, err := pullFast(t.Context(), t, "hf:Own-er/re.po_1:Q4_K_M", Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		require.Equal(t, a, b)
		list, err := List(Options{Dir: dir})
		require.NoError(t, err)
		require.Len(t, list, 1)
	})
}

func TestHubSplitModel(t *testing.T) {
	files := map[string][]byte{"other-Q8_0.gguf": fakeModel(9, 9)}
	var all int64
	for i := 1; i <= 3; i++ {
		b := fakeModel(40_000+i, uint64(i))
		files[fmt.Sprintf("Q4_K_M/big-Q4_K_M-%05d-of-00003.gguf", i)] = b
		all += int64(len(b))
	}
	h := newFakeHub(t, "o/r", files)
	dir := t.TempDir()
	// The first try ends in the second part; what is whole is not fetched again.
	second := "/o/r/resolve/main/Q4_K_M/big-Q4_K_M-00002-of-00003.gguf"
	h.handle(second, status(http.StatusNotFound, ""))
	_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
	require.ErrorIs(t, err, ErrNotFound)
	h.handle(second, nil)
	var last Progress
	m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL, Progress: func(p Progress) { last = p }})
	require.NoError(t, err)
	require.Equal(t, Progress{Ref: "test", Done: all, Total: all}, last)
	require.Equal(t, all, m.Size)
	require.Len(t, m.Files, 3)
	require.Equal(t, m.Files[0].Path, m.Path)
	for i, f := range m.Files {
		name := fmt.Sprintf("big-Q4_K_M-%05d-of-00003.gguf", i+1)
		require.Equal(t, filepath.Join(filepath.Dir(m.Path), name), f.Path)
		got, err := os.ReadFile(f.Path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(files["Q4_K_M/"+name], got))
	}
	first := 0
	for _, r := range h.requests() {
		if strings.HasSuffix(r.URL.Path, "-00001-of-00003.gguf") {
			first++
		}
	}
	require.Equal(t, 1, first)
	require.NoError(t, Verify(t.Context(), m))
}

func TestSplitModelByURL(t *testing.T) {
	a, b := fakeModel(1000, 1), fakeModel(2000, 2)
	h := newFakeHub(t, "o/r", map[string][]byte{"m-00001-of-00002.gguf": a, "m-00002-of-00002.gguf": b})
	m, err := pullFast(t.Context(), t, h.URL+"/o/r/resolve/main/m-00001-of-00002.gguf?download=true", Options{Dir: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, int64(3000), m.Size)
	require.Equal(t, []string{sumOf(a), sumOf(b)}, []string{m.Files[0].SHA256, m.Files[1].SHA256})
	for _, name := range []string{"m-00002-of-00002.gguf", "m-00001-of-09999.gguf", "m-00001-of-00000.gguf"} {
		_, err := pullFast(t.Context(), t, h.URL+"/"+name, Options{Dir: t.TempDir()})
		require.ErrorIs(t, err, ErrRef, name)
	}
}

func TestHubChecksum(t *testing.T) {
	body := fakeModel(modelSize, 1)
	wrong := fakeModel(modelSize, 2)
	path := "/o/r/resolve/main/m.gguf"
	for name, c := range map[string]http.HandlerFunc{
		"other bytes":    raw(200, wrong),
		"too few bytes":  raw(200, wrong[:1000]),
		"too many bytes": raw(200, append(wrong, 'x')),
		"too many bytes, unsaid": func(w http.ResponseWriter, _ *http.Request) {
			for range 3 {
				_, _ = w.Write(body)
				_ = http.NewResponseController(w).Flush()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
			h.handle(path, c)
			_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
			require.ErrorIs(t, err, ErrChecksum)
			var ce *ChecksumError
			require.ErrorAs(t, err, &ce)
			require.Equal(t, h.URL+path, ce.File)
			require.Empty(t, leftIn(t, dir))

			h.handle(path, nil)
			m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
			require.NoError(t, err)
			requireModel(t, dir, m, body)
		})
	}
	t.Run("without end", func(t *testing.T) {
		h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
		stopped := make(chan bool, 1)
		h.handle(path, func(w http.ResponseWriter, _ *http.Request) {
			var err error
			for range 100 {
				if _, err = w.Write(body); err != nil {
					break
				}
			}
			stopped <- err != nil
		})
		_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: t.TempDir(), Endpoint: h.URL})
		require.ErrorIs(t, err, ErrChecksum)
		require.True(t, <-stopped, "all was read")
	})
	t.Run("a damaged part costs one new start", func(t *testing.T) {
		dir := t.TempDir()
		h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
		o := &origin{body: body, etag: `"` + sumOf(body) + `"`} // the tag of h, so that the part is continued
		h.handle(path, func(w http.ResponseWriter, r *http.Request) { o.cut(50_000)(w, r) })
		_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err) // 12 cuts, each bringing something

		h.handle(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				panic(http.ErrAbortHandler)
			}
			o.cut(50_000)(w, r)
		})
		dir = t.TempDir()
		_, err = pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
		require.ErrorIs(t, err, ErrUnavailable)
		parts, err := filepath.Glob(filepath.Join(dir, "*", "*.part"))
		require.NoError(t, err)
		require.Len(t, parts, 1)
		f, err := os.OpenFile(parts[0], os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("damage"), 1000)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		h.handle(path, nil)
		m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
	})
}

func TestHubListFaults(t *testing.T) {
	api := "/api/models/o/r/tree/main"
	entry := func(path string) []byte {
		b, err := json.Marshal([]map[string]any{{"type": "file", "path": path, "size": 5}})
		require.NoError(t, err)
		return b
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"absent":        {status(404, ""), ErrNotFound},
		"private":       {status(401, ""), ErrAccess},
		"gated":         {status(403, ""), ErrAccess},
		"down":          {status(503, ""), ErrUnavailable},
		"HTML":          {raw(200, []byte("<html>")), ErrUnavailable},
		"another JSON":  {raw(200, []byte(`{"error":"x"}`)), ErrUnavailable},
		"empty":         {raw(200, []byte(`[]`)), ErrNotFound},
		"climbing path": {raw(200, entry("../../x.gguf")), ErrNotFound},
		"rooted path":   {raw(200, entry("/etc/x.gguf")), ErrNotFound},
		"escape codes":  {raw(200, entry("\x1b[2J.gguf")), ErrNotFound},
		"no end":        {raw(200, []byte(`[]`), "Link", `<?cursor=x>; rel="next"`), ErrUnavailable},
		"another host":  {raw(200, []byte(`[]`), "Link", `<https://evil.example/list>; rel="next"`), ErrInsecure},
		"bad link":      {raw(200, []byte(`[]`), "Link", `<http://[>; rel="next"`), ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHub(t, "o/r", nil)
			h.handle(api, c.answer)
			dir := t.TempDir()
			_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
			require.ErrorIs(t, err, c.want)
			require.Empty(t, leftIn(t, dir))
			for _, r := range h.requests() {
				require.Equal(t, api, r.URL.Path, "no file is asked for")
			}
		})
	}
}

func TestHubPartOfAnotherHubIsNotContinued(t *testing.T) {
	body, dir := fakeModel(modelSize, 1), t.TempDir()
	a := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
	a.handle("/o/r/resolve/main/m.gguf", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			panic(http.ErrAbortHandler)
		}
		(&origin{body: body, etag: `"x"`}).cut(50_000)(w, r)
	})
	_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: a.URL})
	require.ErrorIs(t, err, ErrUnavailable)
	b := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
	m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: b.URL})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	for _, r := range b.requests() {
		require.Empty(t, r.Header.Get("Range"))
	}
}

func TestHubListRetries(t *testing.T) {
	body := fakeModel(100, 1)
	h := newFakeHub(t, "o/r", map[string][]byte{"a.txt": nil, "b.txt": nil, "m.gguf": body})
	var once sync.Once
	h.handle("/api/models/o/r/tree/main", func(w http.ResponseWriter, r *http.Request) {
		failed := false
		once.Do(func() { failed = true })
		if failed {
			panic(http.ErrAbortHandler)
		}
		h.list(w, r)
	})
	dir := t.TempDir()
	m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
}
