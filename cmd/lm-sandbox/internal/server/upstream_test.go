package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeUpstream is an OpenAI-compatible server on loopback that records what it is asked.
type fakeUpstream struct {
	*httptest.Server
	models http.HandlerFunc
	chat   http.HandlerFunc

	mu   sync.Mutex
	seen []string
}

func newFakeUpstream(t *testing.T) *fakeUpstream {
	t.Helper()
	f := &fakeUpstream{
		models: says(200, `{"object":"list","data":[{"id":"first"},{"id":"second"}]}`),
		chat:   says(200, `{"id":"x","choices":[{"message":{"content":"<hé>"}}]}`),
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		f.mu.Lock()
		f.seen = append(f.seen, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		f.mu.Unlock()
		switch r.URL.Path {
		case "/v1/models":
			f.models(w, r)
		case "/v1/chat/completions", "/odd":
			f.chat(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeUpstream) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func (f *fakeUpstream) serve(t *testing.T, o Options) string {
	t.Helper()
	if o.OllamaURL == "" {
		o.OllamaURL = f.URL + "/v1/chat/completions"
	}
	return start(t, newServer(t, o)) + "/ollama/"
}

func TestOllama(t *testing.T) {
	t.Run("first model", func(t *testing.T) {
		f := newFakeUpstream(t)
		got := post(t, f.serve(t, Options{}), `{"cmd":"say <b>"}`)
		require.Equal(t, 200, got.status, got.body)
		assert.Equal(t, `{"id":"x","choices":[{"message":{"content":"<hé>"}}]}`, got.body, "as the upstream sent it")
		assert.Equal(t, "application/json; charset=utf-8", got.header.Get("Content-Type"))
		assert.Equal(t, []string{
			"GET /v1/models ",
			`POST /v1/chat/completions {"model":"first","messages":[{"role":"user","content":"say <b>"}],"stream":false}` + "\n",
		}, f.requests())
	})
	t.Run("given model", func(t *testing.T) {
		f := newFakeUpstream(t)
		got := post(t, f.serve(t, Options{OllamaModel: "mine"}), `{"cmd":"hi"}`)
		require.Equal(t, 200, got.status)
		require.Len(t, f.requests(), 1)
		assert.Contains(t, f.requests()[0], `"model":"mine"`)
	})
	t.Run("odd URL needs a model", func(t *testing.T) {
		f := newFakeUpstream(t)
		url := f.serve(t, Options{OllamaURL: f.URL + "/odd?key=1"})
		got := post(t, url, `{"cmd":"hi"}`)
		require.Equal(t, 502, got.status)
		assert.Contains(t, got.failure(t).Message, "set $OLLAMA_MODEL")
		url = f.serve(t, Options{OllamaURL: f.URL + "/odd?key=1", OllamaModel: "m"})
		require.Equal(t, 200, post(t, url, `{"cmd":"hi"}`).status)
	})
}

func TestOllamaFailures(t *testing.T) {
	for _, test := range []struct {
		name   string
		spoil  func(*fakeUpstream)
		status int
		code   string
		text   string
	}{
		{"no models", func(f *fakeUpstream) { f.models = says(200, `{"data":[]}`) }, 502, "upstream_failed", "lists no model"},
		{"models of another kind", func(f *fakeUpstream) { f.models = says(200, `[1]`) }, 502, "upstream_failed", "cannot be read"},
		{"models fail", func(f *fakeUpstream) { f.models = says(404, `nope`) }, 502, "upstream_failed", `404 Not Found: \"nope\"`},
		{"chat fails", func(f *fakeUpstream) { f.chat = says(500, `{"error":"overloaded"}`) }, 502, "upstream_failed", "overloaded"},
		{"no JSON", func(f *fakeUpstream) { f.chat = says(200, `<html>`) }, 502, "upstream_failed", "not JSON"},
		{"too large", func(f *fakeUpstream) {
			f.chat = says(200, `"`+strings.Repeat("x", maxUpstreamAnswer)+`"`)
		}, 502, "upstream_failed", "larger than"},
		{"cut", func(f *fakeUpstream) {
			f.chat = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, `{"id":`)
			}
		}, 502, "upstream_failed", "unexpected EOF"},
		{"redirect", func(f *fakeUpstream) {
			f.chat = http.RedirectHandler("http://192.0.2.1/", http.StatusTemporaryRedirect).ServeHTTP
		}, 502, "upstream_failed", "307"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFakeUpstream(t)
			test.spoil(f)
			got := post(t, f.serve(t, Options{}), `{"cmd":"hi"}`)
			require.Equal(t, test.status, got.status)
			failure := got.failure(t)
			assert.Equal(t, test.code, failure.Code)
			assert.Equal(t, "upstream_error", failure.Type)
			assert.Contains(t, got.body, test.text)
			assert.Less(t, len(got.body), 1000, "a huge answer is not passed on in an error")
		})
	}
}

func TestOllamaAbsent(t *testing.T) {
	f := newFakeUpstream(t)
	url := f.serve(t, Options{OllamaURL: strings.Replace(f.URL, "http://", "http://user:secret@", 1) + "/v1/chat/completions"})
	f.Close()
	got := post(t, url, `{"cmd":"hi"}`)
	require.Equal(t, 502, got.status)
	assert.Contains(t, got.failure(t).Message, "connection refused")
	assert.NotContains(t, got.body, "secret")
}

func TestOllamaSlow(t *testing.T) {
	for _, place := range []string{"headers", "body"} {
		t.Run(place, func(t *testing.T) {
			f := newFakeUpstream(t)
			f.chat = func(w http.ResponseWriter, r *http.Request) {
				if place == "body" {
					_, _ = io.WriteString(w, `{"id":`)
					_ = http.NewResponseController(w).Flush()
				}
				<-r.Context().Done()
			}
			got := post(t, f.serve(t, Options{OllamaTimeout: 100 * time.Millisecond}), `{"cmd":"hi"}`)
			require.Equal(t, 504, got.status, got.body)
			assert.Equal(t, "upstream_timeout", got.failure(t).Code)
		})
	}
}

// A client that leaves takes its request to the upstream along.
func TestOllamaClientLeaves(t *testing.T) {
	f := newFakeUpstream(t)
	arrived, gone := make(chan struct{}), make(chan struct{})
	f.chat = func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	}
	leaveAfter(t, f.serve(t, Options{}), `{"cmd":"hi"}`, arrived)
	<-gone
}

func TestUpstreamModelsURL(t *testing.T) {
	for chat, models := range map[string]string{
		"":                                     "http://localhost:2234/v1/models",
		"http://h/v1/chat/completions":         "http://h/v1/models",
		"https://h:1/api/v1/chat/completions/": "https://h:1/api/v1/models",
		"http://h/v1/chat/completions?a=b":     "http://h/v1/models",
		"http://h/api/chat":                    "",
	} {
		u, err := newUpstream(chat, "", 0)
		require.NoError(t, err)
		assert.Equal(t, models, u.modelsURL, chat)
	}
}

// The error body is what json.Marshal would give, whatever is in the message.
func TestErrorBodyIsJSON(t *testing.T) {
	body, err := marshal(badRequest("c", "%s", "\xff\x00\"<>\u2028").body())
	require.NoError(t, err)
	require.True(t, json.Valid(body))
}
