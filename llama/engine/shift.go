package engine

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// leastShift is what a shift leaves of a context, beside the tokens it keeps.
const leastShift = 4

// checkShift refuses a context shift that cannot be done.
func (e *Engine) checkShift(kind string, on bool, keep int) error {
	if keep < -1 {
		return invalid(kind+".NKeep", "%d: want -1 or more", keep)
	}
	if !on {
		if keep != 0 {
			return invalid(kind+".NKeep", "set without ContextShift")
		}
		return nil
	}
	if m := e.model; !e.ctx.Memory().CanShift() || m.NSWA() > 0 || m.IsRecurrent() || m.IsHybrid() {
		return fmt.Errorf("engine: %s.ContextShift: this model's memory, or the type of its K cache, cannot shift: %w", kind, llama.ErrUnsupported)
	}
	return nil
}

// letShift makes a sequence shift instead of ending at a full context.
func (e *Engine) letShift(seq *sequence, keep, maxTokens int) {
	if keep < 0 {
		keep = seq.prompt
	} else if e.model.Vocab().AddBOS() {
		keep++
	}
	seq.keep, seq.full = min(keep, e.maxSeq-leastShift), e.maxSeq
	seq.limit, seq.limitReason = math.MaxInt, FinishLength
	if maxTokens > 0 {
		seq.limit = seq.prompt + maxTokens
	}
}

// shift drops half of what a full sequence has behind the tokens that it keeps, as
// llama.cpp's server does. The rest moves up in memory, where nobody shares it:
// its values still know what was dropped, so that nobody else may go on from them.
// Otherwise the rest is computed again. The sequence has another place among the
// running ones then, or runs no more.
//
// Nothing but its limit ends a sequence that shifts. So that others do not wait for
// that, it arrives anew with each context of tokens more: who came before goes first.
func (s *scheduler) shift(seq *sequence, now time.Time) {
	discard := (len(seq.tokens) - seq.keep) / 2
	from := seq.keep + discard
	tokens := slices.Concat(seq.tokens[:seq.keep], seq.tokens[from:]) // the tree still looks at the old ones
	if seq.discarded += discard; seq.discarded >= seq.anew+seq.full {
		seq.anew, seq.arrived = seq.discarded, now
	}
	s.shifted++
	old := seq.leaf
	if old.start > from || len(tokens) > old.cells || !s.mem.shift(old.id, seq.keep, discard) {
		seq.tokens, seq.apart = tokens, true
		s.preempt(seq)
		return
	}
	seq.tokens, seq.past, seq.apart = tokens, seq.past-discard, true
	seq.leaf = s.tree.open(&node{}, old.id)
	cells := old.cells
	s.tree.close(old)
	s.tree.drop(seq.key)
	s.tree.reserve(seq.leaf, cells)
	i := slices.Index(s.running, seq)
	s.running = slices.Delete(s.running, i, i+1)
	s.enter(seq)
}

// again says that a sequence has arrived anew.
func (s *sequence) again() bool { return s.anew > 0 }
