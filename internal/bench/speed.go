package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

const (
	decodeTokens  = 128 // llama-bench's tg128
	prefillTokens = 512 // its pp512
)

// open makes an engine in this process, as 'serve' does.
func (b *bench) open(ctx context.Context, sequences int) (*engine.Engine, error) {
	return engine.Open(ctx, b.model, engine.Params{MaxSequences: sequences})
}

func (b *bench) benchArgv(args ...string) []string {
	return append([]string{"bin/peers/llama-bench", "-m", b.model, "-t", strconv.Itoa(b.threads), "-r", "1", "-o", "json"}, args...)
}

// runBench runs llama-bench, whose tokens/s leave the load and a warm-up out.
func runBench(ctx context.Context, argv []string) (float64, error) {
	out, err := output(ctx, argv)
	if err != nil {
		return 0, err
	}
	return parseBench(out)
}

func parseBench(out []byte) (float64, error) {
	var rows []struct {
		AvgTS float64 `json:"avg_ts"`
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		return 0, err
	}
	if len(rows) != 1 || rows[0].AvgTS <= 0 {
		return 0, fmt.Errorf("llama-bench printed\n%s", tail(out))
	}
	return rows[0].AvgTS, nil
}

const (
	sampledGreedy  = "greedy"
	sampledDefault = "default samplers"
	sampledNot     = "no sampling"
)

// decode is one stream: through the engine with the greedy sampler and with
// llama.cpp's default ones, and llama.Context alone, which samples nothing.
func (b *bench) decode(ctx context.Context, row string) (err error) {
	e, err := b.open(ctx, clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	bare, err := llama.NewContext(e.Model(), llama.ContextParams{NCtx: 512, KVUnified: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	bos := e.Model().Vocab().BOS()
	sampled := llama.DefaultSamplerParams()
	us := side{name: oursName, run: func(ctx context.Context) (metrics, error) {
		greedy, err := generate(ctx, e, []llama.Token{bos}, decodeTokens, &llama.SamplerParams{})
		if err != nil {
			return nil, err
		}
		usual, err := generate(ctx, e, []llama.Token{bos}, decodeTokens, &sampled)
		if err != nil {
			return nil, err
		}
		rest()
		none, err := decodeBare(bare, bos)
		return metrics{sampledGreedy: greedy.speed(), sampledDefault: usual.speed(), sampledNot: none}, err
	}}
	argv := b.benchArgv("-p", "0", "-n", strconv.Itoa(decodeTokens))
	them := side{"llama-bench", argv, func(ctx context.Context) (metrics, error) {
		// Once for each of ours, so that the machine changes as little as can be.
		m := metrics{}
		for _, k := range []string{sampledGreedy, sampledDefault, sampledNot} {
			x, err := runBench(ctx, argv)
			if err != nil {
				return nil, err
			}
			m[k] = x
		}
		return m, nil
	}}
	if _, err := us.run(ctx); err != nil { // warm-up
		return err
	}
	return b.compare(ctx, row, us, them)
}

// decodeBare is tokens/s of the decodes that llama-bench does.
func decodeBare(c *llama.Context, token llama.Token) (speed float64, err error) {
	batch := llama.NewBatch(1)
	defer func() { err = errors.Join(err, batch.Close()) }()
	if err := c.Memory().Clear(); err != nil {
		return 0, err
	}
	start := time.Now()
	for i := range decodeTokens {
		batch.Clear()
		if _, err := batch.Add(token, llama.Pos(i), 0, true); err != nil {
			return 0, err
		}
		if err := c.Decode(batch); err != nil {
			return 0, err
		}
	}
	return decodeTokens / time.Since(start).Seconds(), nil
}

// prefill is the time to the first token of a prompt that nobody has asked before.
func (b *bench) prefill(ctx context.Context, row string) (err error) {
	e, err := b.open(ctx, clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	random := rand.New(rand.NewPCG(1, 1))
	n := e.Model().Vocab().NTokens()
	us := side{name: oursName, run: func(ctx context.Context) (metrics, error) {
		prompt := make([]llama.Token, prefillTokens)
		for i := range prompt {
			prompt[i] = llama.Token(random.IntN(n))
		}
		g, err := generate(ctx, e, prompt, 1, &llama.SamplerParams{})
		if err != nil {
			return nil, err
		}
		return metrics{"pp512": prefillTokens / g.first.Sub(g.start).Seconds()}, nil
	}}
	argv := b.benchArgv("-p", strconv.Itoa(prefillTokens), "-n", "0")
	them := side{"llama-bench", argv, func(ctx context.Context) (metrics, error) {
		x, err := runBench(ctx, argv)
		return metrics{"pp512": x}, err
	}}
	if _, err := us.run(ctx); err != nil { // warm-up
		return err
	}
	return b.compare(ctx, row, us, them)
}

const (
	streamPrompt = 64
	streamOutput = 64
)

var streamCounts = []int{2, 4, 8, 16, 32}

func streamsFigure(n int) string { return fmt.Sprintf("%d streams", n) }

// parallel is the decode of several streams at once, in both layouts of
// llama-batched-bench.
func (b *bench) parallel(ctx context.Context, row string) (err error) {
	most := streamCounts[len(streamCounts)-1]
	e, err := b.open(ctx, most)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	us := side{name: oursName, run: func(ctx context.Context) (metrics, error) {
		m := metrics{}
		for _, n := range streamCounts {
			x, err := generateAll(ctx, e, n, streamPrompt, streamOutput)
			if err != nil {
				return nil, err
			}
			m[streamsFigure(n)] = x
		}
		return m, nil
	}}
	var others []side
	for _, layout := range []string{"-kvu", "-no-kvu"} {
		argv := b.batchedArgv(fmt.Sprintf("-npp %d -ntg %d -npl 2,4,8,16,32 -c %d %s", streamPrompt, streamOutput, most*(streamPrompt+streamOutput), layout))
		others = append(others, side{layout, argv, func(ctx context.Context) (metrics, error) {
			results, err := runBatched(ctx, argv)
			m := metrics{}
			for _, r := range results {
				m[streamsFigure(r.Streams)] = r.DecodeSpeed
			}
			return m, err
		}})
	}
	return b.compare(ctx, row, us, others...)
}

// generateAll runs n streams whose prompts begin differently, and returns the tokens/s
// of all from when the last one has begun until the first one ends.
func generateAll(ctx context.Context, e *engine.Engine, n, prompt, output int) (float64, error) {
	runs, errs := make([]generated, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		tokens := make([]llama.Token, prompt)
		for j := range tokens {
			tokens[j] = llama.Token(1000 + 100*i + j)
		}
		all.Go(func() { runs[i], errs[i] = generate(ctx, e, tokens, output, &llama.SamplerParams{}) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	from, to := runs[0].first, runs[0].last
	for _, g := range runs {
		from, to = later(from, g.first), earlier(to, g.last)
	}
	tokens := 0
	for _, g := range runs {
		for _, d := range g.deltas {
			if d.at.After(from) && !d.at.After(to) {
				tokens += d.tokens
			}
		}
	}
	return float64(tokens) / to.Sub(from).Seconds(), nil
}

// generated says when the tokens of a request came.
type generated struct {
	start, first, last time.Time
	deltas             []delta
	output             int
}

type delta struct {
	at     time.Time
	tokens int
}

// speed is tokens/s of all of the request, whose prompt is one token.
func (g generated) speed() float64 { return float64(g.output) / g.last.Sub(g.start).Seconds() }

func generate(ctx context.Context, e *engine.Engine, prompt []llama.Token, tokens int, sampling *llama.SamplerParams) (generated, error) {
	g := generated{start: time.Now(), deltas: make([]delta, 0, tokens)}
	for d, err := range e.Generate(ctx, engine.Request{Tokens: prompt, MaxTokens: tokens, IgnoreEOS: true, Sampling: sampling}) {
		if err != nil {
			return g, err
		}
		if n := len(d.Tokens); n > 0 {
			g.deltas = append(g.deltas, delta{time.Now(), n})
			g.output += n
		}
	}
	if g.output != tokens {
		return g, fmt.Errorf("%d tokens instead of %d", g.output, tokens)
	}
	g.first, g.last = g.deltas[0].at, g.deltas[len(g.deltas)-1].at
	return g, nil
}

// isolated compares the engine in a worker process with the one in this process.
func (b *bench) isolated(ctx context.Context, row string) (err error) {
	var sides []side
	for _, isolated := range []bool{true, false} {
		e, openErr := engine.Open(ctx, b.model, engine.Params{MaxSequences: clients, Isolated: isolated})
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		name := "in-process"
		if isolated {
			name = oursName
		}
		sides = append(sides, side{name: name, run: func(ctx context.Context) (metrics, error) {
			one, err := generate(ctx, e, []llama.Token{1}, decodeTokens, &llama.SamplerParams{})
			if err != nil {
				return nil, err
			}
			many, err := generateAll(ctx, e, clients, streamPrompt, streamOutput)
			return metrics{"1 stream": one.speed(), streamsFigure(clients): many}, err
		}})
	}
	for _, s := range sides {
		if _, err := s.run(ctx); err != nil { // warm-up
			return err
		}
	}
	return b.compare(ctx, row, sides[0], sides[1:]...)
}
