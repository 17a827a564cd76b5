package engine

import (
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// minShare is the least number of tokens for which a prompt waits until another
// one has computed them, and for which an ended sequence stays.
const minShare = 16

// kept is a sequence that has ended and is still in memory: until another one
// runs, whose steps its cells would make slower. Then it is parked.
type kept struct {
	leaf   *node
	key    key
	tokens []llama.Token
}

// place gives a waiting sequence an id, what memory has of its prompt, and a
// reservation. It reports false where there are not enough cells.
func (s *scheduler) place(seq *sequence) bool {
	donor, n := s.match(seq)
	room := s.need(seq)
	from := s.keptAt(donor)
	for s.tree.cells+room-n > s.cells || (len(s.free) == 0 && from == nil) {
		if s.evict(from) {
			continue
		}
		// Its rest is in the way.
		if from == nil || s.tree.cells-s.tree.alone(from.leaf, n)+room-n > s.cells {
			return false
		}
		break
	}
	switch {
	case donor == nil:
		seq.leaf = s.tree.open(s.tree.root(seq.key), s.takeID())
	case from != nil && (n == len(from.tokens) || len(s.free) == 0 || s.tree.cells+room-n > s.cells):
		seq.leaf, n = s.inherit(from, n)
	default:
		if from != nil {
			s.touch(from)
		}
		seq.leaf, n = s.joined(seq.key, donor, n, s.takeID())
	}
	seq.apart = false
	s.tree.reserve(seq.leaf, room)
	seq.took(s.unpark(seq, n))
	seq.leaf.tokens = seq.tokens[seq.leaf.start:seq.past]
	s.markBranch(seq)
	return true
}

// match finds what memory has of a sequence's tokens; at least one of them is
// left to compute, so that there is something to sample from.
func (s *scheduler) match(seq *sequence) (*node, int) {
	prompt := seq.tokens[:len(seq.tokens)-1]
	if s.mem.share() {
		return s.tree.match(seq.key, prompt)
	}
	var leaf *node
	longest := 0
	for _, k := range s.kept {
		if n := len(k.tokens); k.key == seq.key && n > longest && n <= len(prompt) && common(k.tokens, prompt) == n {
			leaf, longest = k.leaf, n
		}
	}
	return leaf, longest
}

func (s *scheduler) takeID() llama.SeqID {
	id := slices.Min(s.free) // streams want consecutive ones
	s.free = slices.DeleteFunc(s.free, func(f llama.SeqID) bool { return f == id })
	return id
}

// joined is a new leaf with the first n tokens of a donor, or with none.
func (s *scheduler) joined(k key, donor *node, n int, id llama.SeqID) (*node, int) {
	if !s.mem.copy(donor.id, id, n) {
		return s.tree.open(s.tree.root(k), id), 0
	}
	return s.tree.fork(donor, n, id), n
}

// inherit goes on where an ended sequence was, with its first n tokens.
func (s *scheduler) inherit(k *kept, n int) (*node, int) {
	if len(k.tokens)-n >= minShare {
		s.save(k.leaf, k.key, k.tokens)
	}
	s.unkeep(k)
	id := k.leaf.id
	if n < len(k.tokens) && !s.mem.truncate(id, n) {
		s.forget(k.leaf, k.key)
		return s.tree.open(s.tree.root(k.key), id), 0
	}
	leaf := s.tree.fork(k.leaf, n, id)
	s.tree.close(k.leaf)
	return leaf, n
}

// keepPrefix leaves an ended sequence in memory.
func (s *scheduler) keepPrefix(seq *sequence) {
	if s.parking == nil || seq.past < minShare || seq.apart {
		s.release(seq)
		return
	}
	leaf := seq.leaf
	leaf.tokens = seq.tokens[leaf.start:seq.past]
	s.tree.reserve(leaf, 0) // none but those in use
	s.kept = append(s.kept, &kept{leaf, seq.key, seq.tokens[:seq.past]})
	s.leave(seq)
}

// parkKept makes room for those that run.
func (s *scheduler) parkKept() {
	for len(s.running) > 0 && s.evict(nil) {
	}
}

// evict parks the kept sequence that has not been used for longest, other than one.
func (s *scheduler) evict(other *kept) bool {
	i := slices.IndexFunc(s.kept, func(k *kept) bool { return k != other })
	if i < 0 {
		return false
	}
	k := s.kept[i]
	s.save(k.leaf, k.key, k.tokens)
	s.drop(k)
	return true
}

// drop frees a kept sequence and its id.
func (s *scheduler) drop(k *kept) {
	s.unkeep(k)
	s.free = append(s.free, k.leaf.id)
	s.forget(k.leaf, k.key)
}

// save parks a copy of what memory has of a leaf's sequence.
func (s *scheduler) save(leaf *node, k key, tokens []llama.Token) {
	if s.parking == nil {
		return
	}
	borders := []int{len(tokens)}
	for n := leaf.parent; n.parent != nil; n = n.parent {
		borders = append(borders, n.end())
	}
	slices.Reverse(borders)
	s.parking.save(k, tokens, borders, func(from, to int) []byte { return s.mem.save(leaf.id, from, to) })
}

// unpark brings back what is parked of a sequence's tokens behind the first n, which are
// in memory. It returns how many are there.
func (s *scheduler) unpark(seq *sequence, n int) int {
	if s.parking == nil || s.parking.whole && n > 0 {
		return n
	}
	g, end := s.parking.match(seq.key, seq.tokens[:len(seq.tokens)-1])
	if end < n+minShare {
		return n
	}
	s.parking.touch(g)
	for _, p := range g.path(end) {
		if p.to <= n {
			continue
		}
		if s.tree.cells-(seq.leaf.room()-n)+len(p.tokens) > s.cells {
			break // a segment is brought back as a whole, and then cut
		}
		data := s.parking.state(seq.key, p.segment, seq.tokens)
		if data != nil {
			n = s.mem.restore(seq.leaf.id, data, n, p.to)
		}
		if n != p.to {
			s.parking.drop(p.segment)
			break
		}
	}
	s.parking.trim()
	return n
}

func (s *scheduler) unkeep(k *kept) {
	i := slices.Index(s.kept, k)
	s.kept = slices.Delete(s.kept, i, i+1)
}

func (s *scheduler) keptAt(leaf *node) *kept {
	i := slices.IndexFunc(s.kept, func(k *kept) bool { return k.leaf == leaf })
	if leaf == nil || i < 0 {
		return nil
	}
	return s.kept[i]
}

func (s *scheduler) touch(k *kept) {
	s.unkeep(k)
	s.kept = append(s.kept, k)
}

// waits says whether a prompt goes on with tokens that one of those before it is
// about to compute: they are computed once.
func (s *sequence) waits(before []*sequence) bool {
	if l := s.leader; l != nil && l.state == running && l.past < s.common {
		l.stop(s.common)
		return true
	}
	s.leader = nil
	for _, l := range before {
		if l.leader != nil || l.key != s.key {
			continue
		}
		if n := common(l.tokens, s.tokens[:len(s.tokens)-1]); n >= s.past+minShare && l.past < n {
			s.leader, s.common = l, n
			l.stop(n)
			return true
		}
	}
	return false
}

// rejoin takes over what others have computed of a prompt since it was admitted.
func (s *scheduler) rejoin(seq *sequence) {
	if !s.mem.share() {
		s.unparkRunning(seq)
		return
	}
	donor, n := s.match(seq)
	if n <= seq.past {
		return
	}
	if k := s.keptAt(donor); k != nil {
		s.touch(k)
	}
	id, room := seq.leaf.id, seq.leaf.room()
	s.mem.truncate(id, 0)
	old := seq.leaf
	seq.leaf, n = s.joined(seq.key, donor, n, id)
	s.tree.close(old)
	s.tree.reserve(seq.leaf, room)
	seq.took(n)
}
