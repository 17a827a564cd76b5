package engine

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// TestPrefixesChangeNoOutput runs requests that share beginnings of all lengths,
// in little memory, some cancelled: each gets what it gets alone, the cells that
// are counted are those in use, and nothing is left.
func TestPrefixesChangeNoOutput(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		cells, sequences, host := 80+r.IntN(300), 1+r.IntN(6), int64(r.IntN(8000)-1)
		d := newFakeDecoder(t, cells)
		d.whole = seed%4 == 3
		d.refuse = func(n int) bool { return n%7 == 6 }
		l := startKeeping(t, d, 1+r.IntN(64), sequences, host)
		trunks := [][]llama.Token{randomPrompt(r, cells), randomPrompt(r, cells)}
		copy(trunks[1], trunks[0][:cells/3])
		var seqs []*sequence
		for range 80 {
			prompt := slices.Clone(trunks[r.IntN(2)][:1+r.IntN(cells/2)])
			prompt = append(prompt, randomPrompt(r, r.IntN(cells/4))...)
			if len(seqs) > 0 && r.IntN(3) == 0 { // a conversation goes on
				last := seqs[r.IntN(len(seqs))]
				<-last.retired
				prompt = append(slices.Clone(last.tokens), randomPrompt(r, 1+r.IntN(5))...)
				prompt = prompt[:min(len(prompt), cells)]
			}
			s := newTestSequence(prompt, min(len(prompt)+1+r.IntN(cells), cells+1))
			s.key.scope = []string{"", "a"}[r.IntN(2)]
			seqs = append(seqs, s)
			l.submit(s)
			if r.IntN(6) == 0 {
				l.cancel(s)
			}
		}
		for _, s := range seqs {
			<-s.retired
		}
		l.close()
		for i, s := range seqs {
			require.NoError(t, s.err)
			if s.reason == FinishCancelled {
				continue
			}
			require.Equal(t, reference(s.tokens[:s.prompt], s.limit), outputOf(s), "seed %d request %d", seed, i)
			require.LessOrEqual(t, s.cached, s.prompt)
			require.GreaterOrEqual(t, s.cached+s.computed, s.prompt)
			if l.sched.preempted == 0 {
				require.Equal(t, s.prompt, s.cached+s.computed, "seed %d request %d", seed, i)
			}
		}
		require.Equal(t, d.used(), l.sched.tree.cells)
		for l.sched.evict(nil) {
		}
		if p := l.sched.parking; p != nil {
			require.LessOrEqual(t, p.bytes, host)
			p.most = 0
			p.trim()
			require.Zero(t, p.count)
			require.Empty(t, p.roots)
		}
		require.Zero(t, d.used(), "cells left")
		require.Zero(t, l.sched.tree.cells)
		require.Empty(t, l.sched.tree.roots)
		require.Len(t, l.sched.free, sequences)
	}
}

// TestPrefixIsComputedOnce: requests that arrive together and begin alike.
func TestPrefixIsComputedOnce(t *testing.T) {
	const shared, tail, requests = 600, 30, 16
	d := newFakeDecoder(t, 8192)
	d.noEOG = true
	d.gate = make(chan struct{})
	l := startKeeping(t, d, 256, requests, 1<<20)
	r := rand.New(rand.NewPCG(1, 1))
	prefix := randomPrompt(r, shared)
	var seqs []*sequence
	for range requests {
		s := newTestSequence(append(slices.Clone(prefix), randomPrompt(r, tail)...), shared+tail+8)
		seqs = append(seqs, s)
		l.submit(s)
	}
	close(d.gate)
	computed, cached := 0, 0
	for _, s := range seqs {
		<-s.retired
		require.NoError(t, s.err)
		computed += s.computed
		cached += s.cached
	}
	require.LessOrEqual(t, computed, shared+requests*tail+requests)
	require.Equal(t, requests*(shared+tail), computed+cached)

	again := newTestSequence(seqs[3].tokens[:shared+tail], shared+tail+8)
	l.submit(again)
	<-again.retired
	require.Equal(t, 1, again.computed, "all but the last token, which is sampled from")

	other := newTestSequence(again.tokens[:shared+tail], shared+tail+8)
	other.key.scope = "other"
	l.submit(other)
	<-other.retired
	require.Equal(t, shared+tail, other.computed, "nothing is shared between scopes")
}

// TestPrefixOutlivesItsLeader: those that wait for another's tokens go on when it ends.
func TestPrefixOutlivesItsLeader(t *testing.T) {
	d := newFakeDecoder(t, 2000)
	d.gate = make(chan struct{})
	inStep := make(chan struct{}, 1000)
	d.order = func([]feed) { inStep <- struct{}{} }
	l := startKeeping(t, d, 50, 4, 1<<20)
	r := rand.New(rand.NewPCG(2, 1))
	prefix := randomPrompt(r, 400)
	seqs := make([]*sequence, 3)
	for i := range seqs {
		seqs[i] = newTestSequence(append(slices.Clone(prefix), randomPrompt(r, 10)...), 420)
		l.submit(seqs[i])
	}
	for range 3 {
		<-inStep
		d.gate <- struct{}{}
	}
	<-inStep
	for _, s := range seqs {
		l.mu.Lock()
		leads := s.past > 0 && s.leader == nil
		l.mu.Unlock()
		if leads {
			l.cancel(s)
			break
		}
	}
	close(d.gate)
	computed := 0
	for _, s := range seqs {
		<-s.retired
		require.NoError(t, s.err)
		computed += s.computed
		if s.reason != FinishCancelled {
			require.Equal(t, reference(s.tokens[:s.prompt], s.limit), outputOf(s))
		}
	}
	require.LessOrEqual(t, computed, 400+3*10+50)
}
