package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withEngine{m}) }

// withEngine closes what the tests share before goleak looks.
type withEngine struct{ *testing.M }

func (m withEngine) Run() int {
	code := m.M.Run()
	if shared.engine == nil {
		return code
	}
	if err := shared.engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "closing the engine:", err)
		return 1
	}
	return code
}

var shared struct {
	once   sync.Once
	engine *engine.Engine
	name   string
	err    error
}

// realEngine returns the engine of the default model that all tests share, and the
// model's name.
func realEngine(t *testing.T) (*engine.Engine, string) {
	t.Helper()
	shared.once.Do(func() {
		model, err := hub.Pull(context.Background(), "", hub.Options{})
		if err != nil {
			shared.err = err
			return
		}
		shared.name = model.Name
		shared.engine, shared.err = engine.Open(context.Background(), model.Path, engine.Params{
			// One thread: two would wait for each other in every step where tests of other packages use the cores.
			NCtx: 4096, MaxSequences: 8, NThreads: 1,
		})
	})
	require.NoError(t, shared.err)
	return shared.engine, shared.name
}

// scripted is an Engine for what a real one cannot be brought to do on demand: be
// full, fail in the middle, panic, never end. A nil function must not be reached.
type scripted struct {
	chat  func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error]
	plain bool
}

func (s *scripted) Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	return s.chat(ctx, r)
}

func (s *scripted) Generate(context.Context, engine.Request) iter.Seq2[engine.Delta, error] {
	panic("unexpected Generate")
}

func (s *scripted) HasChatTemplate() bool { return !s.plain }

// yields plays deltas, then fails with err, or ends well where err is nil.
func yields(err error, texts ...string) *scripted {
	return &scripted{chat: func(context.Context, engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
		return func(yield func(engine.ChatDelta, error) bool) {
			for _, text := range texts {
				if !yield(engine.ChatDelta{Content: text}, nil) {
					return
				}
			}
			if err != nil {
				yield(engine.ChatDelta{}, err)
				return
			}
			yield(engine.ChatDelta{Result: &engine.Result{FinishReason: engine.FinishStop, Usage: engine.Usage{Prompt: 3, Computed: 3, Output: len(texts)}}}, nil)
		}
	}}
}

// newServer returns a Server whose log goes to the test.
func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Engine == nil {
		o.Engine = &scripted{}
	}
	if o.ModelName == "" {
		o.ModelName = "test-model"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(o)
	require.NoError(t, err)
	return s
}

// start serves o on a loopback port through Serve and returns the base URL. The end of
// the test waits for a clean shutdown.
func start(t *testing.T, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return "http://" + ln.Addr().String()
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// failure requires the one error format and returns its parts.
func (a answer) failure(t *testing.T) errorDetail {
	t.Helper()
	require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"), a.body)
	var fields map[string]map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &fields), a.body)
	require.Len(t, fields, 1)
	require.Len(t, fields["error"], 3)
	var body errorBody
	require.NoError(t, json.Unmarshal([]byte(a.body), &body))
	require.NotEmpty(t, body.Error.Message)
	require.NotEmpty(t, body.Error.Type)
	require.NotEmpty(t, body.Error.Code)
	return body.Error
}

// client keeps no connection: an idle one would hold up the shutdown of the next test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// do may be called from any goroutine: it marks the test as failed and goes on.
func do(t *testing.T, r *http.Request) answer {
	t.Helper()
	response, err := client.Do(r)
	if !assert.NoError(t, err) {
		return answer{}
	}
	body, err := io.ReadAll(response.Body)
	assert.NoError(t, err)
	assert.NoError(t, response.Body.Close())
	return answer{response.StatusCode, response.Header, string(body)}
}

func newRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	assert.NoError(t, err)
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func post(t *testing.T, url, body string) answer {
	t.Helper()
	return do(t, newRequest(t, http.MethodPost, url, body))
}

// handle sends r to s without a network.
func handle(s *Server, r *http.Request) answer {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// runs makes s run commands by f in place of the sandbox.
func runs(s *Server, f func(context.Context, sandbox.Config, string) (sandbox.Result, error)) *Server {
	s.bash.run = f
	return s
}
