package engine

import "time"

const (
	defaultPace = 800 * time.Millisecond
	// leastPrompt is what a step computes of prompts however long it takes: fewer
	// tokens at once cost nearly as much.
	leastPrompt = 32
	// firstPrompt is tried before anything has been measured.
	firstPrompt = 128
	// fade is the weight of a step when the next one comes.
	fade = 0.8
)

// pace finds how many tokens of prompts fit into a step of a given time, so that
// those who generate do not wait longer for their next token. A prompt token
// costs more the more tokens are before it: cost = a + b × position, a weighted
// regression over the last steps.
type pace struct {
	decode          float64 // seconds of a step without prompts
	w, x, y, xx, xy float64 // sums over tokens: weight, position where the step begins, seconds per token
}

// observe takes a step that has been computed: so many tokens of prompts, and
// whether others generated in it.
func (p *pace) observe(took time.Duration, prompt int, generated bool, at int) {
	t := took.Seconds()
	if prompt == 0 {
		if p.decode > 0 {
			t = fade*p.decode + (1-fade)*t
		}
		p.decode = t
		return
	}
	w, x := float64(prompt), float64(at)
	if generated {
		t = max(0, t-p.decode)
	}
	y := t / w
	p.w, p.x, p.y = fade*p.w+w, fade*p.x+w*x, fade*p.y+w*y
	p.xx, p.xy = fade*p.xx+w*x*x, fade*p.xy+w*x*y
}

// tokens is how many fit behind the position at, at most most.
func (p *pace) tokens(target time.Duration, at, most int) int {
	if p.w == 0 {
		return min(firstPrompt, most)
	}
	mean, slope := p.y/p.w, 0.0
	if spread := p.w*p.xx - p.x*p.x; spread > 1e-6*p.xx*p.w {
		slope = max(0, (p.w*p.xy-p.x*p.y)/spread)
	}
	// The line passes the mean; far from it a noisy slope is not to lead below half.
	cost := max(mean/2, mean+slope*(float64(at)-p.x/p.w))
	if cost <= 0 {
		return most
	}
	n := (target.Seconds() - p.decode) / cost
	return min(most, int(max(leastPrompt, min(n, float64(most)))))
}
