package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeModel is n bytes that begin as a GGUF file does; the seed tells them apart.
func fakeModel(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = r.Read(b)
	copy(b, magic)
	return b
}

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// origin is a file server on loopback that misbehaves as told: each request takes the next of the faults; when they are used
// up, the file is served well.
type origin struct {
	*httptest.Server
	mu     sync.Mutex
	body   []byte
	etag   string
	faults []http.HandlerFunc
	seen   []*http.Request
}

func newOrigin(t *testing.T, body []byte, faults ...http.HandlerFunc) *origin {
	o := &origin{body: body, etag: `"one"`, faults: faults}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) url() string { return o.URL + "/dir/model.gguf" }

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.seen = append(o.seen, r.Clone(context.Background()))
	var fault http.HandlerFunc
	if len(o.faults) > 0 {
		fault, o.faults = o.faults[0], o.faults[1:]
	}
	o.mu.Unlock()
	if fault != nil {
		fault(w, r)
		return
	}
	o.good(w, r)
}

func (o *origin) good(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	body, etag := o.body, o.etag
	o.mu.Unlock()
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(w, r, "model.gguf", time.Time{}, bytes.NewReader(body))
}

// fail makes the next requests meet faults.
func (o *origin) fail(faults ...http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = faults
}

// change puts another file under the same address.
func (o *origin) change(body []byte, etag string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.body, o.etag = body, etag
}

func (o *origin) requests() []*http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen
}

// ranges lists the Range headers of the requests so far.
func (o *origin) ranges() []string {
	var out []string
	for _, r := range o.requests() {
		out = append(out, r.Header.Get("Range"))
	}
	return out
}

// cut serves the whole file honestly, but breaks the connection after n bytes of it.
func (o *origin) cut(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o.good(&cutWriter{w, n}, r)
	}
}

// cutWriter lets n bytes through.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	if _, err := w.ResponseWriter.Write(b[:n]); err != nil {
		return 0, err
	}
	if w.left -= n; w.left == 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// status answers with a code and a Retry-After, "" = none.
func status(code int, after string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		http.Error(w, "<html>no</html>", code)
	}
}

// raw answers with a code, header lines (key, value, …) and a body.
func raw(code int, body []byte, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		if w.Header().Get("Content-Length") == "" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		}
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}
}

// quick is the policy of the tests: the same rules, without the waiting.
var quick = retryPolicy{tries: 4, pause: time.Millisecond, longest: 4 * time.Millisecond, patience: 2 * time.Second, stall: 30 * time.Second, something: 1}

func testPuller(t *testing.T, o Options) *puller {
	t.Helper()
	p, err := newPuller(o, "test")
	require.NoError(t, err)
	p.retry = quick
	t.Cleanup(p.close)
	return p
}

// pullFast is Pull with the quick policy.
func pullFast(ctx context.Context, t *testing.T, ref string, o Options) (Model, error) {
	t.Helper()
	r, err := parseRef(ref)
	require.NoError(t, err)
	return testPuller(t, o).pull(ctx, r)
}

// requireModel checks that m is body, in the cache and in the list.
func requireModel(t *testing.T, dir string, m Model, body []byte) {
	t.Helper()
	got, err := os.ReadFile(m.Path)
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, got), "the file differs: %d bytes, want %d", len(got), len(body))
	require.Equal(t, sumOf(body), m.SHA256)
	require.Equal(t, int64(len(body)), m.Size)
	list, err := List(Options{Dir: dir})
	require.NoError(t, err)
	require.Contains(t, list, m)
	require.Equal(t, []string{lockName, manifestName, filepath.Base(m.Path)}, namesIn(t, filepath.Dir(m.Path)))
}

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	// ReadDir sorts by bytes; the tests want the lock and the note first.
	for i, n := range out {
		if n == manifestName && i > 1 {
			copy(out[2:i+1], out[1:i])
			out[1] = manifestName
		}
	}
	return out
}

// leftIn lists what lies below dir apart from locks.
func leftIn(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != lockName {
			out = append(out, d.Name())
		}
		return err
	}))
	return out
}
