package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	streams       = 8
	streamTokens  = 600 // more than they need until the newcomer has ended
	beforeArrival = 8   // pieces that each stream has sent then
	arrivalTokens = 2000
)

// paces are those at which ours is measured besides its default: what it can trade.
var paces = []string{"60ms", "120ms", "300ms", "500ms", "1200ms", "2s", "4s", "-1ns"}

func (b *bench) arrivalSettings() []setting {
	settings := []setting{ours(oursName)}
	for _, p := range paces {
		settings = append(settings, ours(oursName+" --pace="+p, "--pace="+p))
	}
	for _, batch := range []string{"64", "128", "256", "2048"} {
		settings = append(settings, b.llamaServer("-np 9 -c 27648 -b "+batch))
	}
	return settings
}

// arrival is a long prompt that comes while streams run.
func (b *bench) arrival(ctx context.Context, row string) error {
	return b.loads(ctx, row, b.arrivalSettings(), func(ctx context.Context, v *server) (metrics, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		chats := make([]chat, streams)
		for i := range chats {
			chats[i] = newChat(streamTokens, message{Role: "user", Content: text(uint64(200+i), askTokens)})
		}
		wait := startAll(ctx, v.url, chats, beforeArrival)
		newcomer, err := client{url: v.url}.ask(ctx, newChat(outputTokens, message{Role: "user", Content: text(300, arrivalTokens)}))
		cancel()
		answers, errs := wait()
		if err != nil {
			return nil, errors.Join(err, errors.Join(errs...))
		}
		for i, err := range errs {
			if !errors.Is(err, context.Canceled) || answers[i] == nil {
				return nil, fmt.Errorf("stream %d ended before the newcomer: %w", i, err)
			}
		}
		first := newcomer.deltas[0]
		return metrics{
			"newcomer": newcomer.first(), "longest gap": answers.longestGap(newcomer.start, first),
			"wall": newcomer.end.Sub(newcomer.start).Seconds(), "gap p99": quantile(answers.gapsWithin(newcomer.start, first), 0.99),
		}, nil
	})
}

// gapsWithin are the times between pieces of one stream that lie at least partly
// between from and to, in seconds.
func (c crowd) gapsWithin(from, to time.Time) []float64 {
	var gaps []float64
	for _, a := range c {
		for i := 1; i < len(a.deltas); i++ {
			if a.deltas[i].After(from) && a.deltas[i-1].Before(to) {
				gaps = append(gaps, a.deltas[i].Sub(a.deltas[i-1]).Seconds())
			}
		}
	}
	return gaps
}

// longestGap is the longest of them.
func (c crowd) longestGap(from, to time.Time) float64 {
	return slices.Max(append(c.gapsWithin(from, to), 0))
}

// gapAtSameTime compares for each setting of llama-server its longest gap with ours
// at the pace that gives the newcomer's time: between the paces that were measured,
// on the line.
func gapAtSameTime(d *data) figure {
	var paces []point
	for _, c := range d.of("arrival") {
		if x := median(c.values("newcomer")); strings.HasPrefix(c.Setting, oursName) && !math.IsNaN(x) {
			paces = append(paces, point{x, median(c.values("longest gap"))})
		}
	}
	var texts []string
	met := true
	for _, c := range d.of("arrival") {
		x, y := median(c.values("newcomer")), median(c.values("longest gap"))
		if strings.HasPrefix(c.Setting, oursName) || math.IsNaN(x) || len(paces) == 0 {
			continue
		}
		_, batch, _ := strings.Cut(c.Setting, "-b ")
		gap, ok := onLine(paces, x)
		if !ok {
			texts, met = append(texts, "`-b "+batch+"`: no pace is as quick"), false
			continue
		}
		texts, met = append(texts, fmt.Sprintf("`-b %s`: %.2f", batch, gap/y)), met && gap/y <= 0.8
	}
	return figure{text: strings.Join(texts, ", "), met: met}
}

type point struct{ x, y float64 }

// onLine is y at x on the line through the points; beyond the last one it is that
// one's, before the first one there is none.
func onLine(points []point, x float64) (y float64, ok bool) {
	p := slices.SortedFunc(slices.Values(points), func(a, b point) int { return int(math.Copysign(1, a.x-b.x)) })
	if x < p[0].x {
		return 0, false
	}
	for i := 1; i < len(p); i++ {
		if a, b := p[i-1], p[i]; x <= b.x {
			return a.y + (b.y-a.y)*(x-a.x)/(b.x-a.x), true
		}
	}
	return p[len(p)-1].y, true
}
