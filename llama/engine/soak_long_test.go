//go:build long

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
	"github.com/lm-sandbox/lm-sandbox/llama/internal/fixture"
)

// rss is the memory of this process, all of it (VmRSS) or what is no file
// (RssAnon), in KiB, after a collection.
func rss(t *testing.T, field string) float64 {
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(data), field+":")
	require.True(t, ok)
	var kib float64
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib
}

// TestSoak: 200 clients with random lengths, cancellations, deadlines and slow
// readers; then everything is free, and memory has not grown.
func TestSoak(t *testing.T) {
	const clients, duration = 200, 2 * time.Minute
	p := engine.Params{NCtx: 2048, MaxSequences: 16, MaxQueue: 120, MaxCellsPerCaller: 1024, MaxWait: 5 * time.Second}
	p.Cache.HostBytes = 1 << 20 // full at once
	e := openFixture(t, fixture.Llama(2), p)
	ctx, stop := context.WithTimeout(context.Background(), duration)
	defer stop()
	var ended, busy, cancelled atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 5))
			for ctx.Err() == nil {
				err := soakRequest(ctx, e, r, i)
				switch {
				case err == nil:
					ended.Add(1)
				case errors.Is(err, engine.ErrBusy):
					busy.Add(1)
					time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
				case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
					cancelled.Add(1)
				default:
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	time.Sleep(duration / 4)
	before := rss(t, "RssAnon")
	wg.Wait()
	requireIdle(t, e)
	after := rss(t, "RssAnon")
	s := e.Stats()
	t.Logf("%d ended, %d cancelled, %d busy; RSS %.0f, then %.0f KiB; %+v", ended.Load(), cancelled.Load(), busy.Load(), before, after, s)
	for _, n := range []int64{ended.Load(), busy.Load(), cancelled.Load(), int64(s.Preempted), int64(s.CachedTokens), int64(s.Shifted)} {
		require.Positive(t, n)
	}
	require.Zero(t, s.Failed)
	require.Zero(t, s.Callers)
	if !raceDetector { // whose own memory grows
		require.LessOrEqual(t, after, 1.1*before)
	}
}

func soakRequest(ctx context.Context, e *engine.Engine, r *rand.Rand, client int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch r.IntN(4) {
	case 0:
		time.AfterFunc(time.Duration(r.IntN(300))*time.Millisecond, cancel)
	case 1:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(2000))*time.Millisecond)
		defer cancel()
	}
	shared := rand.New(rand.NewPCG(uint64(r.IntN(4)), 6)) // one of four beginnings
	req := engine.Request{
		Tokens:    append(randomTokens(shared, 100), randomTokens(r, 1+r.IntN(100))...),
		MaxTokens: 1 + r.IntN(200), IgnoreEOS: true, Priority: r.IntN(3) - 1, Caller: fmt.Sprint(client % 10),
		Sampling: &llama.SamplerParams{Seed: llama.RandomSeed, Temperature: 1},
	}
	if r.IntN(8) == 0 {
		req.ContextShift, req.MaxTokens = true, 1200
	}
	slow := r.IntN(8) == 0
	leave := r.IntN(8) == 0
	for _, err := range e.Generate(ctx, req) {
		if err != nil {
			return err
		}
		if slow {
			time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		}
		if leave {
			return context.Canceled
		}
	}
	return nil
}

// TestOpenAndCloseLeakNothing: memory after 100 rounds is that after 5, each the
// median of ten rounds. It runs in a process with one arena of glibc's: with many,
// what is free in them varies more than what could leak.
func TestOpenAndCloseLeakNothing(t *testing.T) {
	const arenas = "MALLOC_ARENA_MAX"
	if os.Getenv(arenas) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), arenas+"=1")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		require.NoError(t, err)
		return
	}
	model, err := hub.Pull(context.Background(), "default", hub.Options{})
	require.NoError(t, err)
	var after []float64
	for range 110 {
		e, err := engine.Open(context.Background(), model.Path, engine.Params{NCtx: 1024, NThreads: 1})
		require.NoError(t, err)
		generate(t, e, engine.Request{Prompt: france, MaxTokens: 4, Sampling: greedy()})
		require.NoError(t, e.Close())
		after = append(after, rss(t, "VmRSS"))
	}
	early, late := median(after[5:15]), median(after[100:])
	t.Logf("RSS %.0f KiB after 5 rounds, %.0f after 100", early, late)
	require.LessOrEqual(t, late, 1.05*early)
}
