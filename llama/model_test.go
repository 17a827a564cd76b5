package llama_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
	"github.com/stretchr/testify/require"
)

func TestModel(t *testing.T) {
	m := testModel(t, "default")
	require.Equal(t, "llama 256M Q4_1", m.Desc())
	require.EqualValues(t, 134515008, m.NParams())
	require.Equal(t, []int{8192, 576, 30, 9, 0}, []int{m.NCtxTrain(), m.NEmbd(), m.NLayer(), m.NHead(), m.NSWA()})
	require.Equal(t, []bool{false, true, false, false}, []bool{m.HasEncoder(), m.HasDecoder(), m.IsRecurrent(), m.IsHybrid()})
	arch, ok := m.Meta("general.architecture")
	require.True(t, ok)
	require.Equal(t, "llama", arch)
	_, ok = m.Meta("no.such.key")
	require.False(t, ok)
	all := m.MetaAll()
	require.Equal(t, "llama", all["general.architecture"])
	require.Contains(t, all["tokenizer.chat_template"], "<|im_start|>", "long values are whole")
	clear(all)
	require.NotEmpty(t, m.MetaAll())
}

func TestSlidingWindow(t *testing.T) {
	m := testModel(t, "gemma3-270m")
	require.Equal(t, 512, m.NSWA())
	_, err := llama.NewChatTemplate(m, "")
	require.ErrorIs(t, err, llama.ErrNoChatTemplate)
}

func TestLoadModelProgress(t *testing.T) {
	var seen []float32
	m, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{Progress: func(f float32) { seen = append(seen, f) }})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NotEmpty(t, seen)
	require.IsNonDecreasing(t, seen)
	require.EqualValues(t, 1, seen[len(seen)-1])
}

func TestLoadModelCancelled(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	_, err := llama.LoadModel(ctx, path, llama.ModelParams{Progress: func(float32) {
		calls++
		cancel()
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, llama.ErrModelFormat)
	require.Equal(t, 1, calls, "the load ends at once")
	_, err = llama.LoadModel(ctx, path, llama.ModelParams{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLoadModelCallbackPanics(t *testing.T) {
	_, err := llama.LoadModel(t.Context(), fixture.Llama(1).Write(t), llama.ModelParams{Progress: func(float32) { panic("boom") }})
	require.ErrorContains(t, err, "boom")
}

func TestLoadModelParams(t *testing.T) {
	path := fixture.Llama(1).Write(t)
	for _, p := range []llama.ModelParams{
		{NGPULayers: llama.AllLayers}, {NGPULayers: llama.NoLayers}, {NGPULayers: 1}, {LoadMode: llama.LoadRead}, {LoadMode: llama.LoadMMap}, {CheckTensors: true},
	} {
		m, err := llama.LoadModel(t.Context(), path, p)
		require.NoError(t, err)
		require.NoError(t, m.Close())
	}
	_, err := llama.LoadModel(t.Context(), path, llama.ModelParams{LoadMode: 99})
	require.ErrorIs(t, err, llama.ErrInvalidParam)
}

// logHandler keeps what is logged; SetLogger is process-wide, so tests that use it do not run in parallel.
type logHandler struct {
	mu    sync.Mutex
	lines []string
	level slog.Level
	panic bool
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }
func (h *logHandler) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *logHandler) WithGroup(string) slog.Handler                { return h }
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if h.panic {
		panic("log")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, r.Level.String()+" "+r.Message)
	return nil
}

func TestSetLogger(t *testing.T) {
	defer llama.SetLogger(nil)
	path := fixture.Llama(1).Write(t)
	load := func(h *logHandler) string {
		if h != nil {
			llama.SetLogger(slog.New(h))
		} else {
			llama.SetLogger(nil)
			h = &logHandler{}
		}
		m, err := llama.LoadModel(t.Context(), path, llama.ModelParams{})
		require.NoError(t, err)
		require.NoError(t, m.Close())
		return strings.Join(h.lines, "\n")
	}
	info := load(&logHandler{level: slog.LevelInfo})
	require.Contains(t, info, "INFO ")
	require.NotContains(t, info, "DEBUG ")
	require.Empty(t, load(&logHandler{level: slog.LevelError}))
	require.Empty(t, load(&logHandler{level: 100}))
	load(&logHandler{panic: true})
	silent := &logHandler{level: slog.LevelDebug}
	llama.SetLogger(slog.New(silent))
	load(nil)
	require.Empty(t, silent.lines)
}

// TestSystemInfoTogether: llama.cpp has one string for all who ask.
func TestSystemInfoTogether(t *testing.T) {
	want, err := llama.SystemInfo()
	require.NoError(t, err)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				got, err := llama.SystemInfo()
				if err != nil || got != want {
					t.Errorf("%+v, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestSystemInfo(t *testing.T) {
	s, err := llama.SystemInfo()
	require.NoError(t, err)
	require.Regexp(t, `^\d+\.\d+\.\d+`, s.Version)
	require.Contains(t, s.Features, "CPU")
	require.Positive(t, s.NThreads)
	devices, err := llama.Devices()
	require.NoError(t, err)
	types := map[string]bool{}
	for _, d := range devices {
		types[d.Type] = true
		require.NotEmpty(t, d.Name)
	}
	require.True(t, types["cpu"])
}
