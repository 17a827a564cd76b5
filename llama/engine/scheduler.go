package engine

import (
	"maps"
	"slices"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// scheduler decides which sequences are in memory and what the next step
// computes. It holds no lock and calls nothing but mem.
//
// Cells: a sequence is admitted with a reservation for its tokens and some
// headroom, and never has more tokens than cells reserved; the sum of the
// reservations never exceeds the context. So llama.cpp always finds cells. A
// sequence that outgrows its reservation extends it; where nothing is left, the
// sequence that arrived last is preempted: its cells are freed, it returns to
// the queue and is recomputed later (vLLM, Kwon et al. 2023, §4.5). The oldest
// sequence is never preempted, so there is always progress; one that never ends becomes
// the youngest again and again (shift.go). Who is admitted when: queue.go.
//
// Prefixes: what a sequence has in memory is shared with every other one whose
// prompt begins alike (prefix.go), and stays when it has ended: in the context
// while nothing else runs, then parked in main memory (parking.go).
type scheduler struct {
	capacity int // cells of the context, shared by all sequences
	cells    int // cells that may be reserved: capacity, less while shrunk
	batch    int // tokens a step computes at most; at least as many as can run
	headroom int // cells reserved ahead
	most     int // sequences that can run
	mem      memory
	parking  *parking        // nil: nothing stays of what has ended
	streams  bool            // each sequence has cells of its own
	apart    bool            // prompts get steps of their own; see alternate
	prompted map[string]bool // by adapters: the last step was one of those
	pace     pace
	at       int // position at which the first prompt of the step begins

	contended bool // another engine waits for this one's step
	groups    groups

	free      []llama.SeqID
	tree      *tree
	quota     int // cells that the sequences of one caller may hold; 0: any
	callers   map[string]*caller
	queue     []*sequence // by submission; see next
	running   []*sequence // by arrival
	kept      []*kept     // by last use
	prompts   []*sequence // scratch of planPrompts
	preempted uint64
	shifted   uint64
}

// memory is what the scheduler needs of a context.
type memory interface {
	// share says whether a part of a sequence can be copied and cut off.
	share() bool
	// copy makes dst, which is empty, share the first n tokens of src; it reports
	// false, and dst is empty, where that cannot be had.
	copy(src, dst llama.SeqID, n int) bool
	// save copies what memory has of tokens from to to, which are the last ones
	// unless parts can be shared; nil where that cannot be had.
	save(id llama.SeqID, from, to int) []byte
	// restore gives a sequence of from tokens those up to to out of a copy, whose
	// tokens begin at from or before. It returns the number of its tokens: to, or
	// where that cannot be had from, or 0.
	restore(id llama.SeqID, saved []byte, from, to int) int
	// truncate leaves the first n tokens, none for 0.
	truncate(id llama.SeqID, n int) bool
	// shift discards n tokens behind the first keep ones and moves up the others; it
	// reports false, and the sequence is to be freed, where that cannot be had.
	shift(id llama.SeqID, keep, n int) bool
	// move gives a whole sequence another id, which is free; where it reports
	// false, nothing is moved.
	move(src, dst llama.SeqID) bool
}

// feed is what one sequence adds to a step: its next n tokens. Where they are
// its last ones, the next token is sampled.
type feed struct {
	seq    *sequence
	n      int
	sample bool
	guess  []llama.Token     // of the tokens behind
	draft  int               // of which so many are computed
	by     int               // who guessed
	most   int               // guesses that are, or can be had
	tokens []llama.Token     // result: one of each step or guess; valid until the next decode
	probs  []llama.TokenProb // result: nProbs for each token
	err    error             // result: this sequence alone failed
}

// newScheduler makes a scheduler that parks up to host bytes, nothing for -1.
func newScheduler(cells, batch, sequences int, host int64, mem memory) *scheduler {
	s := &scheduler{
		capacity: cells,
		cells:    cells,
		batch:    max(batch, sequences),
		headroom: max(1, cells/(4*sequences)),
		most:     sequences,
		mem:      mem,
		tree:     newTree(),
		callers:  map[string]*caller{},
		prompted: map[string]bool{},
	}
	if host >= 0 {
		s.parking = newParking(host, !mem.share())
	}
	for id := sequences - 1; id >= 0; id-- {
		s.free = append(s.free, llama.SeqID(id))
	}
	return s
}

func (s *scheduler) idle() bool { return len(s.queue)+len(s.running) == 0 }

// plan sees that every running sequence has the cells it needs, admits waiting
// ones, and returns the next step: first one token of each sequence that
// generates, then pieces of prompts. It appends to feeds.
func (s *scheduler) plan(feeds []feed, now time.Time) []feed {
	for _, seq := range s.running {
		seq.leaf.tokens = seq.tokens[seq.leaf.start:seq.past]
	}
	for i := 0; i < len(s.running); i++ {
		seq := s.running[i]
		switch {
		case seq.over():
			s.shift(seq, now)
			i-- // seq has another place, where it is looked at again, or runs no more
		case len(seq.tokens) > seq.leaf.room() && !s.grow(seq):
			i-- // seq itself does not run any more
		}
	}
	s.parkMarked()
	s.admit(now)
	s.groups.next(s.running)
	s.forgetGroups()
	room, target := s.batch, time.Duration(0)
	for _, seq := range s.running {
		generates := seq.pending() == 1
		if generates && seq.key.adapters == s.groups.now {
			feeds = append(feeds, feed{seq: seq, n: 1, sample: true})
			room--
		}
		if (generates || s.contended) && seq.pace > 0 && (target == 0 || seq.pace < target) {
			target = seq.pace
		}
	}
	if s.apart {
		feeds, room = s.alternate(feeds, room)
	}
	feeds = s.planPrompts(feeds, room, target)
	s.parkKept()
	if s.streams && len(feeds) > 0 {
		s.pack() // last: until the step begins, what is on the move can be neither saved nor restored
	}
	return feeds
}

// tile is how many tokens of a step ggml's flash attention takes together on a
// processor, where there are as many. A tile computes every cell that one of its
// tokens sees for all of them, and one that is not full costs as much.
const tile = 64

// alternate lets steps of those who generate and steps of prompts take turns. In one
// step they would be in one tile, and that tile would compute what the cells of all
// who generate have to do with each other: many times what it costs to read the
// weights twice.
func (s *scheduler) alternate(feeds []feed, room int) ([]feed, int) {
	prompts := 0
	for _, seq := range s.running {
		if s.prompting(seq) {
			prompts += seq.pending()
		}
	}
	switch {
	case len(feeds) == 0:
		return feeds, room
	case s.prompted[s.groups.now]: // they have waited
		return feeds, 0
	case min(prompts, room)+len(feeds) < tile:
		return feeds, room
	}
	return feeds[:0], s.batch
}

// forgetGroups forgets who had the last step of adapters with which nobody runs any more.
func (s *scheduler) forgetGroups() {
	if len(s.prompted) > len(s.running) {
		maps.DeleteFunc(s.prompted, func(k string, _ bool) bool {
			return !slices.ContainsFunc(s.running, func(seq *sequence) bool { return seq.key.adapters == k })
		})
	}
}

// prompting says whether a sequence has a part of its prompt left for this group's steps.
func (s *scheduler) prompting(seq *sequence) bool {
	return seq.pending() > 1 && seq.key.adapters == s.groups.now
}

// observe takes a step that has been computed: so many tokens of prompts, and whether
// others generated in it.
func (s *scheduler) observe(took time.Duration, prompt int, generated bool) {
	s.pace.observe(took, prompt, generated, s.at)
	if generated {
		delete(s.prompted, s.groups.now)
	} else {
		s.prompted[s.groups.now] = true
	}
}

// steps is how many times in a row what was planned can be computed, the sampled
// tokens being the next step: where nobody waits and every sequence generates,
// as far as limits and cells go, at most most.
func (s *scheduler) steps(feeds []feed, most int) int {
	if len(s.queue) > 0 || slices.ContainsFunc(s.running, s.prompting) {
		return 1
	}
	for _, f := range feeds {
		if f.draft > 0 || !f.sample || f.seq.first.IsZero() {
			return 1
		}
		most = min(most, f.seq.limit-f.seq.length(), f.seq.leaf.room()-len(f.seq.tokens)+1)
	}
	return max(1, most)
}

// planPrompts gives the room of a step to the shortest remaining prompts, so
// that a short request does not wait for a long one. A prompt ages by every
// token of another one that is computed before it: it is overtaken by fewer
// tokens than it has itself, then it goes first. Where the first one is so short that
// a step of two fifths of the time (target; 0: any) computes all of it, the step is one
// of those: what else it would compute is not worth the wait of those who generate.
func (s *scheduler) planPrompts(feeds []feed, room int, target time.Duration) []feed {
	s.prompts = s.prompts[:0]
	for _, seq := range s.running {
		if s.prompting(seq) {
			s.prompts = append(s.prompts, seq)
		}
	}
	slices.SortStableFunc(s.prompts, func(a, b *sequence) int { return a.rank() - b.rank() })
	shares := s.mem.share() || s.marks()
	for i, seq := range s.prompts {
		if shares {
			seq.waits(s.prompts[:i]) // tells the others where to stop
		}
	}
	overtaking := 0
	for i, seq := range s.prompts {
		if shares && seq.waits(s.prompts[:i]) {
			continue
		}
		s.rejoin(seq)
		seq.overtaken += overtaking
		p := seq.pending()
		if overtaking == 0 {
			s.at = seq.past
			if target > 0 {
				short := s.pace.tokens(target*2/5, s.at, room)
				room = s.pace.tokens(target, s.at, room)
				if p+seq.computed <= short {
					room = short
				}
			}
			if s.apart && room > 2*tile && room < p {
				room -= room % tile
			}
		}
		if n := s.chunk(seq, min(p, room)); n > 0 {
			feeds = append(feeds, feed{seq: seq, n: n, sample: n == p})
			room -= n
			overtaking += n
		}
	}
	return feeds
}

// grow extends the reservation of a sequence. It reports false where the
// sequence itself had to give way.
func (s *scheduler) grow(seq *sequence) bool {
	for {
		room := seq.leaf.room()
		more := min(s.headroom, seq.most()-room, s.cells-s.tree.cells)
		quota := s.quotaLeft(seq.by)
		if more = min(more, quota); more > 0 {
			s.tree.reserve(seq.leaf, room+more)
			return true
		}
		if quota > 0 && s.evict(nil) {
			continue
		}
		youngest := s.running[len(s.running)-1]
		if quota <= 0 {
			youngest = s.youngest(seq.by)
		}
		s.preempt(youngest)
		if youngest == seq {
			return false
		}
	}
}

// preempt parks a running sequence and returns it to the queue.
func (s *scheduler) preempt(seq *sequence) {
	if !seq.apart && !seq.over() { // what has lost its tokens does not come back for them
		s.save(seq.leaf, seq.key, seq.tokens[:seq.past])
	}
	s.release(seq)
	if seq.over() { // it has not come to its shift
		s.discard(seq)
	}
	seq.state = waiting
	s.preempted++
	s.queue = append(s.queue, seq)
}

// shrink gives way to a context that found no cells although they were
// reserved: what is kept goes, or else the youngest sequence is preempted, and
// not admitted again before another one has ended.
func (s *scheduler) shrink() {
	if !s.evict(nil) {
		s.preempt(s.running[len(s.running)-1])
	}
	s.cells = s.tree.cells
}

// retire takes a sequence out, wherever it is. What it has in memory is kept
// for others, if it can be trusted.
func (s *scheduler) retire(seq *sequence, trusted bool) {
	switch seq.state {
	case waiting:
		i := slices.Index(s.queue, seq)
		s.queue = slices.Delete(s.queue, i, i+1)
	case running:
		if trusted && (seq.ahead == 0 || s.mem.truncate(seq.leaf.id, seq.past)) {
			s.keepPrefix(seq)
		} else {
			s.release(seq)
		}
		s.cells = s.capacity
	}
	s.gone(seq)
	seq.state = ended
}

// release frees the cells and the id of a running sequence.
func (s *scheduler) release(seq *sequence) {
	s.free = append(s.free, seq.leaf.id)
	s.forget(seq.leaf, seq.key)
	s.leave(seq)
}

// leave takes a sequence out of the running ones; its leaf is somebody else's now, or gone.
func (s *scheduler) leave(seq *sequence) {
	seq.leaf, seq.past, seq.leader = nil, 0, nil
	i := slices.Index(s.running, seq)
	s.running = slices.Delete(s.running, i, i+1)
}

// forget frees what a leaf's sequence has in memory.
func (s *scheduler) forget(leaf *node, k key) {
	s.mem.truncate(leaf.id, 0)
	s.tree.close(leaf)
	s.tree.drop(k)
}

// check drops what memory does not hold as it should: a sequence that runs is
// computed again.
func (s *scheduler) check(posMax func(llama.SeqID) llama.Pos) {
	for _, seq := range slices.Backward(slices.Clone(s.running)) {
		if posMax(seq.leaf.id)+1 != llama.Pos(seq.past) {
			s.preempt(seq)
		}
	}
	for _, k := range slices.Clone(s.kept) {
		if posMax(k.leaf.id)+1 != llama.Pos(len(k.tokens)) {
			s.drop(k)
		}
	}
}

// inUse is the number of cells that running sequences hold.
func (s *scheduler) inUse() int { return s.heldBy(func(*sequence) bool { return true }) }

// heldBy is the number of cells of some running sequences; those that they share count once.
func (s *scheduler) heldBy(of func(*sequence) bool) int {
	cells, seen := 0, map[*node]bool{}
	for _, seq := range s.running {
		if !of(seq) {
			continue
		}
		for n := seq.leaf; n != nil && !seen[n]; n = n.parent {
			seen[n] = true
			cells += n.cells
		}
	}
	return cells
}
