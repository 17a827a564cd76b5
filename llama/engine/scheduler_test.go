package engine

import (
	"math/rand/v2"
	"testing"

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
