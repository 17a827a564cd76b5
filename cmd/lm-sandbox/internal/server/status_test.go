package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// What never reaches an engine or a sandbox, endpoint by endpoint.
func TestRefusals(t *testing.T) {
	url := start(t, newServer(t, Options{MaxBody: 2000}))
	const chat = "/v1/chat/completions"
	hi := `"messages":[{"role":"user","content":"hi"}]`
	for _, test := range []struct {
		name, method, path, contentType, body string
		status                                int
		code                                  string
	}{
		{"unknown path", "GET", "/", "", "", 404, "unknown_path"},
		{"unknown path below", "POST", "/run-bash/x", "application/json", "{}", 404, "unknown_path"},
		{"path not clean", "POST", "//run-bash", "application/json", "{}", 404, "unknown_path"},
		{"two slashes", "POST", "/run-bash//", "application/json", "{}", 404, "unknown_path"},
		{"GET for POST", "GET", "/run-bash/", "", "", 405, "method_not_allowed"},
		{"POST for GET", "POST", "/v1/models", "application/json", "{}", 405, "method_not_allowed"},
		{"no content type", "POST", "/run-bash/", "", `{"cmd":"true"}`, 415, "unsupported_media_type"},
		{"text", "POST", "/run-bash/", "text/plain", `{"cmd":"true"}`, 415, "unsupported_media_type"},
		{"form", "POST", "/llama-cpp/", "application/x-www-form-urlencoded", `{"cmd":"true"}`, 415, "unsupported_media_type"},
		{"multipart", "POST", "/ollama/", "multipart/form-data; boundary=x", `{"cmd":"true"}`, 415, "unsupported_media_type"},
		{"like json", "POST", chat, "application/json5", "{" + hi + "}", 415, "unsupported_media_type"},
		{"json in parameters", "POST", chat, "text/plain; x=application/json", "{" + hi + "}", 415, "unsupported_media_type"},
		{"charset", "POST", chat, "application/json; charset=utf-16", "{" + hi + "}", 415, "unsupported_media_type"},
		{"malformed type", "POST", chat, "application/json; charset", "{" + hi + "}", 415, "unsupported_media_type"},
		{"empty body", "POST", "/run-bash/", "application/json", "", 400, "invalid_json"},
		{"no json", "POST", "/run-bash", "application/json", "cmd=true", 400, "invalid_json"},
		{"cut json", "POST", "/run-bash/", "application/json", `{"cmd":"tr`, 400, "invalid_json"},
		{"two values", "POST", "/run-bash/", "application/json", `{"cmd":"a"}{"cmd":"b"}`, 400, "invalid_json"},
		{"array", "POST", "/run-bash/", "application/json; charset=UTF-8", `["true"]`, 400, "invalid_type"},
		{"null", "POST", "/run-bash/", "application/json", `null`, 400, "missing_cmd"},
		{"cmd missing", "POST", "/llama-cpp/", "application/json", `{"command":"x"}`, 400, "missing_cmd"},
		{"cmd empty", "POST", "/ollama/", "application/json", `{"cmd":" \n"}`, 400, "missing_cmd"},
		{"cmd a number", "POST", "/ollama", "application/json", `{"cmd":1}`, 400, "invalid_type"},
		{"cmd with NUL", "POST", "/run-bash/", "application/json", `{"cmd":"a\u0000b"}`, 400, "invalid_cmd"},
		{"nested too deep", "POST", "/run-bash/", "application/json", strings.Repeat("[", 1500), 400, "invalid_json"},
		{"too large", "POST", "/run-bash/", "application/json", `{"cmd":"` + strings.Repeat("x", 2000) + `"}`, 413, "body_too_large"},
		{"too large after the value", "POST", chat, "application/json", "{" + hi + "}" + strings.Repeat(" ", 2000), 413, "body_too_large"},
		{"n", "POST", chat, "application/json", `{"n":200,` + hi + `}`, 400, "invalid_n"},
		{"messages missing", "POST", chat, "application/json", `{}`, 400, "missing_messages"},
		{"stream of a bad request", "POST", chat, "application/json", `{"stream":true}`, 400, "missing_messages"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRequest(t, test.method, url+test.path, test.body)
			r.Header.Del("Content-Type")
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			got := do(t, r)
			require.Equal(t, test.status, got.status, got.body)
			failure := got.failure(t)
			assert.Equal(t, test.code, failure.Code)
			assertNoCORS(t, got)
			assert.Len(t, got.header.Get("X-Request-Id"), 16)
			if test.status == 405 {
				assert.NotEmpty(t, got.header.Get("Allow"))
			}
		})
	}
	t.Run("compressed", func(t *testing.T) {
		r := newRequest(t, "POST", url+"/run-bash/", "\x1f\x8b")
		r.Header.Set("Content-Encoding", "gzip")
		assert.Equal(t, 415, do(t, r).status)
	})
}

// Each error of the engine has its status, before a stream begins as without one.
func TestEngineErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		kind   string
		code   string
		retry  string
	}{
		{engine.ErrBusy, 429, "rate_limit_error", "busy", "1"},
		{engine.ErrClosed, 503, "unavailable_error", "closing", "5"},
		{&engine.ErrWorkerDied{Signal: "killed", Log: "a secret of the engine"}, 503, "unavailable_error", "worker_died", "1"},
		{fmt.Errorf("sample: %w", llama.ErrGrammarRejected), 400, "invalid_request_error", "grammar_rejected", ""},
		{&engine.ErrInvalid{Field: "Request.MaxTokens", Reason: "is negative"}, 400, "invalid_request_error", "invalid_request", ""},
		{&llama.ErrContextFull{Have: 9000, Max: 8192}, 400, "invalid_request_error", "context_length_exceeded", ""},
		{llama.ErrInvalidGrammar, 400, "invalid_request_error", "invalid_grammar", ""},
		{llama.ErrGrammarBudget, 400, "invalid_request_error", "grammar_budget", ""},
		{llama.ErrInvalidSchema, 400, "invalid_request_error", "invalid_schema", ""},
		{llama.ErrInvalidToken, 400, "invalid_request_error", "invalid_token", ""},
		{llama.ErrInvalidParam, 400, "invalid_request_error", "invalid_parameter", ""},
		{llama.ErrInvalidMessage, 400, "invalid_request_error", "invalid_message", ""},
		{llama.ErrNoChatTemplate, 400, "invalid_request_error", "no_chat_template", ""},
		{errors.New("a secret of the engine"), 500, "server_error", "internal_error", ""},
		{context.Canceled, 500, "server_error", "internal_error", ""}, // nobody asked for it
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			url := start(t, newServer(t, Options{Engine: yields(fmt.Errorf("request 7: %w", test.err))}))
			for _, request := range []struct{ path, body string }{
				{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`},
				{"/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`},
				{"/llama-cpp/", `{"cmd":"hi"}`},
			} {
				got := post(t, url+request.path, request.body)
				require.Equal(t, test.status, got.status, got.body)
				failure := got.failure(t)
				assert.Equal(t, test.code, failure.Code)
				assert.Equal(t, test.kind, failure.Type)
				assert.Equal(t, test.retry, got.header.Get("Retry-After"))
				assert.NotContains(t, got.body, "secret")
			}
		})
	}
}

// A failure inside a stream cannot change the status: it is told by an event, and the
// stream does not end like a good one.
func TestEngineErrorInsideStream(t *testing.T) {
	url := start(t, newServer(t, Options{Engine: yields(engine.ErrClosed, "one", "two")}))
	got := post(t, url+"/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	require.Equal(t, 200, got.status)
	assert.Contains(t, got.body, `"content":"two"`)
	assert.Contains(t, got.body, `data: {"error":{"message":`)
	assert.NotContains(t, got.body, "[DONE]")
	assert.NotContains(t, got.body, `"finish_reason":"`)
}

func TestPanic(t *testing.T) {
	var log bytes.Buffer
	panics := func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] { panic("boom") }
	later := func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			yield(engine.ChatDelta{Content: "begun"}, nil)
			panic("boom")
		}
	}
	t.Run("before the answer", func(t *testing.T) {
		s := newServer(t, Options{Engine: &scripted{chat: panics}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		got := post(t, start(t, s)+"/llama-cpp/", `{"cmd":"hi"}`)
		require.Equal(t, 500, got.status)
		assert.Equal(t, "internal_error", got.failure(t).Code)
		assert.NotContains(t, got.body, "boom")
	})
	assert.Contains(t, log.String(), "boom")
	assert.Contains(t, log.String(), "status_test.go", "the log has the stack")
	t.Run("within the answer", func(t *testing.T) {
		url := start(t, newServer(t, Options{Engine: &scripted{chat: later}}))
		r := newRequest(t, http.MethodPost, url+"/v1/chat/completions", `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
		response, err := client.Do(r)
		require.NoError(t, err)
		defer func() { require.NoError(t, response.Body.Close()) }()
		var body bytes.Buffer
		_, err = body.ReadFrom(response.Body)
		require.Error(t, err, "a cut answer must not look like a whole one: %s", body.String())
	})
}

func TestHealthAndModels(t *testing.T) {
	url := start(t, newServer(t, Options{ModelName: "a-model"}))
	for _, path := range []string{"/health", "/health/"} {
		got := do(t, newRequest(t, http.MethodGet, url+path, ""))
		require.Equal(t, 200, got.status)
		assert.JSONEq(t, `{"status":"ok"}`, got.body)
	}
	got := do(t, newRequest(t, http.MethodHead, url+"/health", ""))
	require.Equal(t, 200, got.status)
	got = do(t, newRequest(t, http.MethodGet, url+"/v1/models", ""))
	require.Equal(t, 200, got.status)
	assert.Regexp(t, `^{"object":"list","data":\[{"id":"a-model","object":"model","created":\d+,"owned_by":"lm-sandbox"}\]}\n$`, got.body)
}

// The log names the request that its answer names, and what became of it.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	r := newRequest(t, http.MethodGet, "http://localhost/v1/models", "")
	r.Host = "localhost"
	got := handle(s, r)
	assert.Contains(t, log.String(), "request="+got.header.Get("X-Request-Id"))
	assert.Contains(t, log.String(), "path=/v1/models status=200")
}
