package llama_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// BenchmarkDecode generates 128 tokens in one sequence, greedy sampling included: what llama-bench calls tg128, without
// sampling there. It reports tokens/s. LLAMA_BENCH_THREADS sets the threads (llama-bench -t), else the physical cores are used.
func BenchmarkDecode(b *testing.B) {
	const n = 128
	threads, _ := strconv.Atoi(os.Getenv("LLAMA_BENCH_THREADS"))
	m := testModel(b, "default")
	c := newContext(b, m, llama.ContextParams{NCtx: n + 1, NThreads: benchThreads(threads)})
	s := newSampler(b, m, llama.SamplerParams{})
	batch := llama.NewBatch(1)
	rows := []llama.SampleRow{{Sampler: s}}
	runtime.LockOSThread() // OpenMP has a team of threads for each thread that computes
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Memory().Clear(); err != nil {
			b.Fatal(err)
		}
		tok := m.Vocab().BOS()
		for pos := range llama.Pos(n) {
			batch.Clear()
			if _, err := batch.Add(tok, pos, 0, true); err != nil {
				b.Fatal(err)
			}
			if err := c.DecodeSample(batch, rows); err != nil || rows[0].Err != nil {
				b.Fatal(err, rows[0].Err)
			}
			tok = rows[0].Token
		}
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

func benchThreads(n int) int {
	if n > 0 {
		return n
	}
	info, err := llama.SystemInfo()
	if err != nil {
		return 1
	}
	return info.NThreads
}

// BenchmarkDecodeOverhead is one step of a model that computes almost nothing: what Go, cgo and sampling add.
func BenchmarkDecodeOverhead(b *testing.B) {
	m := fixtureModel(b)
	c := newContext(b, m, llama.ContextParams{NCtx: 512})
	batch := llama.NewBatch(1)
	rows := []llama.SampleRow{{Sampler: newSampler(b, m, llama.SamplerParams{})}}
	b.ReportAllocs()
	pos := llama.Pos(0)
	for b.Loop() {
		if pos == 500 {
			b.StopTimer()
			if err := c.Memory().Clear(); err != nil {
				b.Fatal(err)
			}
			pos = 0
			b.StartTimer()
		}
		batch.Clear()
		if _, err := batch.Add(1, pos, 0, true); err != nil {
			b.Fatal(err)
		}
		if err := c.DecodeSample(batch, rows); err != nil || rows[0].Err != nil {
			b.Fatal(err, rows[0].Err)
		}
		pos++
	}
}

// BenchmarkSample is one sampling alone, by parameters.
func BenchmarkSample(b *testing.B) {
	m := testModel(b, "default")
	c := newContext(b, m, llama.ContextParams{NCtx: 64})
	toks, err := m.Vocab().Tokenize("The answer:", true, true)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Decode(batchOf(b, toks, 0, 0)); err != nil {
		b.Fatal(err)
	}
	for name, p := range map[string]llama.SamplerParams{
		"greedy": {}, "default": llama.DefaultSamplerParams(), "grammar": {Grammar: `root ::= [0-9]+`}, "temperature": {Temperature: 1, Seed: 1},
	} {
		b.Run(name, func(b *testing.B) {
			s := newSampler(b, m, p)
			for b.Loop() {
				if _, err := s.Sample(c, len(toks)-1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkApply renders a conversation of some length.
func BenchmarkApply(b *testing.B) {
	m := testModel(b, "default")
	c := chatTemplate(b, m, "")
	var r llama.ChatTemplateRequest
	for i := range 20 {
		r.Messages = append(r.Messages, llama.ChatMessage{Role: []string{"user", "assistant"}[i%2], Content: fmt.Sprintf("message %d of a talk", i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Apply(r); err != nil {
			b.Fatal(err)
		}
	}
}
