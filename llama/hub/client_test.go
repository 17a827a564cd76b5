package hub

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func redirectTo(url string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url, http.StatusFound) }
}

func TestRedirects(t *testing.T) {
	body := fakeModel(1000, 1)
	good := newOrigin(t, body)

	t.Run("followed", func(t *testing.T) {
		dir := t.TempDir()
		o := newOrigin(t, nil, redirectTo("/elsewhere"), redirectTo(good.url()))
		m, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		require.Equal(t, o.url(), m.Source)
	})
	t.Run("without end", func(t *testing.T) {
		o := httptest.NewServer(redirectTo("/again"))
		defer o.Close()
		_, err := pullFast(t.Context(), t, o.URL+"/m.gguf", Options{Dir: t.TempDir()})
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "redirects")
	})
	t.Run("to plain http beyond loopback", func(t *testing.T) {
		o := newOrigin(t, nil, redirectTo("http://192.0.2.1/m.gguf"))
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: t.TempDir()})
		require.ErrorIs(t, err, ErrInsecure)
		require.Len(t, o.requests(), 1)
	})
	t.Run("to another scheme", func(t *testing.T) {
		o := newOrigin(t, nil, redirectTo("file:///etc/passwd"))
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: t.TempDir()})
		require.ErrorIs(t, err, ErrRef)
	})
	t.Run("from https to http", func(t *testing.T) {
		before := len(good.requests())
		o := httptest.NewTLSServer(redirectTo(good.url()))
		defer o.Close()
		_, err := pullFast(t.Context(), t, o.URL+"/m.gguf", Options{Dir: t.TempDir(), Client: o.Client()})
		require.ErrorIs(t, err, ErrInsecure)
		require.Len(t, good.requests(), before)
	})
	t.Run("the caller's rule holds too", func(t *testing.T) {
		c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return fmt.Errorf("no redirects: %w", ErrAccess) }}
		o := newOrigin(t, nil, redirectTo(good.url()), redirectTo(good.url()), redirectTo(good.url()), redirectTo(good.url()))
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: t.TempDir(), Client: c})
		require.ErrorIs(t, err, ErrAccess)
	})
}

func TestUntrustedCertificate(t *testing.T) {
	o := httptest.NewUnstartedServer(http.NotFoundHandler())
	o.Config.ErrorLog = log.New(io.Discard, "", 0) // it is told that the handshake failed
	o.StartTLS()
	defer o.Close()
	_, err := pullFast(t.Context(), t, o.URL+"/m.gguf", Options{Dir: t.TempDir()})
	require.ErrorIs(t, err, ErrInsecure)
}

func TestTokenStaysWithItsHost(t *testing.T) {
	t.Setenv("HF_TOKEN", "hf_secret\n")
	body := fakeModel(1000, 1)
	auth := func(r *http.Request) string { return r.Header.Get("Authorization") }

	t.Run("given to the hub", func(t *testing.T) {
		h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
		_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: t.TempDir(), Endpoint: h.URL})
		require.NoError(t, err)
		require.NotEmpty(t, h.requests())
		for _, r := range h.requests() {
			require.Equal(t, "Bearer hf_secret", auth(r))
		}
	})
	t.Run("not given to a store that the hub names, nor on the way back", func(t *testing.T) {
		h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
		// The store has the same host name and another port: another place nevertheless.
		store := newOrigin(t, nil, redirectTo(h.URL+"/back"))
		h.handle("/o/r/resolve/main/m.gguf", redirectTo(store.url()))
		h.handle("/back", raw(200, body))
		dir := t.TempDir()
		m, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir, Endpoint: h.URL})
		require.NoError(t, err)
		requireModel(t, dir, m, body)
		require.Len(t, store.requests(), 1)
		require.Empty(t, auth(store.requests()[0]))
		for _, r := range h.requests() {
			require.Equal(t, r.URL.Path != "/back", auth(r) != "", r.URL.Path)
		}
	})
	t.Run("not given to a URL", func(t *testing.T) {
		o := newOrigin(t, body)
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: t.TempDir(), Endpoint: o.URL})
		require.NoError(t, err)
		require.Empty(t, auth(o.requests()[0]))
	})
	t.Run("broken", func(t *testing.T) {
		t.Setenv("HF_TOKEN", "hf_secret\nHost: evil")
		h := newFakeHub(t, "o/r", map[string][]byte{"m.gguf": body})
		_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: t.TempDir(), Endpoint: h.URL})
		require.ErrorIs(t, err, ErrAccess)
		require.NotContains(t, err.Error(), "secret")
		require.Empty(t, h.requests())
	})
}

func TestHubEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "https://huggingface.co",
		"https://mirror.example/":       "https://mirror.example",
		"https://mirror.example/a/b//":  "https://mirror.example/a/b",
		"http://127.0.0.1:8080":         "http://127.0.0.1:8080",
		"http://[::1]:8080":             "http://[::1]:8080",
		"http://mirror.example":         "",
		"http://localhost.evil.example": "",
		"ftp://mirror.example":          "",
		"mirror.example":                "",
		"https://u:p@mirror.example":    "",
		"https://":                      "",
	} {
		got, err := hubEndpoint(in)
		require.Equal(t, want, got, in)
		require.Equal(t, want == "", err != nil, in)
		if err != nil {
			require.True(t, strings.Contains(err.Error(), "https"), err)
		}
	}
	t.Run("bad, but not needed", func(t *testing.T) {
		t.Setenv("HF_ENDPOINT", "http://mirror.example")
		x, dir := newTiny(t), t.TempDir()
		_, err := x.pull(t.Context(), t, Options{Dir: dir})
		require.ErrorIs(t, err, ErrPip)
		require.ErrorIs(t, err, ErrInsecure)
		_, err = pullFast(t.Context(), t, "hf:o/r", Options{Dir: dir})
		require.ErrorIs(t, err, ErrInsecure)
		x.script(t, "pip", x.works())
		m, err := x.pull(t.Context(), t, Options{Dir: dir})
		require.NoError(t, err)
		requireModel(t, dir, m, x.body)
	})
	t.Setenv("HF_ENDPOINT", "https://other.example")
	got, err := hubEndpoint("")
	require.NoError(t, err)
	require.Equal(t, "https://other.example", got)
}
