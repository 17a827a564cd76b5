package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
	"github.com/lm-sandbox/lm-sandbox/llama/hub"
)

const (
	pairsWanted   = 61  // pairs that count
	pairsAtMost   = 183 // bound of the loop on a busy machine
	runsPerPair   = 1   // of each side: the shorter a pair, the less the machine changes within it
	tokensPerRun  = 128 // llama-bench's tg128
	foreignAtMost = 0.04
)

// BenchmarkDecodeVsLlamaBench compares one stream through the engine, sampling
// included, with `llama-bench -n 128` of the same tree, which samples nothing.
// The two alternate, so that a slow phase of the machine hits both, and a pair
// during which other processes used more than 4 % of the machine is discarded.
// It reports the median of ratio = ours / llama-bench (higher is better) and
// the bounds of its 95 % interval by order statistics.
//
// LM_SANDBOX_BENCH_MODEL names another model than the default one.
func BenchmarkDecodeVsLlamaBench(b *testing.B) {
	bench, err := filepath.Abs("../../bin/peers/llama-bench")
	require.NoError(b, err)
	if _, err := os.Stat(bench); err != nil {
		b.Fatalf("%v: run 'make peers' first", err)
	}
	model, err := hub.Pull(b.Context(), os.Getenv("LM_SANDBOX_BENCH_MODEL"), hub.Options{})
	require.NoError(b, err)
	threads := runtime.NumCPU()
	e, err := engine.Open(b.Context(), model.Path, engine.Params{NCtx: 512, MaxSequences: 1, NThreads: threads})
	require.NoError(b, err)
	defer e.Close()
	argv := []string{bench, "-m", model.Path, "-p", "0", "-n", strconv.Itoa(tokensPerRun), "-r", strconv.Itoa(runsPerPair), "-t", strconv.Itoa(threads), "-o", "json"}
	b.Log(strings.Join(argv, " "))

	ours(b, e) // warm-up: pages of the weights, the graph's buffers
	for b.Loop() {
		var ratios, oursAll, theirsAll []float64
		discarded := 0
		for i := 0; i < pairsAtMost && len(ratios) < pairsWanted; i++ {
			quiet := startCPUMeter(b)
			var x, y float64
			if i%2 == 0 { // who goes second finds the other's heat and caches
				x, y = ours(b, e), theirs(b, argv)
			} else {
				y, x = theirs(b, argv), ours(b, e)
			}
			if foreign := quiet.foreign(b); foreign > foreignAtMost {
				discarded++
				continue
			}
			ratios, oursAll, theirsAll = append(ratios, x/y), append(oursAll, x), append(theirsAll, y)
		}
		if len(ratios) < pairsWanted {
			b.Fatalf("only %d quiet pairs out of %d: the machine is too busy to compare", len(ratios), pairsAtMost)
		}
		lo, hi := medianInterval95(ratios)
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(lo, "ratio-low95")
		b.ReportMetric(hi, "ratio-high95")
		b.ReportMetric(median(oursAll), "tokens/s")
		b.ReportMetric(median(theirsAll), "llama-bench-tokens/s")
		b.ReportMetric(float64(discarded), "discarded-pairs")
	}
}

// ours generates tokensPerRun tokens from a prompt of one token, runsPerPair
// times: as many decodes of one token each as in llama-bench. It returns
// tokens/s of wall time, all of Generate included.
func ours(b *testing.B, e *engine.Engine) float64 {
	req := engine.Request{
		Tokens:    []llama.Token{e.Model().Vocab().BOS()},
		MaxTokens: tokensPerRun, IgnoreEOS: true, Sampling: &llama.SamplerParams{},
	}
	start := time.Now()
	for range runsPerPair {
		var res *engine.Result
		for d, err := range e.Generate(context.Background(), req) {
			require.NoError(b, err)
			res = d.Result
		}
		require.NotNil(b, res)
		require.Equal(b, tokensPerRun, res.Usage.Output)
	}
	return runsPerPair * tokensPerRun / time.Since(start).Seconds()
}

// theirs runs llama-bench and returns its tokens/s, which leave the load and the
// warm-up out.
func theirs(b *testing.B, argv []string) float64 {
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.Output()
	require.NoError(b, err)
	var rows []struct {
		NGen  int     `json:"n_gen"`
		AvgTS float64 `json:"avg_ts"`
	}
	require.NoError(b, json.Unmarshal(out, &rows))
	require.Len(b, rows, 1)
	require.Equal(b, tokensPerRun, rows[0].NGen)
	return rows[0].AvgTS
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// medianInterval95 is the distribution-free interval of the median: order
// statistics at n/2 ± 0.98·√n.
func medianInterval95(v []float64) (lo, hi float64) {
	s := slices.Sorted(slices.Values(v))
	n := float64(len(s))
	d := 0.98 * math.Sqrt(n)
	return s[max(0, int(math.Floor(n/2-d)))], s[min(len(s)-1, int(math.Ceil(n/2+d)))]
}

// cpuMeter tells how much of the machine other processes used, as a share of
// all its cores.
type cpuMeter struct {
	busy, own float64
	start     time.Time
}

func startCPUMeter(b *testing.B) cpuMeter {
	return cpuMeter{busy: busySeconds(b), own: ownSeconds(b), start: time.Now()}
}

func (m cpuMeter) foreign(b *testing.B) float64 {
	others := (busySeconds(b) - m.busy) - (ownSeconds(b) - m.own)
	return max(0, others) / (time.Since(m.start).Seconds() * float64(runtime.NumCPU()))
}

// busySeconds is the CPU time that all processes of the machine have used,
// with what the hypervisor took away (proc_stat(5)).
func busySeconds(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/stat")
	require.NoError(b, err)
	line, _, _ := strings.Cut(string(data), "\n")
	var user, nice, system, idle, iowait, irq, softirq, steal float64
	_, err = fmt.Sscanf(line, "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal)
	require.NoError(b, err)
	const userHZ = 100
	return (user + nice + system + irq + softirq + steal) / userHZ
}

// ownSeconds is the CPU time of this process and of its finished children.
func ownSeconds(b *testing.B) float64 {
	total := 0.0
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		require.NoError(b, syscall.Getrusage(who, &ru))
		total += time.Duration(ru.Utime.Nano() + ru.Stime.Nano()).Seconds()
	}
	return total
}
