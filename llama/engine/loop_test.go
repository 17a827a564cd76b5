package engine

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

const fakeEOG llama.Token = 0

// fakeDecoder has the memory of a unified cache, and a model whose next token
// is a function of all tokens before it, so that a token fed twice, never, or
// at the wrong place shows in the output.
type fakeDecoder struct {
	t     *testing.T
	cells int
	fail  func(step int) error // nil: never
	gate  chan struct{}        // where set, a step waits for a value or an abort
	order func([]feed)         // where set, sees each step
	noEOG bool                 // the model never ends by itself

	mu       sync.Mutex // of the fields below
	memory   map[llama.SeqID][]llama.Token
	steps    int
	aborted  chan struct{}
	isClosed bool
}

func newFakeDecoder(t *testing.T, cells int) *fakeDecoder {
	return &fakeDecoder{t: t, cells: cells, memory: map[llama.SeqID][]llama.Token{}, aborted: make(chan struct{})}
}

// nextToken is the fake model: a hash of the history; about one in 40 is EOG.
func nextToken(history []llama.Token) llama.Token {
	h := uint32(2166136261)
	for _, t := range history {
		h = (h ^ uint32(t)) * 16777619
	}
	return llama.Token((h >> 8) % 40)
}

func (d *fakeDecoder) decode(feeds []feed) error {
	d.mu.Lock()
	d.steps++
	aborted, step := d.aborted, d.steps
	d.mu.Unlock()
	if d.order != nil {
		d.order(feeds)
	}
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-aborted:
			return &llama.DecodeError{Code: 2}
		}
	}
	if d.fail != nil {
		if err := d.fail(step); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	used := 0
	for _, m := range d.memory {
		used += len(m)
	}
	for _, f := range feeds {
		used += f.n
	}
	if used > d.cells {
		return &llama.DecodeError{Code: 1}
	}
	for i := range feeds {
		f := &feeds[i]
		m := d.memory[f.seq.id]
		if len(m) != f.seq.past {
			d.t.Errorf("sequence %d is fed from %d, memory has %d", f.seq.id, f.seq.past, len(m))
		}
		m = append(m, f.seq.tokens[f.seq.past:f.seq.past+f.n]...)
		d.memory[f.seq.id] = m
		if f.sample {
			f.token = nextToken(m)
			if d.noEOG {
				f.token++
			}
		}
	}
	return nil
}

func (d *fakeDecoder) remove(id llama.SeqID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.memory, id)
}

func (d *fakeDecoder) posMax(id llama.SeqID) llama.Pos {
	d.mu.Lock()
	defer d.mu.Unlock()
	return llama.Pos(len(d.memory[id]) - 1)
}

func (d *fakeDecoder) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isClosed {
		close(d.aborted)
		d.isClosed = true
	}
}

func (d *fakeDecoder) resetAbort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed {
		d.aborted, d.isClosed = make(chan struct{}), false
	}
}

func (d *fakeDecoder) used() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, m := range d.memory {
		n += len(m)
	}
	return n
}

func startLoop(t *testing.T, d decoder, batch, sequences int) *loop {
	cells := 100
	if f, ok := d.(*fakeDecoder); ok {
		cells = f.cells
	}
	l := newLoop(d, newScheduler(cells, batch, sequences, d.remove), func(tok llama.Token) bool { return tok == fakeEOG }, slog.New(slog.DiscardHandler))
	go l.run()
	t.Cleanup(l.close)
	return l
}

func newTestSequence(prompt []llama.Token, limit int) *sequence {
	return &sequence{
		prompt: len(prompt), limit: limit, limitReason: FinishLength, tokens: slices.Clone(prompt),
		out: newMailbox[[]llama.Token](), retired: make(chan struct{}),
	}
}

// reference runs the fake model alone.
func reference(prompt []llama.Token, limit int) []llama.Token {
	all := slices.Clone(prompt)
	for len(all) < limit {
		all = append(all, nextToken(all))
		if all[len(all)-1] == fakeEOG {
			break
		}
	}
	return all[len(prompt):]
}

func outputOf(s *sequence) []llama.Token {
	out, _, _ := s.out.take()
	return out
}

func randomPrompt(r *rand.Rand, n int) []llama.Token {
	p := make([]llama.Token, n)
	for i := range p {
		p[i] = llama.Token(1 + r.IntN(1000))
	}
	return p
}

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
		require.Zero(t, l.sched.reserved)
		require.Len(t, l.sched.free, sequences)
	}
}

func TestLoopPreemptsTheYoungestAndRecomputes(t *testing.T) {
	d := newFakeDecoder(t, 64)
	d.noEOG = true
	l := startLoop(t, d, 16, 4)
	r := rand.New(rand.NewPCG(7, 7))
	var seqs []*sequence
	for range 4 {
		s := newTestSequence(randomPrompt(r, 8), 65)
		seqs = append(seqs, s)
		l.submit(s)
	}
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

func TestLoopFinish(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))

	t.Run("while waiting", func(t *testing.T) {
		d := newFakeDecoder(t, 50)
		d.gate = make(chan struct{})
		l := startLoop(t, d, 8, 1)
		first, second := newTestSequence(randomPrompt(r, 3), 5), newTestSequence(randomPrompt(r, 3), 5)
		l.submit(first)
		l.submit(second)
		l.finish(second, FinishCancelled)
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
		l.finish(s, FinishCancelled)
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
		l.finish(a, FinishCancelled)
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
		l.finish(s, FinishCancelled)
		l.finish(s, FinishStop)
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
			d.remove(0) // the memory of both is lost
			d.remove(1)
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

func (d rowFailer) decode(feeds []feed) error {
	err := d.fakeDecoder.decode(feeds)
	for i := range feeds {
		if feeds[i].sample && feeds[i].seq.tokens[0] == 13 {
			feeds[i].err = d.err
		}
	}
	return err
}
