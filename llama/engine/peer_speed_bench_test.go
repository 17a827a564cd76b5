package engine_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

// BenchmarkDecodeSamplingVsLlamaBench is BenchmarkDecodeVsLlamaBench with llama.cpp's default samplers in place of the
// likeliest token.
func BenchmarkDecodeSamplingVsLlamaBench(b *testing.B) {
	e, path := peerEngine(b, engine.Params{NCtx: 512, MaxSequences: 1})
	req := tg128(e)
	sampling := llama.DefaultSamplerParams()
	req.Sampling = &sampling
	compare(b, func() float64 {
		start := time.Now()
		generate(b, e, req)
		return tokensPerRun / time.Since(start).Seconds()
	}, [][]string{llamaBench(path, 0, tokensPerRun)}, theirs)
}

// BenchmarkPrefillVsLlamaBench compares the time to the first token of a prompt of 512 tokens with `llama-bench -p 512`, which
// samples none.
func BenchmarkPrefillVsLlamaBench(b *testing.B) {
	const prompt = 512
	e, path := peerEngine(b, engine.Params{NCtx: 1024, MaxSequences: 1})
	r := rand.New(rand.NewPCG(5, 12))
	compare(b, func() float64 {
		req := engine.Request{MaxTokens: 1, IgnoreEOS: true, Sampling: &llama.SamplerParams{}}
		for range prompt {
			req.Tokens = append(req.Tokens, llama.Token(r.IntN(e.Model().Vocab().NTokens()-1000)+500))
		}
		start := time.Now()
		generate(b, e, req)
		return prompt / time.Since(start).Seconds()
	}, [][]string{llamaBench(path, prompt, 0)}, func(b *testing.B, argv []string) float64 {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		require.NoError(b, err)
		var rows []struct {
			AvgTS float64 `json:"avg_ts"`
		}
		require.NoError(b, json.Unmarshal(out, &rows))
		require.Len(b, rows, 1)
		return rows[0].AvgTS
	})
}

// BenchmarkStreamsVsBatchedBench compares the decode rate of several streams with that of llama-batched-bench, in the better
// one of its layouts.
func BenchmarkStreamsVsBatchedBench(b *testing.B) {
	const prompt, output = 64, 64
	for _, streams := range []int{2, 4, 8, 16, 32} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			e, path := peerEngine(b, engine.Params{NCtx: 256 * streams, MaxSequences: streams, Pace: -1})
			bench, err := filepath.Abs("../../bin/peers/llama-batched-bench")
			require.NoError(b, err)
			argv := []string{
				bench, "-m", path, "-c", strconv.Itoa(256 * streams), "-b", "512", "-ub", "512", "-npp", strconv.Itoa(prompt), "-ntg", strconv.Itoa(output),
				"-npl", strconv.Itoa(streams), "-t", strconv.Itoa(runtime.NumCPU()), "--output-format", "jsonl",
			}
			scope := 0
			compare(b, func() float64 {
				scope++
				return decodeRate(b, e, streams, prompt, output, fmt.Sprint("batched", scope))
			}, [][]string{argv, append(argv[:len(argv):len(argv)], "-kvu")}, func(b *testing.B, argv []string) float64 {
				out, err := exec.Command(argv[0], argv[1:]...).Output()
				require.NoError(b, err)
				var row struct {
					Rate float64 `json:"speed_tg"`
				}
				require.NoError(b, json.Unmarshal(out[strings.Index(string(out), "{"):], &row))
				require.Positive(b, row.Rate)
				return row.Rate
			})
		})
	}
}

func peerEngine(b *testing.B, p engine.Params) (*engine.Engine, string) {
	model, err := hub.Pull(b.Context(), os.Getenv("LM_SANDBOX_BENCH_MODEL"), hub.Options{})
	require.NoError(b, err)
	p.NThreads = runtime.NumCPU()
	e, err := engine.Open(b.Context(), model.Path, p)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	return e, model.Path
}

func llamaBench(model string, prompt, output int) []string {
	bench, err := filepath.Abs("../../bin/peers/llama-bench")
	if err != nil {
		return nil
	}
	return []string{
		bench, "-m", model, "-p", strconv.Itoa(prompt), "-n", strconv.Itoa(output), "-r", strconv.Itoa(runsPerPair),
		"-t", strconv.Itoa(runtime.NumCPU()), "-o", "json",
	}
}

// compare alternates ours with each of theirs and reports the median of ours / the best of theirs, pair by pair. LM_SANDBOX_BENCH_PAIRS
// is the number of pairs that count (15); LM_SANDBOX_BENCH_FOREIGN the share of the machine that others may use in one.
func compare(b *testing.B, ours func() float64, argvs [][]string, theirs func(*testing.B, []string) float64) {
	pairs, foreign := 15, foreignAtMost
	if n, err := strconv.Atoi(os.Getenv("LM_SANDBOX_BENCH_PAIRS")); err == nil {
		pairs = n
	}
	if f, err := strconv.ParseFloat(os.Getenv("LM_SANDBOX_BENCH_FOREIGN"), 64); err == nil {
		foreign = f
	}
	for _, argv := range argvs {
		if _, err := os.Stat(argv[0]); err != nil {
			b.Fatalf("%v: run 'make peers' first", err)
		}
		b.Log(strings.Join(argv, " "))
	}
	ours() // warm-up
	for b.Loop() {
		var ratios, x, y []float64
		discarded := 0
		for i := 0; i < 3*pairs && len(ratios) < pairs; i++ {
			quiet := startCPUMeter(b)
			var a, best float64
			if i%2 == 0 { // who goes second finds the other's heat and caches
				a = ours()
			}
			for _, argv := range argvs {
				best = max(best, theirs(b, argv))
			}
			if i%2 == 1 {
				a = ours()
			}
			if quiet.foreign(b) > foreign {
				discarded++
				continue
			}
			ratios, x, y = append(ratios, a/best), append(x, a), append(y, best)
		}
		if len(ratios) < pairs {
			b.Fatalf("only %d quiet pairs out of %d: the machine is too busy to compare", len(ratios), 3*pairs)
		}
		lo, hi := medianInterval95(ratios)
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(lo, "ratio-low95")
		b.ReportMetric(hi, "ratio-high95")
		b.ReportMetric(median(x), "tokens/s")
		b.ReportMetric(median(y), "peer-tokens/s")
		b.ReportMetric(float64(discarded), "discarded-pairs")
	}
}
