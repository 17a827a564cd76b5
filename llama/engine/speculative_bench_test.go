package engine_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

// inventory is the named repetitive task: a JSON list is to be repeated.
func inventory() string {
	var b strings.Builder
	for i, name := range []string{"hammer", "screwdriver", "wrench", "drill", "saw", "pliers", "chisel", "level"} {
		fmt.Fprintf(&b, `{"id": %d, "name": "%s", "price": %d.50, "stock": %d}`+"\n", 101+i, name, 12+3*i, 40-2*i)
	}
	return "Inventory:\n" + b.String() + "\nThe same inventory, repeated without changes:\n" + strings.SplitAfter(b.String(), "\n")[0]
}

const prose = "The old lighthouse keeper had not spoken to anyone for three weeks when the boat came. He put down his book,"

// BenchmarkSpeculative alternates engines that guess and that do not, and reports the
// median of the ratios of their times (above 1: guessing is faster), the ratio of the
// processor time, which a busy machine disturbs less, what share of the requests has
// another output, and of the guesses that were right. LM_DRAFT names a
// draft model's file, LM_THREADS the number of threads.
func BenchmarkSpeculative(b *testing.B) {
	threads := runtime.NumCPU()
	if n, err := strconv.Atoi(os.Getenv("LM_THREADS")); err == nil {
		threads = n
	}
	how := engine.Speculative{NGram: 3}
	if path := os.Getenv("LM_DRAFT"); path != "" {
		how = engine.Speculative{DraftModel: path}
	}
	for _, task := range []struct{ name, prompt string }{{"inventory", inventory()}, {"prose", prose}} {
		b.Run(task.name, func(b *testing.B) {
			p := engine.Params{NCtx: 2048, MaxSequences: 1, NThreads: threads}
			plain := newEngine(b, p)
			p.Speculative = how
			guessing := newEngine(b, p)
			var ratios []float64
			var processor [2]time.Duration
			requests, differ := 0, 0
			for b.Loop() {
				r := engine.Request{Prompt: task.prompt, MaxTokens: 160, IgnoreEOS: true, Sampling: greedy()}
				if task.name == "prose" {
					r.Prompt += strings.Repeat(" again", requests%5) // other texts
				}
				var took [2]time.Duration
				var answers [2]answer
				for i, e := range []*engine.Engine{plain, guessing} {
					begin := processorTime(b)
					answers[i] = generate(b, e, r)
					processor[i] += processorTime(b) - begin
					took[i] = answers[i].result.Timings.Decode
				}
				ratios = append(ratios, float64(took[0])/float64(took[1]))
				requests++
				if !slices.Equal(answers[0].tokens, answers[1].tokens) {
					differ++
				}
			}
			slices.Sort(ratios)
			s := guessing.Stats()
			b.ReportMetric(ratios[len(ratios)/2], "speed-up")
			b.ReportMetric(float64(processor[0])/float64(processor[1]), "speed-up-cpu")
			b.ReportMetric(float64(differ)/float64(requests), "differ")
			b.ReportMetric(float64(s.Accepted)/max(1, float64(s.Drafted)), "accepted")
			b.ReportMetric(float64(s.Drafted)/float64(s.OutputTokens), "drafted/token")
		})
	}
}

// processorTime is what this process has used of processors.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
