package engine

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLoopOutputDoesNotDependOnNeighbours runs many requests through little
// memory: chunks, waiting, growing and preemption must not change any output.
func TestLoopOutputDoesNotDependOnNeighbours(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		cells, sequences := 40+r.IntN(200), 1+r.IntN(6)
		d := newFakeDecoder(t, cells)
		l := startLoop(t, d, 1+r.IntN(32), sequences)
		var seqs []*sequence
		for range 60 {
			prompt := randomPrompt(r, 1+r.IntN(cells))
			limit := min(len(prompt)+1+r.IntN(cells), cells+1)
			s := newTestSequence(prompt, limit)
			seqs = append(seqs, s)
			l.submit(s)
		}
		for i, s := range seqs {
			<-s.retired
			require.NoError(t, s.err)
			require.Equal(t, reference(s.tokens[:s.prompt], s.limit), outputOf(s), "seed %d request %d", seed, i)
		}
		require.Zero(t, d.used(), "cells left")
		require.Zero(t, l.sched.tree.cells)
		require.Len(t, l.sched.free, sequences)
	}
}

func TestLoopPreemptsTheYoungestAndRecomputes(t *testing.T) {
	d := newFakeDecoder(t, 64)
	d.noEOG = true
	d.gate = make(chan struct{})
	l := startLoop(t, d, 16, 4)
	r := rand.New(rand.NewPCG(7, 7))
	var seqs []*sequence
	for range 4 {
		s := newTestSequence(randomPrompt(r, 8), 65)
		seqs = append(seqs, s)
		l.submit(s)
	}
	close(d.gate) // all are there before the first step has ended
	for _, s := range seqs {
		<-s.retired
		require.NoError(t, s.err)
		require.Len(t, outputOf(s), 57)
	}
	require.Positive(t, l.sched.preempted)
	require.Equal(t, 8, seqs[0].computed, "the oldest is never preempted")
	require.Greater(t, seqs[3].computed, 8)
}

func TestLoopIsFirstInFirstOut(t *testing.T) {
	d := newFakeDecoder(t, 100)
	var started []*sequence
	d.order = func(feeds []feed) {
		for _, f := range feeds {
			if !slices.Contains(started, f.seq) {
				started = append(started, f.seq)
			}
		}
	}
	d.gate = make(chan struct{})
	l := startLoop(t, d, 16, 2)
	r := rand.New(rand.NewPCG(3, 3))
	var seqs []*sequence
	for i := range 8 {
		s := newTestSequence(randomPrompt(r, 1+90*(i%2)), 96) // short and long ones alternate
		seqs = append(seqs, s)
		l.submit(s)
	}
	close(d.gate)
	for _, s := range seqs {
		<-s.retired
		require.NoError(t, s.err)
	}
	require.Equal(t, seqs, started)
}

func TestLoopDecodesBeforePrompts(t *testing.T) {
	d := newFakeDecoder(t, 200)
	d.noEOG = true
	var steps [][]int
	d.order = func(feeds []feed) {
		var ns []int
		for _, f := range feeds {
			ns = append(ns, f.n)
		}
		steps = append(steps, ns)
	}
	d.gate = make(chan struct{})
	l := startLoop(t, d, 8, 3)
	r := rand.New(rand.NewPCG(5, 5))
	short, long := newTestSequence(randomPrompt(r, 2), 8), newTestSequence(randomPrompt(r, 20), 21)
	l.submit(short)
	d.gate <- struct{}{} // the first step had the short one alone
	l.submit(long)
	close(d.gate)
	<-short.retired
	<-long.retired
	require.Equal(t, []int{2}, steps[0])
	i := slices.IndexFunc(steps, func(ns []int) bool { return len(ns) == 2 })
	require.Equal(t, [][]int{{1, 7}, {1, 7}}, steps[i:i+2])
}
