package engine

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// TestStreamsStayTogether: whatever ends and whatever is kept, the sequences of a step have the first ids.
func TestStreamsStayTogether(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 4))
		const sequences = 6
		d := newFakeDecoder(t, 3000)
		d.whole = true
		sched := newScheduler(d.cells, 40, sequences, int64(r.IntN(8000)-1), d)
		sched.streams = true
		d.order = func(feeds []feed) {
			ids := make([]llama.SeqID, 0, len(sched.running))
			for _, s := range sched.running {
				ids = append(ids, s.leaf.id)
			}
			slices.Sort(ids)
			for i, id := range ids {
				if id != llama.SeqID(i) {
					t.Errorf("running sequences have the ids %v", ids)
					return
				}
			}
		}
		l := newLoop(d, sched, func(tok llama.Token) bool { return tok == fakeEOG }, slog.New(slog.DiscardHandler))
		go l.run()
		var all sync.WaitGroup
		beginnings := [][]llama.Token{randomPrompt(r, 80), randomPrompt(r, 80), nil}
		for range 60 {
			b := beginnings[r.IntN(len(beginnings))]
			s := newTestSequence(slices.Concat(b[:min(len(b), 20+r.IntN(60))], randomPrompt(r, 1+r.IntN(60))), 0)
			s.limit = s.prompt + 1 + r.IntN(60)
			l.submit(s)
			all.Go(func() {
				<-s.retired
				if s.err != nil || !slices.Equal(reference(s.tokens[:s.prompt], s.limit), s.tokens[s.prompt:]) {
					t.Errorf("another output than alone: %v", cmp.Or(s.err, nil))
				}
			})
		}
		all.Wait()
		l.close()
		require.Len(t, sched.free, sequences-len(sched.kept))
	}
}

// TestStreamsMoveLast: what has just been parked is taken over by who waits for it, although another sequence gets another id
// before the same step.
func TestStreamsMoveLast(t *testing.T) {
	d := newFakeDecoder(t, 3000)
	d.whole, d.noEOG = true, true
	s := newScheduler(d.cells, 64, 4, 1<<20, d)
	s.streams = true
	r := rand.New(rand.NewPCG(5, 5))
	submit := func(prompt []llama.Token) *sequence {
		seq := newTestSequence(prompt, len(prompt)+500)
		s.submit(seq)
		return seq
	}
	step := func() {
		feeds := s.plan(nil, time.Now())
		require.NoError(t, d.decode(feeds, 1))
		for _, f := range feeds {
			f.seq.past += f.n
			f.seq.tokens = append(f.seq.tokens, f.tokens...)
		}
	}
	first := submit(randomPrompt(r, 5))
	step()
	begin := randomPrompt(r, 100)
	a, b := submit(slices.Concat(begin, randomPrompt(r, 20))), submit(slices.Concat(begin, randomPrompt(r, 20)))
	last := submit(randomPrompt(r, 5))
	for a.past < len(begin) {
		step()
	}
	require.Equal(t, len(begin), a.past)
	require.EqualValues(t, 3, last.leaf.id)
	s.retire(first, false)
	step()
	require.Zero(t, last.leaf.id)
	require.Equal(t, 1, d.restores)
	require.GreaterOrEqual(t, b.past, len(begin))
	require.Equal(t, 1, s.parking.count, "nothing that is parked was lost")
}
