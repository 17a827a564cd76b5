package llama

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTurns: contexts that together have more threads than there are compute one
// after the other, each for as long as the others although their steps are not.
func TestTurns(t *testing.T) {
	s := &turns{total: 2, free: 2}
	steps := []time.Duration{time.Millisecond, 4 * time.Millisecond, 16 * time.Millisecond}
	all := make([]turn, len(steps))
	var mu sync.Mutex
	var longest time.Duration // under mu: a busy machine makes steps longer
	var wg sync.WaitGroup
	begin := make(chan struct{})
	stop := time.Now().Add(3 * time.Second)
	for i, step := range steps {
		all[i].threads = 2
		wg.Go(func() {
			<-begin
			for time.Now().Before(stop) {
				if !s.take(&all[i]) {
					t.Error("interrupted")
				}
				if !mu.TryLock() {
					t.Error("two at once")
					return
				}
				from := time.Now()
				time.Sleep(step)
				longest = max(longest, time.Since(from))
				mu.Unlock()
			}
			s.give(&all[i])
		})
	}
	close(begin)
	wg.Wait()
	require.Equal(t, 2, s.free)
	for i := range all {
		require.InDelta(t, float64(all[0].used), float64(all[i].used), float64(3*longest+500*time.Millisecond))
	}
}

func TestTurnsThreads(t *testing.T) {
	s := &turns{total: 2, free: 2}
	one, other, both := &turn{threads: 1}, &turn{threads: 1}, &turn{threads: 2}
	require.True(t, s.take(one))
	require.True(t, s.take(other), "there are threads for both")
	got := make(chan bool)
	go func() { got <- s.take(both) }()
	for !s.contended() {
		time.Sleep(time.Millisecond)
	}
	s.interrupt(both)
	require.False(t, <-got)
	go func() { got <- s.take(both) }()
	for !s.contended() {
		time.Sleep(time.Millisecond)
	}
	s.give(one)
	require.True(t, s.contended())
	s.give(other)
	require.True(t, <-got)
	s.interrupt(both) // has its turn: nothing to interrupt
	s.give(both)
	s.give(both)
	require.Equal(t, 2, s.free)

	// Who was idle has saved up nothing.
	s.give(both)
	require.True(t, s.take(one))
	one.since = one.since.Add(-time.Hour) // it computes for an hour, alone
	require.True(t, s.take(one))
	require.GreaterOrEqual(t, s.clock, time.Hour)
	s.give(one)
	require.True(t, s.take(other))
	require.GreaterOrEqual(t, other.used, time.Hour)
}

// TestTurnsInterruptedEarly: an interruption that comes just before the wait is not lost,
// whoever has the turn for however long.
func TestTurnsInterruptedEarly(t *testing.T) {
	s := &turns{total: 2, free: 2}
	holder, other := &turn{threads: 2}, &turn{threads: 2}
	require.True(t, s.take(holder))
	s.interrupt(holder)
	require.True(t, s.take(holder), "who has the turn keeps it")
	s.interrupt(other)
	got := make(chan bool)
	go func() { got <- s.take(other) }()
	select {
	case ok := <-got:
		require.False(t, ok)
	case <-time.After(10 * time.Second):
		t.Fatal("the interruption was lost")
	}
	s.give(holder)
	require.True(t, s.take(other), "once")
	s.give(other)
	require.Equal(t, 2, s.free)
}
