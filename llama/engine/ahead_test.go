package engine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// stopAt ends a text with its n-th token, as a stop string does.
type stopAt struct{ n int }

func (s *stopAt) push(dst []byte, _ llama.Token) ([]byte, bool, error) {
	s.n--
	return dst, s.n == 0, nil
}
func (s *stopAt) flush(dst []byte) ([]byte, bool) { return dst, false }

// TestKeptHoldsNoMore: of steps that were computed together the last ones may count no more, and what stays in memory is what
// the tree says.
func TestKeptHoldsNoMore(t *testing.T) {
	for n := 2; n < 12; n++ {
		l, d, _ := gated(t)
		l.sched.parking = newParking(1<<20, false)
		close(d.gate)
		s := newTestSequence([]llama.Token{1, 2, 3}, 40)
		s.prompt, s.tokens = 20, make([]llama.Token, 20)
		s.text = &stopAt{n}
		l.submit(s)
		<-s.retired
		require.Equal(t, FinishStop, s.reason)
		require.Len(t, outputOf(s), n)
		l.mu.Lock()
		kept, cells := len(l.sched.kept), l.sched.tree.cells
		l.mu.Unlock()
		require.Equal(t, 1, kept)
		require.Equal(t, d.used(), cells)
		next := newTestSequence(s.tokens, 40) // goes on from exactly there
		l.submit(next)
		<-next.retired
		require.NoError(t, next.err)
		require.Equal(t, len(s.tokens)-1, next.cached)
	}
}
