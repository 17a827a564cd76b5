package engine

import (
	"cmp"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

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
		for range 60 {
			s := newTestSequence(randomPrompt(r, 1+r.IntN(60)), 0)
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
