package main

import (
	"context"
	"sync"
)

// crowd are the answers to requests that were sent at once.
type crowd []*answer

// askAll sends all at once and waits for the last answer.
func (cl client) askAll(ctx context.Context, chats []chat) (crowd, error) {
	answers, errs := make(crowd, len(chats)), make([]error, len(chats))
	var all sync.WaitGroup
	for i := range chats {
		all.Go(func() { answers[i], errs[i] = cl.ask(ctx, chats[i]) })
	}
	all.Wait()
	for _, err := range errs { // they mostly fail alike
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// startAll sends all at once and returns when each stream has sent so many pieces, or
// has failed. wait is for the answers; those of streams that were cancelled are there
// too, beside their errors.
func startAll(ctx context.Context, url string, chats []chat, pieces int) (wait func() (crowd, []error)) {
	answers, errs := make(crowd, len(chats)), make([]error, len(chats))
	var begun, all sync.WaitGroup
	begun.Add(len(chats))
	for i := range chats {
		all.Go(func() {
			once := sync.OnceFunc(begun.Done)
			defer once()
			cl := client{url: url, seen: func(n int) {
				if n == pieces {
					once()
				}
			}}
			answers[i], errs[i] = cl.ask(ctx, chats[i])
		})
	}
	begun.Wait()
	return func() (crowd, []error) {
		all.Wait()
		return answers, errs
	}
}

// wall is the time from the first request to the end of the last answer.
func (c crowd) wall() float64 {
	start, end := c[0].start, c[0].end
	for _, a := range c {
		if a.start.Before(start) {
			start = a.start
		}
		if a.end.After(end) {
			end = a.end
		}
	}
	return end.Sub(start).Seconds()
}

// gaps are those of all streams.
func (c crowd) gaps() []float64 {
	var gaps []float64
	for _, a := range c {
		gaps = append(gaps, a.gaps()...)
	}
	return gaps
}

// measures adds the figures of the crowd, each name behind the phase's.
func (c crowd) measures(m metrics, phase string) {
	var first []float64
	computed, cached := 0, 0
	for _, a := range c {
		first = append(first, a.first())
		computed += a.timings.PromptN
		cached += a.timings.CacheN
	}
	m[phase+" wall"] = c.wall()
	m[phase+" first p50"] = median(first)
	m[phase+" gap p99"] = quantile(c.gaps(), 0.99)
	m[phase+" computed"] = float64(computed)
	m[phase+" cached"] = float64(cached)
}
