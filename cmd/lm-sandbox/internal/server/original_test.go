package server

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// fields returns the members of a JSON object.
func fields(t *testing.T, a answer) map[string]any {
	t.Helper()
	require.Equal(t, 200, a.status, a.body)
	require.Equal(t, "application/json; charset=utf-8", a.header.Get("Content-Type"))
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &members))
	return members
}

func commandBody(cmd string) string {
	body, err := json.Marshal(map[string]string{"cmd": cmd})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// Real commands in the real sandbox.
func TestRunBash(t *testing.T) {
	url := start(t, newServer(t, Options{Sandbox: sandbox.Config{
		Limits: sandbox.Limits{Wall: 20 * time.Second, Output: 64 << 10},
	}}))
	for _, test := range []struct {
		cmd, output, failure string
		code                 float64
		limit                string
	}{
		{`echo out; echo err >&2; exit 3`, "out\n", "err\n", 3, ""},
		{`id -u; pwd`, "1000\n/workspace\n", "", 0, ""},
		{`cat /etc/shadow 2>/dev/null || echo refused`, "refused\n", "", 0, ""},
		{`printf '<é&\377>'`, "<é&\ufffd>", "", 0, ""},
		{`kill -9 $$`, "", "", 137, ""},
	} {
		t.Run(test.cmd, func(t *testing.T) {
			for _, path := range []string{"/run-bash/", "/run-bash"} {
				got := fields(t, post(t, url+path, commandBody(test.cmd)))
				require.Len(t, got, 5)
				assert.Equal(t, test.output, got["output"])
				assert.Equal(t, test.failure, got["error"])
				assert.Equal(t, test.code, got["exit_code"])
				assert.Equal(t, test.limit, got["limit"])
				assert.NotEmpty(t, got["level"])
			}
		})
	}
	t.Run("output limit", func(t *testing.T) {
		got := fields(t, post(t, url+"/run-bash/", commandBody(`head -c 1000000 /dev/zero | tr '\0' x`)))
		assert.Equal(t, "output", got["limit"])
		assert.Len(t, got["output"], 64<<10)
	})
	t.Run("time limit", func(t *testing.T) {
		url := start(t, newServer(t, Options{Sandbox: sandbox.Config{Limits: sandbox.Limits{Wall: 3 * time.Second}}}))
		got := fields(t, post(t, url+"/run-bash/", commandBody(`echo begun; sleep 60`)))
		assert.Equal(t, "timeout", got["limit"])
		assert.Equal(t, "begun\n", got["output"])
	})
	t.Run("several at once", func(t *testing.T) {
		var clients sync.WaitGroup
		for i := range 32 {
			clients.Go(func() {
				a := post(t, url+"/run-bash/", commandBody(fmt.Sprintf("echo %d; test ! -e /workspace/x && touch /workspace/x", i)))
				assert.Equal(t, 200, a.status, a.body)
				assert.Contains(t, a.body, fmt.Sprintf(`"output":"%d\n","error":"","exit_code":0`, i), "each in a sandbox of its own")
			})
		}
		clients.Wait()
	})
}

// A client that leaves takes its command along.
func TestRunBashClientLeaves(t *testing.T) {
	work := t.TempDir()
	s := newServer(t, Options{MaxSandboxes: 1, Sandbox: sandbox.Config{Workspace: work, Limits: sandbox.Limits{Wall: 10 * time.Minute}}})
	url := start(t, s) + "/run-bash/"
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		assert.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(work, "begun"))
			return err == nil
		}, 25*time.Second, 5*time.Millisecond)
	}()
	leaveAfter(t, url, commandBody(`touch begun; sleep 300; touch ended`), begun)
	require.Eventually(t, func() bool { return s.bash.gate.present.Load() == 0 }, 25*time.Second, 5*time.Millisecond)
	got := fields(t, post(t, url, commandBody(`ls`)))
	assert.Equal(t, "begun\n", got["output"], "the only turn is free again, and the command did not go on")
}

// short answers as the real engine does, but with few tokens, and notes what was asked.
type short struct {
	*engine.Engine
	plain bool
	limit int
}

func (s *short) HasChatTemplate() bool { return !s.plain }

func (s *short) Chat(ctx context.Context, r engine.ChatRequest) iter.Seq2[engine.ChatDelta, error] {
	s.limit, r.MaxTokens = r.MaxTokens, 8
	return s.Engine.Chat(ctx, r)
}

func (s *short) Generate(ctx context.Context, r engine.Request) iter.Seq2[engine.Delta, error] {
	s.limit, r.MaxTokens = r.MaxTokens, 8
	return s.Engine.Generate(ctx, r)
}

func TestLlamaCPP(t *testing.T) {
	e, name := realEngine(t)
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain=", plain), func(t *testing.T) {
			model := &short{Engine: e, plain: plain}
			url := start(t, newServer(t, Options{Engine: model, ModelName: name}))
			for _, path := range []string{"/llama-cpp/", "/llama-cpp"} {
				got := fields(t, post(t, url+path, commandBody("The capital of France is")))
				require.Len(t, got, 2)
				assert.NotEmpty(t, got["output"])
				assert.Equal(t, "", got["error"])
				assert.Equal(t, 512, model.limit)
			}
		})
	}
}

// The service is an OpenAI-compatible upstream itself: one instance asks another.
func TestOllamaAsksOwnKind(t *testing.T) {
	e, name := realEngine(t)
	other := start(t, newServer(t, Options{Engine: &short{Engine: e}, ModelName: name}))
	url := start(t, newServer(t, Options{OllamaURL: other + "/v1/chat/completions"}))
	got := fields(t, post(t, url+"/ollama/", commandBody("Say hello.")))
	assert.Equal(t, "chat.completion", got["object"])
	assert.Equal(t, name, got["model"], "the first of its models was asked")
	assert.Len(t, got["choices"], 1)
}
