package engine_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

func TestClose(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	e, err := engine.New(m, engine.Params{NCtx: 512, MaxSequences: 2, NThreads: 1})
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	running := make(chan struct{}, 100)
	for i := range errs {
		wg.Go(func() {
			for _, err := range e.Generate(context.Background(), endless()) {
				errs[i] = err
				select {
				case running <- struct{}{}:
				default:
				}
			}
		})
	}
	<-running
	for range 3 {
		wg.Go(func() { require.NoError(t, e.Close()) })
	}
	wg.Wait()
	for i, err := range errs {
		require.ErrorIs(t, err, engine.ErrClosed, "request %d", i)
	}
	_, err = collect(t, context.Background(), e, endless())
	require.ErrorIs(t, err, engine.ErrClosed)
	_, err = e.CountTokens(context.Background(), engine.ChatRequest{Messages: user("hi")})
	require.ErrorIs(t, err, engine.ErrClosed)
	require.NoError(t, e.Close())
	require.NoError(t, (*engine.Engine)(nil).Close())
	requireIdle(t, e)
}

func TestCloseWhileIterating(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	e, err := engine.New(m, engine.Params{NCtx: 512, NThreads: 1})
	require.NoError(t, err)
	var last error
	for _, err := range e.Generate(context.Background(), endless()) {
		if last = err; err == nil {
			require.NoError(t, e.Close())
		}
	}
	require.ErrorIs(t, last, engine.ErrClosed)
}

func TestOpenOwnsTheModel(t *testing.T) {
	ctx := context.Background()
	file, err := hub.Pull(ctx, "", hub.Options{})
	require.NoError(t, err)
	e, err := engine.Open(ctx, file.Path, engine.Params{NCtx: 256, Model: llama.ModelParams{NGPULayers: llama.NoLayers}})
	require.NoError(t, err)
	m := e.Model()
	require.NoError(t, e.Close())
	_, err = llama.NewContext(m, llama.ContextParams{NCtx: 256})
	require.ErrorIs(t, err, llama.ErrClosed)

	_, err = engine.Open(ctx, filepath.Join(t.TempDir(), "absent.gguf"), engine.Params{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = engine.Open(ctx, file.Path, engine.Params{MaxQueue: -1})
	var invalid *engine.ErrInvalid
	require.ErrorAs(t, err, &invalid)
}

// TestEnginesComeAndGo: the thread pools of closed engines end with them.
func TestEnginesComeAndGo(t *testing.T) {
	m, err := defaultModel()
	require.NoError(t, err)
	var first int
	for i := range 8 {
		e, err := engine.New(m, engine.Params{NCtx: 256, NThreads: 2})
		require.NoError(t, err)
		generate(t, e, engine.Request{Prompt: france, MaxTokens: 1})
		require.NoError(t, e.Close())
		if i == 2 {
			first = threads(t)
		}
	}
	// The Go runtime starts a thread of its own now and then.
	require.Less(t, threads(t), first+5)
}

func threads(t *testing.T) int {
	if runtime.GOOS != "linux" {
		return 0
	}
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	n, err := strconv.Atoi(regexp.MustCompile(`Threads:\s*(\d+)`).FindStringSubmatch(string(status))[1])
	require.NoError(t, err)
	return n
}
