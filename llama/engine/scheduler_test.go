package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLoopComputesShortPromptsFirst: a short request that comes while a long
// prompt is computed is in the very next step, whole.
func TestLoopComputesShortPromptsFirst(t *testing.T) {
	d := newFakeDecoder(t, 500)
	d.noEOG = true
	steps := make(chan map[*sequence]int)
	d.order = func(feeds []feed) {
		step := map[*sequence]int{}
		for _, f := range feeds {
			step[f.seq] = f.n
		}
		steps <- step
	}
	l := startLoop(t, d, 16, 4)
	r := rand.New(rand.NewPCG(11, 11))
	long, longer := newTestSequence(randomPrompt(r, 120), 122), newTestSequence(randomPrompt(r, 121), 123)
	short := newTestSequence(randomPrompt(r, 6), 9)
	l.submit(long)
	require.Equal(t, map[*sequence]int{long: 16}, <-steps)
	l.submit(longer)
	l.submit(short)
	require.Equal(t, map[*sequence]int{short: 6, long: 10}, nextWith(steps, short))
	require.Equal(t, map[*sequence]int{short: 1, long: 15}, <-steps)
	go func() {
		for range steps {
		}
	}()
	for _, s := range []*sequence{short, long, longer} {
		<-s.retired
		require.NoError(t, s.err)
	}
	l.close()
	close(steps)
}

// nextWith skips the steps without a sequence.
func nextWith(steps <-chan map[*sequence]int, seq *sequence) map[*sequence]int {
	for step := range steps {
		if step[seq] > 0 {
			return step
		}
	}
	return nil
}

// TestLoopStarvesNoLongPrompt: short prompts that fill every step and never
// cease overtake a long one only so far.
func TestLoopStarvesNoLongPrompt(t *testing.T) {
	const batch, n = 16, 100
	d := newFakeDecoder(t, 500)
	d.noEOG = true
	r := rand.New(rand.NewPCG(12, 12))
	long := newTestSequence(randomPrompt(r, n), n+1)
	overtaking, done := 0, false
	d.order = func(feeds []feed) {
		for _, f := range feeds {
			switch {
			case f.seq == long:
				done = f.sample
			case !done:
				overtaking += f.n
			}
		}
	}
	d.gate = make(chan struct{})
	l := startLoop(t, d, batch, 2)
	l.submit(long)
	var shorts []*sequence
	for range 60 {
		s := newTestSequence(randomPrompt(r, batch), batch+1)
		shorts = append(shorts, s)
		l.submit(s)
	}
	close(d.gate)
	for _, s := range append(shorts, long) {
		<-s.retired
		require.NoError(t, s.err)
	}
	require.GreaterOrEqual(t, overtaking, n-2*batch, "short ones go first") // a first step may be planned before they arrive
	require.LessOrEqual(t, overtaking, n+2*batch, "but not for ever")
}

// TestAlternate: where attention is computed in tiles, those who generate and long
// prompts take turns, and a step too small for a tile holds both.
func TestAlternate(t *testing.T) {
	s := newScheduler(4000, 512, 4, -1, noMemory{})
	s.apart = true
	r := rand.New(rand.NewPCG(12, 12))
	step := func() (generated, prompt int) {
		feeds := s.plan(nil, time.Now())
		require.NotEmpty(t, feeds)
		if slices.ContainsFunc(s.running, func(seq *sequence) bool { return seq.pending() > 1 }) {
			require.Equal(t, 1, s.steps(feeds, 16), "a prompt waits")
		}
		for _, f := range feeds {
			if f.n == 1 {
				generated++
			} else {
				prompt += f.n
			}
			if f.seq.past += f.n; f.sample {
				f.seq.tokens = append(f.seq.tokens, 1)
			}
		}
		s.observe(time.Duration(prompt+1)*time.Millisecond, prompt, generated > 0)
		return generated, prompt
	}
	submit := func(n int) {
		seq := newTestSequence(randomPrompt(r, n), n+100)
		seq.pace = 200 * time.Millisecond
		s.submit(seq)
	}
	submit(600)
	_, prompt := step()
	require.Equal(t, 512, prompt, "nobody waits")
	step()
	submit(600)
	for range 3 {
		generated, prompt := step()
		require.Equal(t, 1, generated)
		require.Zero(t, prompt)
		generated, prompt = step()
		require.Zero(t, generated)
		require.Positive(t, prompt)
		require.Zero(t, prompt%tile)
	}
	for s.running[1].pending() > 1 {
		step()
	}
	submit(20)
	generated, prompt := step()
	require.Equal(t, 2, generated)
	require.Equal(t, 20, prompt)
}

// TestAlternateOfGroups: the turns of one group of adapters are not those of another.
func TestAlternateOfGroups(t *testing.T) {
	s := newScheduler(8000, 128, 4, -1, noMemory{})
	s.apart = true
	r := rand.New(rand.NewPCG(13, 13))
	submit := func(n int, adapters string) *sequence {
		seq := newTestSequence(randomPrompt(r, n), n+100)
		seq.key.adapters = adapters
		s.submit(seq)
		return seq
	}
	one, other := submit(10, "a"), submit(10, "b")
	long := submit(3000, "a")
	for range 40 {
		feeds := s.plan(nil, time.Now())
		require.NotEmpty(t, feeds)
		prompt, generated := 0, false
		for _, f := range feeds {
			if f.n > 1 {
				prompt += f.n
			} else {
				generated = true
			}
			if f.seq.past += f.n; f.sample {
				f.seq.tokens = append(f.seq.tokens, 1)
			}
		}
		s.observe(time.Millisecond, prompt, generated)
	}
	require.Greater(t, one.length(), 8)
	require.Greater(t, other.length(), 15)
	require.Greater(t, long.past, 8*64)
	for i := range 50 { // each with a scale of its own
		seq := submit(40, fmt.Sprint(i))
		for seq.state == waiting {
			s.plan(nil, time.Now())
		}
		s.groups.now = seq.key.adapters
		s.observe(time.Millisecond, 40, false)
		s.retire(seq, false)
	}
	s.plan(nil, time.Now())
	require.LessOrEqual(t, len(s.prompted), len(s.running), "who has gone is forgotten")
}
