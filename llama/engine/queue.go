package engine

import (
	"slices"
	"time"
)

// ageing is the wait that counts as much as one Priority.
const ageing = 10 * time.Second

// mostPriority bounds Request.Priority, and with it how long ageing can take.
const mostPriority = 100

// caller is one for whom requests wait or run. The scheduler forgets those who
// have none.
type caller struct {
	live int       // sequences that wait or run
	turn time.Time // when one of them was last admitted

	// Scratch of next.
	head *sequence // who of them is admitted first
	held int       // cells of those that run
}

// arrival is when a sequence arrived, or arrived anew (see shift), a Priority counting as a wait of ageing.
// So all orders by it are free of starvation.
func (s *sequence) arrival() time.Time {
	return s.arrived.Add(-time.Duration(s.priority) * ageing)
}

// submit puts a sequence at the end of the queue.
func (s *scheduler) submit(seq *sequence) {
	c := s.callers[seq.caller]
	if c == nil {
		c = &caller{}
		s.callers[seq.caller] = c
	}
	c.live++
	seq.by, seq.arrived = c, seq.submitted
	s.queue = append(s.queue, seq)
}

// gone is the end of a sequence of a caller.
func (s *scheduler) gone(seq *sequence) {
	if seq.by.live--; seq.by.live == 0 {
		delete(s.callers, seq.caller)
	}
}

// next is the waiting sequence that is admitted first, nil where none may be.
//
// Of each caller the one that arrived first; a Priority counts as a wait. Of those,
// the highest Priority, which rises while a caller is passed over, but not above
// the highest that waits; then one that had to give up its place before it arrived
// anew, which lets all who came before go first; then of the
// caller whose running sequences hold the fewest cells; then of the one whose turn
// was longest ago. Nobody starves: a wait lifts any Priority to the highest, and
// there a caller without running sequences comes first.
func (s *scheduler) next(now time.Time) *sequence {
	for _, c := range s.callers {
		c.head = nil
	}
	for _, seq := range s.queue {
		if c := seq.by; c.head == nil || seq.arrival().Before(c.head.arrival()) {
			c.head = seq
		}
	}
	top := -mostPriority
	for _, c := range s.callers {
		if c.head != nil {
			top = max(top, c.head.priority)
		}
	}
	var first *sequence // by arrival, of those that may be admitted
	for _, c := range s.callers {
		if c.head == nil {
			continue
		}
		if c.held = s.held(c); c.held > 0 && s.need(c.head) > s.quotaLeft(c) {
			c.head = nil // alone it fits: nothing longer is let in
		} else if first == nil || c.head.arrival().Before(first.arrival()) {
			first = c.head
		}
	}
	var best *sequence
	var bestKey [3]int
	var bestTurn time.Time
	for _, seq := range s.queue {
		if seq.by.head != seq || seq.again() && first.arrival().Before(seq.arrival()) {
			continue
		}
		turn := seq.arrived
		if seq.by.turn.After(turn) {
			turn = seq.by.turn
		}
		key := [3]int{-min(top, seq.priority+int(now.Sub(turn)/ageing)), 1, seq.by.held}
		if !seq.started.IsZero() && !seq.again() {
			key[1] = 0
		}
		if c := slices.Compare(key[:], bestKey[:]); best == nil || c < 0 || c == 0 && turn.Before(bestTurn) {
			best, bestKey, bestTurn = seq, key, turn
		}
	}
	return best
}

// held is the number of cells that a caller's running sequences may use; those
// that they share count for each.
func (s *scheduler) held(c *caller) int {
	cells := 0
	for _, seq := range s.running {
		if seq.by == c {
			cells += seq.leaf.room()
		}
	}
	return cells
}

// quotaLeft is the number of cells that a caller may still get.
func (s *scheduler) quotaLeft(c *caller) int {
	if s.quota == 0 {
		return s.capacity
	}
	return s.quota - s.held(c)
}

// need is the number of tokens for which a waiting sequence gets cells.
func (s *scheduler) need(seq *sequence) int { return min(seq.most(), len(seq.tokens)+s.headroom) }

// admit fills the free places. Who comes first is not overtaken by those for whom
// there would be enough cells: a long request would wait for ever. It takes place
// and cells of a running sequence that arrived later, with a lower Priority or anew.
func (s *scheduler) admit(now time.Time) {
	if len(s.running) == 0 {
		s.cells = s.capacity
	}
	for len(s.queue) > 0 {
		seq := s.next(now)
		if seq == nil {
			return
		}
		for len(s.running) == s.most || !s.place(seq) {
			lower := s.lower(seq)
			if lower == nil {
				return
			}
			s.preempt(lower)
		}
		i := slices.Index(s.queue, seq)
		s.queue = slices.Delete(s.queue, i, i+1)
		seq.by.turn = now
		seq.state = running
		s.enter(seq)
	}
}

// enter puts a sequence among the running ones, which are ordered by arrival.
func (s *scheduler) enter(seq *sequence) {
	i := len(s.running)
	for i > 0 && seq.arrival().Before(s.running[i-1].arrival()) {
		i--
	}
	s.running = slices.Insert(s.running, i, seq)
}

// lower is the running sequence whose place a waiting one may take, nil if none.
func (s *scheduler) lower(seq *sequence) *sequence {
	for _, r := range slices.Backward(s.running) {
		if r.priority < seq.priority && seq.arrival().Before(r.arrival()) || r.yields(seq) && s.fits(seq) {
			return r
		}
	}
	return nil
}

// fits says whether a waiting sequence has cells for certain when those who arrived anew
// after it have given theirs up.
func (s *scheduler) fits(seq *sequence) bool {
	return s.need(seq)+s.heldBy(func(r *sequence) bool { return !r.yields(seq) }) <= s.capacity
}

// youngest is the running sequence of a caller that arrived last.
func (s *scheduler) youngest(c *caller) *sequence {
	for _, r := range slices.Backward(s.running) {
		if r.by == c {
			return r
		}
	}
	return nil
}

// late are the sequences that have waited since before a moment and were never
// admitted.
func (s *scheduler) late(before time.Time) (late []*sequence) {
	for _, seq := range s.queue {
		if seq.started.IsZero() && seq.submitted.Before(before) {
			late = append(late, seq)
		}
	}
	return late
}

// oldestWait is how long a sequence that was never admitted has waited, at most.
func (s *scheduler) oldestWait(now time.Time) time.Duration {
	longest := time.Duration(0)
	for _, seq := range s.queue {
		if seq.started.IsZero() {
			longest = max(longest, now.Sub(seq.submitted))
		}
	}
	return longest
}
