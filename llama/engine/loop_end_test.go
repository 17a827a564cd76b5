package engine

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

func TestLoopFinish(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))

	t.Run("while waiting", func(t *testing.T) {
		d := newFakeDecoder(t, 50)
		d.gate = make(chan struct{})
		l := startLoop(t, d, 8, 1)
		first, second := newTestSequence(randomPrompt(r, 3), 5), newTestSequence(randomPrompt(r, 3), 5)
		l.submit(first)
		l.submit(second)
		l.cancel(second)
		<-second.retired // although no step has ended
		require.Equal(t, FinishCancelled, second.reason)
		close(d.gate)
		<-first.retired
	})
	t.Run("alone in the step: aborts it", func(t *testing.T) {
		d := newFakeDecoder(t, 50)
		d.gate = make(chan struct{})
		inStep := make(chan struct{}, 100)
		d.order = func([]feed) { inStep <- struct{}{} }
		l := startLoop(t, d, 8, 2)
		s := newTestSequence(randomPrompt(r, 3), 40)
		l.submit(s)
		<-inStep
		l.cancel(s)
		<-s.retired // the gate was never opened
		require.Equal(t, FinishCancelled, s.reason)
		require.NoError(t, s.err)
		require.Empty(t, outputOf(s))
		require.Zero(t, d.used())
	})
	t.Run("with a neighbour: ends with the step", func(t *testing.T) {
		d := newFakeDecoder(t, 100)
		d.gate = make(chan struct{})
		steps := make(chan int, 100)
		d.order = func(f []feed) { steps <- len(f) }
		l := startLoop(t, d, 8, 2)
		prompt := randomPrompt(r, 1)
		a, b := newTestSequence(prompt, 30), newTestSequence(prompt, 30)
		l.submit(a)
		<-steps
		l.submit(b)
		d.gate <- struct{}{}
		require.Equal(t, 2, <-steps)
		l.cancel(a)
		select {
		case <-a.retired:
			t.Fatal("retired while its step was in flight")
		default:
		}
		close(d.gate)
		<-a.retired
		<-b.retired
		require.Equal(t, FinishCancelled, a.reason)
		require.Len(t, outputOf(a), 1, "the step in flight gives no output")
		require.Equal(t, reference(prompt, 30), outputOf(b))
	})
	t.Run("twice and after the end", func(t *testing.T) {
		l := startLoop(t, newFakeDecoder(t, 50), 8, 2)
		s := newTestSequence(randomPrompt(r, 3), 4)
		l.submit(s)
		<-s.retired
		l.cancel(s)
		l.cancel(s)
		require.Equal(t, FinishLength, s.reason)
	})
}

func TestLoopClose(t *testing.T) {
	d := newFakeDecoder(t, 50)
	d.gate = make(chan struct{})
	inStep := make(chan struct{}, 100)
	d.order = func([]feed) { inStep <- struct{}{} }
	l := startLoop(t, d, 8, 1)
	r := rand.New(rand.NewPCG(1, 2))
	running, queued := newTestSequence(randomPrompt(r, 3), 9), newTestSequence(randomPrompt(r, 3), 9)
	l.submit(running)
	l.submit(queued)
	<-inStep
	l.close()
	late := newTestSequence(randomPrompt(r, 3), 9)
	l.submit(late)
	for _, s := range []*sequence{running, queued, late} {
		<-s.retired
		require.ErrorIs(t, s.err, ErrClosed)
	}
	require.Zero(t, d.used())
}

func TestLoopSurvivesFailedSteps(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 2))

	t.Run("fatal: its sequences fail, the engine goes on", func(t *testing.T) {
		d := newFakeDecoder(t, 50)
		d.fail = func(step int) error {
			if step == 2 {
				return &llama.DecodeError{Code: -3}
			}
			return nil
		}
		l := startLoop(t, d, 8, 2)
		a := newTestSequence([]llama.Token{1, 2, 3}, 40)
		require.Greater(t, len(reference(a.tokens, 40)), 2)
		l.submit(a)
		<-a.retired
		var de *llama.DecodeError
		require.True(t, errors.As(a.err, &de) && de.Code == -3, "%v", a.err)
		require.Zero(t, d.used())
		b := newTestSequence(randomPrompt(r, 3), 40)
		l.submit(b)
		<-b.retired
		require.NoError(t, b.err)
		require.Equal(t, reference(b.tokens[:3], 40), outputOf(b))
	})
	t.Run("those outside the step are recomputed", func(t *testing.T) {
		d := newFakeDecoder(t, 100)
		d.gate = make(chan struct{})
		failing := false
		d.fail = func(int) error {
			if !failing {
				return nil
			}
			failing = false
			d.truncate(0, 0) // the memory of both is lost
			d.truncate(1, 0)
			return &llama.DecodeError{Code: -2}
		}
		inStep := make(chan []*sequence)
		d.order = func(feeds []feed) {
			var in []*sequence
			for _, f := range feeds {
				in = append(in, f.seq)
			}
			inStep <- in
		}
		l := startLoop(t, d, 8, 2)
		a, b := newTestSequence(randomPrompt(r, 24), 26), newTestSequence(randomPrompt(r, 8), 20)
		l.submit(a)
		require.Equal(t, []*sequence{a}, <-inStep)
		l.submit(b)
		failing = true // the step in flight holds a alone, b waits
		d.gate <- struct{}{}
		go func() {
			for range inStep {
			}
		}()
		close(d.gate)
		<-a.retired
		<-b.retired
		require.ErrorIs(t, a.err, llama.ErrFatal)
		require.NoError(t, b.err)
		require.Equal(t, reference(b.tokens[:8], 20), outputOf(b))
		l.close()
		close(inStep)
	})
	t.Run("no cells although reserved: the youngest waits", func(t *testing.T) {
		d := newFakeDecoder(t, 100)
		l := startLoop(t, d, 64, 4)
		l.mu.Lock()
		d.cells = 60 // less than the scheduler believes
		l.mu.Unlock()
		var seqs []*sequence
		for range 4 {
			s := newTestSequence(randomPrompt(r, 20), 40)
			seqs = append(seqs, s)
			l.submit(s)
		}
		for _, s := range seqs {
			<-s.retired
			require.NoError(t, s.err)
			require.Equal(t, reference(s.tokens[:20], 40), outputOf(s))
		}
		big := newTestSequence(randomPrompt(r, 80), 90)
		l.submit(big)
		<-big.retired
		require.ErrorIs(t, big.err, llama.ErrNoKVSlot, "alone, there is nobody to wait for")
	})
	t.Run("no cells, and the youngest was cancelled meanwhile", func(t *testing.T) {
		d := newFakeDecoder(t, 100)
		var l *loop
		a, b := newTestSequence([]llama.Token{1, 2}, 10), newTestSequence([]llama.Token{1, 2}, 10)
		failed := false
		d.fail = func(int) error {
			l.mu.Lock()
			both := len(l.sched.running) == 2
			l.mu.Unlock()
			if failed || !both {
				return nil
			}
			failed = true
			l.cancel(b)
			return &llama.DecodeError{Code: 1}
		}
		l = newLoop(d, newScheduler(d.cells, 8, 2, -1, d), func(llama.Token) bool { return false }, slog.New(slog.DiscardHandler))
		l.submit(a)
		l.submit(b)
		go l.run()
		t.Cleanup(l.close)
		<-b.retired
		<-a.retired
		require.NoError(t, errors.Join(a.err, b.err))
		require.Equal(t, FinishCancelled, b.reason)
		require.Len(t, outputOf(a), 8)
		require.True(t, failed)
	})
	t.Run("one row fails alone", func(t *testing.T) {
		rowErr := errors.New("grammar")
		d := newFakeDecoder(t, 100)
		l := startLoop(t, rowFailer{d, rowErr}, 64, 4)
		a, b := newTestSequence([]llama.Token{13, 5}, 40), newTestSequence(randomPrompt(r, 5), 40)
		l.submit(a)
		l.submit(b)
		<-a.retired
		<-b.retired
		require.ErrorIs(t, a.err, rowErr)
		require.NoError(t, b.err)
	})
}

// rowFailer fails the rows of sequences that begin with token 13.
type rowFailer struct {
	*fakeDecoder
	err error
}

func (d rowFailer) decode(feeds []feed, steps int) error {
	err := d.fakeDecoder.decode(feeds, steps)
	for i := range feeds {
		if feeds[i].sample && feeds[i].seq.tokens[0] == 13 {
			feeds[i].tokens, feeds[i].err = nil, d.err
		}
	}
	return err
}
