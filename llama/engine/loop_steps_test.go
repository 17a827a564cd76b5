package engine

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// gated is a loop whose steps wait for a value in the gate, and which computes
// as many of them together as it may. Each step sends its number of sequences.
func gated(t *testing.T) (l *loop, d *fakeDecoder, steps chan int) {
	d = newFakeDecoder(t, 200)
	d.gate, d.noEOG = make(chan struct{}), true
	steps = make(chan int, 100)
	d.order = func(feeds []feed) { steps <- len(feeds) }
	l = newLoop(d, newScheduler(d.cells, 32, 4, -1, d), func(tok llama.Token) bool { return tok == fakeEOG }, slog.New(slog.DiscardHandler))
	l.together = time.Hour
	go l.run()
	t.Cleanup(l.close)
	return l, d, steps
}

// returns counts how often the loop has come back to Go.
func (d *fakeDecoder) returned() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.returns
}

func TestLoopStepsTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	prompt := randomPrompt(r, 3)

	t.Run("a lone sequence", func(t *testing.T) {
		l, d, _ := gated(t)
		s := newTestSequence(prompt, 40)
		l.submit(s)
		close(d.gate)
		<-s.retired
		require.Equal(t, FinishLength, s.reason)
		require.Len(t, outputOf(s), 37)
		require.Equal(t, 37, d.steps, "no step too many")
		require.Equal(t, 1+3, d.returned(), "the prompt, and 36 steps in groups of at most 16")
		l.mu.Lock()
		defer l.mu.Unlock()
		require.EqualValues(t, 37, l.counts.steps)
	})
	t.Run("who arrives waits for one step", func(t *testing.T) {
		l, d, steps := gated(t)
		a := newTestSequence(prompt, 100)
		l.submit(a)
		d.gate <- struct{}{} // the prompt
		<-steps
		require.Equal(t, 1, <-steps)
		b := newTestSequence(randomPrompt(r, 5), 20)
		l.submit(b)
		d.gate <- struct{}{}
		require.Equal(t, 2, <-steps)
		close(d.gate)
		<-b.retired
		<-a.retired
		require.Len(t, outputOf(a), 97)
		require.Len(t, outputOf(b), 15)
	})
	t.Run("who leaves leaves after one step", func(t *testing.T) {
		l, d, steps := gated(t)
		a, b := newTestSequence(prompt, 100), newTestSequence(prompt, 100)
		l.submit(a)
		l.submit(b)
		sequences := 0
		for sequences != 2 || d.returned() < 3 { // both generate
			sequences = <-steps
			if sequences != 2 || d.returned() < 3 {
				d.gate <- struct{}{}
			}
		}
		l.cancel(a)
		d.gate <- struct{}{}
		<-a.retired
		require.Equal(t, FinishCancelled, a.reason)
		close(d.gate)
		<-b.retired
		require.Len(t, outputOf(b), 97)
	})
}
