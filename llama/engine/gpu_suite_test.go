package engine_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/internal/testgpu"
	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// gpuEngine has all layers on the GPU.
func gpuEngine(t testing.TB, p engine.Params) (*engine.Engine, hub.Model) {
	t.Helper()
	m, err := hub.Pull(t.Context(), "", hub.Options{})
	require.NoError(t, err)
	p.Model.NGPULayers = llama.AllLayers
	if p.NCtx == 0 {
		p.NCtx = 2048
	}
	e, err := engine.Open(t.Context(), m.Path, p)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e, m
}

func TestGPUAnswers(t *testing.T) {
	testgpu.Need(t)
	e, _ := gpuEngine(t, engine.Params{MaxSequences: 4})
	want := generate(t, e, engine.Request{Prompt: france, MaxTokens: 8, Sampling: greedy()})
	require.Contains(t, want.text, "Paris")
	again := generate(t, e, engine.Request{Prompt: france, MaxTokens: 8, Sampling: greedy()})
	require.Equal(t, want.text, again.text)
	requireIdle(t, e)
}

// A cancelled request ends on the GPU, too, where a step that has begun runs to its end; the others and the engine live on.
func TestGPUCancel(t *testing.T) {
	testgpu.Need(t)
	e, _ := gpuEngine(t, engine.Params{MaxSequences: 2, NBatch: 64})
	want := generate(t, e, engine.Request{Prompt: france, MaxTokens: 8, Sampling: greedy()}).text

	t.Run("while it generates", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tokens := 0
		var last error
		for d, err := range e.Generate(ctx, endless()) {
			last = err
			if tokens += len(d.Tokens); tokens >= 3 {
				cancel()
			}
		}
		require.Equal(t, context.Canceled, last)
		requireIdle(t, e)
	})
	t.Run("during a long prompt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		before := e.Stats().PromptTokens
		word, err := e.Model().Vocab().Tokenize(" word", false, false)
		require.NoError(t, err)
		go func() { // as soon as a step of the prompt is done
			for e.Stats().PromptTokens == before && ctx.Err() == nil {
				time.Sleep(50 * time.Microsecond)
			}
			cancel()
		}()
		_, err = collect(t, ctx, e, engine.Request{Tokens: slices.Repeat(word[:1], 2000), IgnoreEOS: true, Sampling: greedy()})
		require.Equal(t, context.Canceled, err)
		requireIdle(t, e)
	})
	t.Run("the engine lives on", func(t *testing.T) {
		require.Equal(t, want, generate(t, e, engine.Request{Prompt: france, MaxTokens: 8, Sampling: greedy()}).text)
	})
}

// A command in the sandbox has nothing of the GPU that its caller computes on, and keeps none of its memory.
func TestGPUStaysOutOfTheSandbox(t *testing.T) {
	device := testgpu.Need(t)
	warm, _ := gpuEngine(t, engine.Params{})
	generate(t, warm, engine.Request{Prompt: france, MaxTokens: 1, Sampling: greedy()})
	require.NoError(t, warm.Close())
	idle := device.Used(t)

	e, _ := gpuEngine(t, engine.Params{})
	generate(t, e, engine.Request{Prompt: france, MaxTokens: 1, Sampling: greedy()})
	seen, err := sandbox.Run(t.Context(), sandbox.Config{}, "ls /dev /proc/driver; readlink /proc/self/fd/* /proc/1/fd/*; cat /proc/self/maps; env")
	require.NoError(t, err)
	require.NotContains(t, strings.ToLower(string(seen.Stdout)+string(seen.Stderr)), "nvidia")
	require.NotContains(t, strings.ToLower(string(seen.Stdout)), "cuda")

	running := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan struct{})
	go func() {
		_, err := sandbox.Run(ctx, sandbox.Config{Stdout: signalOnWrite(started)}, "echo started; exec sleep 100")
		running <- err
	}()
	select {
	case <-started:
	case err := <-running:
		t.Fatal("the command ends at once: ", err)
	}
	require.NoError(t, e.Close())
	device.WaitUsed(t, idle+16<<20)
	require.Empty(t, running, "the command has ended: it holds nothing that could be seen")
	cancel()
	<-running
}

// signalOnWrite closes itself at the first write.
type signalOnWrite chan struct{}

func (s signalOnWrite) Write(p []byte) (int, error) {
	select {
	case <-s:
	default:
		close(s)
	}
	return len(p), nil
}

// The engine decodes as fast as llama.cpp's own bench on the same GPU, sampling and Go included. It is measured in pairs, of
// which the median counts. BenchmarkDecodeVsLlamaBench gives the ratio with its interval.
func TestGPUDecodeVsLlamaBench(t *testing.T) {
	testgpu.Need(t)
	const pairs, tokens = 7, 256
	e, m := gpuEngine(t, engine.Params{MaxSequences: 1})
	bench, err := filepath.Abs("../../bin/peers/llama-bench")
	require.NoError(t, err)
	decode := func() float64 {
		start := time.Now()
		generate(t, e, engine.Request{Tokens: []llama.Token{e.Model().Vocab().BOS()}, MaxTokens: tokens, IgnoreEOS: true, Sampling: greedy()})
		return tokens / time.Since(start).Seconds()
	}
	decode()
	var ratios []float64
	for range pairs {
		out, err := exec.CommandContext(t.Context(), bench, "-m", m.Path, "-p", "0", "-n", "256", "-r", "3", "-ngl", "99", "-o", "json").Output()
		require.NoError(t, err)
		var rows []struct {
			Backends string  `json:"backends"`
			AvgTS    float64 `json:"avg_ts"`
		}
		require.NoError(t, json.Unmarshal(out, &rows))
		require.Len(t, rows, 1)
		require.Contains(t, rows[0].Backends, "CUDA", "llama-bench computes elsewhere: make peers builds it with CUDA")
		ours := max(decode(), decode(), decode())
		ratios = append(ratios, ours/rows[0].AvgTS)
		t.Logf("%.0f tokens/s, llama-bench %.0f", ours, rows[0].AvgTS)
	}
	require.Greater(t, median(ratios), 0.5, "ours to llama-bench's: %v", ratios)
}
