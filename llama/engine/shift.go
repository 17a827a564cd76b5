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
	seq.keep, seq.full = max(0, min(keep, e.maxSeq-leastShift)), e.maxSeq
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
	old, discard := seq.leaf, s.discard(seq)
	anew := seq.discarded >= seq.anew+seq.full
	if anew {
		seq.anew, seq.arrived = seq.discarded, now
	}
	if anew && s.inWay(seq) || old.start > seq.keep+discard || len(seq.tokens) > old.cells || !s.mem.shift(old.id, seq.keep, discard) {
		s.preempt(seq)
		return
	}
	seq.past -= discard
	seq.leaf = s.tree.open(&node{}, old.id)
	cells := old.cells
	s.tree.close(old)
	s.tree.drop(seq.key)
	s.tree.reserve(seq.leaf, cells)
	i := slices.Index(s.running, seq)
	s.running = slices.Delete(s.running, i, i+1)
	s.enter(seq)
}

// inWay says whether a running sequence gives way to one of its caller that came before it: the
// quota holds that up, and will not when those who arrived anew after it have given way.
func (s *scheduler) inWay(seq *sequence) bool {
	return s.quota > 0 && slices.ContainsFunc(s.queue, func(w *sequence) bool {
		if w.by != seq.by || s.need(w) <= s.quotaLeft(w.by) {
			return false
		}
		room := s.need(w)
		for _, r := range s.running {
			if r.by == w.by && !r.yields(w) {
				room += r.leaf.room()
			}
		}
		return room <= s.quota
	})
}

// yields says that a running sequence gives way to a waiting one since it arrived anew after it.
func (s *sequence) yields(w *sequence) bool { return s.again() && w.arrival().Before(s.arrival()) }

// discard drops the tokens, and says how many; what memory has is not theirs any more.
func (s *scheduler) discard(seq *sequence) int {
	n := (len(seq.tokens) - seq.keep) / 2
	seq.tokens = slices.Concat(seq.tokens[:seq.keep], seq.tokens[seq.keep+n:]) // the tree still looks at the old ones
	seq.discarded += n
	seq.apart, seq.mark, seq.overtaken = true, 0, 0
	s.shifted++
	return n
}

// over says that a sequence has more tokens than it may.
func (s *sequence) over() bool { return s.full > 0 && len(s.tokens) > s.full }

// again says that a sequence has arrived anew.
func (s *sequence) again() bool { return s.anew > 0 }
