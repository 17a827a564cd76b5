package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// leaveAfter sends body to url and closes the connection once arrived is closed.
func leaveAfter(t *testing.T, url, body string, arrived <-chan struct{}) {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	conn, err := net.Dial("tcp", host)
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	require.NoError(t, err)
	<-arrived
	require.NoError(t, conn.Close())
}

// waits is an engine whose answers last until their context is done.
func waits(arrived chan<- struct{}, cause chan<- error) *scripted {
	return &scripted{chat: func(ctx context.Context, _ engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			if !yield(engine.ChatDelta{Content: "begun"}, nil) {
				return
			}
			close(arrived)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			yield(engine.ChatDelta{}, ctx.Err())
		}
	}}
}

const streamOfHi = `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`

func TestClientLeaves(t *testing.T) {
	for name, body := range map[string]string{"stream": streamOfHi, "whole": strings.Replace(streamOfHi, "true", "false", 1)} {
		t.Run(name, func(t *testing.T) {
			arrived, cause := make(chan struct{}), make(chan error, 1)
			url := start(t, newServer(t, Options{Engine: waits(arrived, cause)}))
			leaveAfter(t, url+"/v1/chat/completions", body, arrived)
			require.ErrorIs(t, <-cause, context.Canceled)
		})
	}
}

// A client that stops reading is given up after the write timeout, and its generation
// with it.
func TestClientStopsReading(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	flood := &scripted{chat: func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			defer close(ended)
			for text := strings.Repeat("x", 1<<20); yield(engine.ChatDelta{Content: text}, nil); {
			}
		}
	}}
	s := newServer(t, Options{Engine: flood})
	s.timeouts.write = 200 * time.Millisecond
	url := start(t, s)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(streamOfHi), streamOfHi)
	require.NoError(t, err)
	<-ended
	require.NoError(t, conn.Close())
}

// Slow senders are cut, at the headers and at the body.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{})
	s.timeouts.header, s.timeouts.body = time.Second, 2*time.Second
	host := strings.TrimPrefix(start(t, s), "http://")
	for name, sent := range map[string]string{
		"headers": "POST /run-bash/ HTTP/1.1\r\nHost: localhost\r\nX-A: ",
		"body":    "POST /run-bash/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", host)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			stop, done := make(chan struct{}), make(chan struct{})
			go func() { // one byte at a time, for ever
				defer close(done)
				for _, err := io.WriteString(conn, sent); err == nil; _, err = io.WriteString(conn, "a") {
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			}()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			answer, err := io.ReadAll(conn)
			close(stop)
			<-done
			// A reset is fine, waiting is not.
			assert.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			if name == "body" && err == nil {
				assert.Contains(t, string(answer), "408 Request Timeout")
				assert.Contains(t, string(answer), `"code":"body_timeout"`)
			}
		})
	}
}

// The time to send a request is not the time to answer it.
func TestAnswerMayTakeLongerThanBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, Options{Engine: &scripted{chat: func(ctx context.Context, _ engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			select {
			case <-ctx.Done():
				yield(engine.ChatDelta{}, ctx.Err())
			case <-time.After(2 * time.Second): // what a slow model does
				yield(engine.ChatDelta{Content: "late", Result: &engine.Result{FinishReason: engine.FinishStop}}, nil)
			}
		}
	}}})
	s.timeouts.header, s.timeouts.body, s.timeouts.write = time.Second, time.Second, time.Second
	got := post(t, start(t, s)+"/llama-cpp/", `{"cmd":"hi"}`)
	require.Equal(t, 200, got.status, got.body)
	assert.JSONEq(t, `{"output":"late","error":""}`, got.body)
}

// "OPTIONS *" is for the server as a whole; net/http must not answer it for us.
func TestOptionsOfServer(t *testing.T) {
	host := strings.TrimPrefix(start(t, newServer(t, Options{})), "http://")
	for header, want := range map[string]int{"Host: localhost": 404, "Host: evil.example": 403, "Host: localhost\r\nOrigin: https://evil.example": 403} {
		conn, err := net.Dial("tcp", host)
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "OPTIONS * HTTP/1.1\r\n%s\r\n\r\n", header)
		require.NoError(t, err)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, want, response.StatusCode)
		require.NoError(t, response.Body.Close())
		require.NoError(t, conn.Close())
	}
}

// A huge body is refused without being read to its end, announced or not.
func TestHugeBody(t *testing.T) {
	url := start(t, newServer(t, Options{})) + "/run-bash/"
	host := strings.TrimPrefix(strings.TrimSuffix(url, "/run-bash/"), "http://")
	for name, header := range map[string]string{
		"announced": "Content-Length: 1000000000000\r\n\r\n",
		"chunked":   "Transfer-Encoding: chunked\r\n\r\n40000000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", host)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close()) }()
			_, err = io.WriteString(conn, "POST /run-bash/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+header)
			require.NoError(t, err)
			_, err = io.WriteString(conn, strings.Repeat(" ", 1<<20+1))
			require.NoError(t, err)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			defer func() { require.NoError(t, response.Body.Close()) }()
			assert.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
			assert.True(t, response.Close)
		})
	}
}

// A body that ends early is no request, even where what came is valid JSON.
func TestBodyEndsEarly(t *testing.T) {
	s := newServer(t, Options{})
	r := newRequest(t, http.MethodPost, "http://localhost/run-bash/", "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"cmd":"true"}`), failingReader{}))
	got := handle(s, r)
	require.Equal(t, 400, got.status)
	assert.Equal(t, "incomplete_body", got.failure(t).Code)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Shutdown lets an answer in flight end, and takes no new request meanwhile.
func TestShutdownWaits(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, Options{Engine: &scripted{chat: func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			close(arrived)
			<-release
			yield(engine.ChatDelta{Content: "whole", Result: &engine.Result{FinishReason: engine.FinishStop}}, nil)
		}
	}}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	got := make(chan answer, 1)
	go func() { got <- post(t, "http://"+ln.Addr().String()+"/llama-cpp/", `{"cmd":"hi"}`) }()
	<-arrived
	cancel()
	require.Eventually(t, s.isClosing.Load, 5*time.Second, time.Millisecond)
	for path, body := range map[string]string{"/health": "", "/run-bash/": `{"cmd":"true"}`} {
		r := newRequest(t, s.routes[strings.TrimSuffix(path, "/")].method, "http://localhost"+path, body)
		late := handle(s, r)
		assert.Equal(t, 503, late.status)
		assert.Equal(t, "closing", late.failure(t).Code)
	}
	close(release)
	assert.JSONEq(t, `{"output":"whole","error":""}`, (<-got).body)
	require.NoError(t, <-served)
	_, err = net.Dial("tcp", ln.Addr().String())
	require.Error(t, err)
}

// After the grace period what still runs is cancelled and its client told.
func TestShutdownCancels(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprint("stream=", stream), func(t *testing.T) {
			arrived, cause := make(chan struct{}), make(chan error, 1)
			s := newServer(t, Options{Engine: waits(arrived, cause), ShutdownGrace: 50 * time.Millisecond})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- s.Serve(ctx, ln) }()
			got := make(chan answer, 1)
			body := fmt.Sprintf(`{"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, stream)
			go func() { got <- post(t, "http://"+ln.Addr().String()+"/v1/chat/completions", body) }()
			<-arrived
			cancel()
			require.ErrorIs(t, <-cause, errClosing)
			end := <-got
			assert.Contains(t, end.body, `"code":"closing"`)
			if !stream {
				assert.Equal(t, 503, end.status)
			}
			require.NoError(t, <-served)
		})
	}
}

func TestServeListenerFails(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	require.ErrorIs(t, newServer(t, Options{}).Serve(t.Context(), ln), net.ErrClosed)
}
