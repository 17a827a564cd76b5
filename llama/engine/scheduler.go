package engine

import (
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// scheduler decides which sequences are in memory and what the next step
// computes. It holds no lock and calls nothing but remove.
//
// Cells: a sequence is admitted with a reservation for its tokens and some
// headroom, and never has more tokens than cells reserved; the sum of the
// reservations never exceeds the context. So llama.cpp always finds cells. A
// sequence that outgrows its reservation extends it; where nothing is left, the
// sequence that arrived last is preempted: its cells are freed, it returns to
// the head of the queue and is recomputed later (vLLM, Kwon et al. 2023, §4.5).
// The oldest sequence is never preempted, so there is always progress.
type scheduler struct {
	capacity int // cells of the context, shared by all sequences
	cells    int // cells that may be reserved: capacity, less while shrunk
	batch    int // tokens a step computes at most; at least the number of ids
	headroom int // cells reserved ahead
	remove   func(llama.SeqID)

	free      []llama.SeqID
	reserved  int
	queue     []*sequence // by arrival
	running   []*sequence // by arrival
	prompts   []*sequence // scratch of planPrompts
	preempted uint64
}

// feed is what one sequence adds to a step: its next n tokens. Where they are
// its last ones, the next token is sampled.
type feed struct {
	seq    *sequence
	n      int
	sample bool
	tokens []llama.Token // result: one of each step; valid until the next decode
	err    error         // result: this sequence alone failed
}

func newScheduler(cells, batch, sequences int, remove func(llama.SeqID)) *scheduler {
	s := &scheduler{
		capacity: cells,
		cells:    cells,
		batch:    max(batch, sequences),
		headroom: max(1, cells/(4*sequences)),
		remove:   remove,
	}
	for id := sequences - 1; id >= 0; id-- {
		s.free = append(s.free, llama.SeqID(id))
	}
	return s
}

func (s *scheduler) idle() bool { return len(s.queue)+len(s.running) == 0 }

// plan sees that every running sequence has the cells it needs, admits waiting
// ones in the order of their arrival, and returns the next step: first one token
// of each sequence that generates, then pieces of prompts. It appends to feeds.
func (s *scheduler) plan(feeds []feed) []feed {
	for i := 0; i < len(s.running); i++ {
		if seq := s.running[i]; len(seq.tokens) > seq.cells && !s.grow(seq) {
			break // seq was the youngest and is preempted
		}
	}
	s.admit()
	room := s.batch
	for _, seq := range s.running {
		if seq.pending() == 1 {
			feeds = append(feeds, feed{seq: seq, n: 1, sample: true})
			room--
		}
	}
	return s.planPrompts(feeds, room)
}

// steps is how many times in a row what was planned can be computed, the sampled
// tokens being the next step: where nobody waits and every sequence generates,
// as far as limits and cells go, at most most.
func (s *scheduler) steps(feeds []feed, most int) int {
	if len(s.queue) > 0 {
		return 1
	}
	for _, f := range feeds {
		if f.n > 1 || !f.sample || f.seq.first.IsZero() {
			return 1
		}
		most = min(most, f.seq.limit-len(f.seq.tokens), f.seq.cells-len(f.seq.tokens)+1)
	}
	return max(1, most)
}

// planPrompts gives the room of a step to the shortest remaining prompts, so
// that a short request does not wait for a long one. A prompt ages by every
// token of another one that is computed before it: it is overtaken by fewer
// tokens than it has itself, then it goes first.
func (s *scheduler) planPrompts(feeds []feed, room int) []feed {
	s.prompts = s.prompts[:0]
	for _, seq := range s.running {
		if seq.pending() > 1 {
			s.prompts = append(s.prompts, seq)
		}
	}
	slices.SortStableFunc(s.prompts, func(a, b *sequence) int { return a.rank() - b.rank() })
	overtaking := 0
	for _, seq := range s.prompts {
		seq.overtaken += overtaking
		p := seq.pending()
		if n := min(p, room); n > 0 {
			feeds = append(feeds, feed{seq: seq, n: n, sample: n == p})
			room -= n
			overtaking += n
		}
	}
	return feeds
}

// admit takes from the head of the queue only: a long request is not overtaken
// for ever by short ones.
func (s *scheduler) admit() {
	if len(s.running) == 0 {
		s.cells = s.capacity
	}
	for len(s.queue) > 0 && len(s.free) > 0 {
		seq := s.queue[0]
		cells := min(seq.most(), len(seq.tokens)+s.headroom)
		if s.reserved+cells > s.cells {
			return
		}
		s.queue = slices.Delete(s.queue, 0, 1)
		seq.id = s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		seq.cells, seq.past, seq.state = cells, 0, running
		s.reserved += cells
		s.running = append(s.running, seq)
	}
}

// grow extends the reservation of a sequence. It reports false where the
// sequence itself had to give way.
func (s *scheduler) grow(seq *sequence) bool {
	for {
		more := min(s.headroom, seq.most()-seq.cells, s.cells-s.reserved)
		if more > 0 {
			seq.cells += more
			s.reserved += more
			return true
		}
		youngest := s.running[len(s.running)-1]
		s.preempt(youngest)
		if youngest == seq {
			return false
		}
	}
}

// preempt returns a running sequence to the head of the queue.
func (s *scheduler) preempt(seq *sequence) {
	s.release(seq)
	seq.state = waiting
	s.preempted++
	s.queue = slices.Insert(s.queue, 0, seq)
}

// shrink gives way to a context that found no cells although they were
// reserved: the youngest sequence is preempted, and not admitted again before
// another one has ended.
func (s *scheduler) shrink() {
	s.preempt(s.running[len(s.running)-1])
	s.cells = s.reserved
}

// submit puts a sequence at the end of the queue.
func (s *scheduler) submit(seq *sequence) { s.queue = append(s.queue, seq) }

// retire takes a sequence out, wherever it is.
func (s *scheduler) retire(seq *sequence) {
	switch seq.state {
	case waiting:
		i := slices.Index(s.queue, seq)
		s.queue = slices.Delete(s.queue, i, i+1)
	case running:
		s.release(seq)
		s.cells = s.capacity
	}
	seq.state = ended
}

// release frees the cells and the id of a running sequence.
func (s *scheduler) release(seq *sequence) {
	s.remove(seq.id)
	s.reserved -= seq.cells
	s.free = append(s.free, seq.id)
	seq.cells, seq.past = 0, 0
	i := slices.Index(s.running, seq)
	s.running = slices.Delete(s.running, i, i+1)
}
