package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
	"github.com/lm-sandbox/lm-sandbox/llama/engine"
)

const (
	cancelTries    = 100
	cancelSpans    = 20 // with and without, in turn: streams slow down as they grow
	cancelSpan     = 500 * time.Millisecond
	cancelInterval = 10 * time.Millisecond
)

// cancelNeighbours are how many others generate while a request is cancelled.
var cancelNeighbours = []int{0, clients - 1}

// cancel is the time from the cancellation of a request until its last output, and until its iterator has ended, when its
// cells are free; and what seven streams keep of their speed while another client cancels a hundred requests a second.
func (b *bench) cancel(ctx context.Context, row string) (err error) {
	e, err := b.open(ctx, clients)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return b.repeat(ctx, row, nil, func(ctx context.Context) (metrics, error) {
		m := metrics{}
		for _, n := range cancelNeighbours {
			if err := cancelBeside(ctx, e, n, m); err != nil {
				return nil, err
			}
		}
		kept, err := cancelCost(ctx, e)
		m["kept"] = kept
		return m, errors.Join(err, ctx.Err()) // the bench itself may have been stopped
	})
}

func cancelBeside(ctx context.Context, e *engine.Engine, neighbours int, m metrics) error {
	_, stop := endlessStreams(ctx, e, neighbours)
	var silent, free []float64
	var err error
	for i := 0; i < cancelTries && err == nil; i++ {
		var s, f time.Duration
		s, f, err = cancelOne(ctx, e, time.Duration(i%10)*time.Millisecond)
		silent, free = append(silent, s.Seconds()*1e3), append(free, f.Seconds()*1e3)
	}
	for name, v := range map[string][]float64{"silent": silent, "free": free} {
		m[fmt.Sprintf("%s p50 %d", name, neighbours)], m[fmt.Sprintf("%s p99 %d", name, neighbours)] = median(v), quantile(v, 0.99)
	}
	return errors.Join(err, stop())
}

// stream is a request that is longer than it takes to cancel it, and so short that all find room in the context.
func stream() engine.Request {
	return engine.Request{Tokens: []llama.Token{1}, MaxTokens: 256, IgnoreEOS: true, Sampling: &llama.SamplerParams{}}
}

// cancelOne cancels a request some time after its fourth token.
func cancelOne(ctx context.Context, e *engine.Engine, later time.Duration) (silent, free time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var at, last time.Time
	tokens := 0
	for d, err := range e.Generate(ctx, stream()) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				return 0, 0, err
			}
			break
		}
		last = time.Now()
		if tokens += len(d.Tokens); tokens > 4 && at.IsZero() {
			at = last.Add(later) // anywhere in a step
			defer time.AfterFunc(later, cancel).Stop()
		}
	}
	return max(0, last.Sub(at)), max(0, time.Since(at)), nil
}

// endlessStreams runs one request after the other in so many streams, whose tokens it counts, until stop; it returns when all of them generate.
func endlessStreams(ctx context.Context, e *engine.Engine, n int) (tokens *atomic.Int64, stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	tokens = &atomic.Int64{}
	errs := make([]error, n)
	var begun, all sync.WaitGroup
	begun.Add(n)
	for i := range n {
		all.Go(func() {
			once := sync.OnceFunc(begun.Done)
			defer once()
			for ctx.Err() == nil && errs[i] == nil {
				for d, err := range e.Generate(ctx, stream()) {
					if err != nil && ctx.Err() == nil {
						errs[i] = err
					}
					once()
					tokens.Add(int64(len(d.Tokens)))
				}
			}
		})
	}
	begun.Wait()
	return tokens, func() error {
		cancel()
		all.Wait()
		return errors.Join(errs...)
	}
}

// cancelCost is the speed of seven streams beside somebody who cancels, of that beside nobody.
func cancelCost(ctx context.Context, e *engine.Engine) (float64, error) {
	tokens, stop := endlessStreams(ctx, e, 7)
	sums := map[bool]float64{}
	for i := range cancelSpans {
		cancels := i%4 == 1 || i%4 == 2
		sums[cancels] += tokensOf(ctx, e, tokens, cancels)
	}
	return sums[true] / sums[false], stop()
}

// tokensOf counts tokens/s for a while, and cancels meanwhile.
func tokensOf(ctx context.Context, e *engine.Engine, tokens *atomic.Int64, cancels bool) float64 {
	var all sync.WaitGroup
	defer all.Wait()
	before, start := tokens.Load(), time.Now()
	tick := time.NewTicker(cancelInterval)
	defer tick.Stop()
	for time.Since(start) < cancelSpan {
		<-tick.C
		if !cancels {
			continue
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, cancelInterval/2)
			defer cancel()
			for _, err := range e.Generate(ctx, stream()) {
				if err != nil {
					return
				}
			}
		})
	}
	return float64(tokens.Load()-before) / time.Since(start).Seconds()
}
