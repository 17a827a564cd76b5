package engine

// Memory with a sliding window or a recurrent state can be gone on with at a
// sequence's end only. What others are going to share of a prompt is therefore
// parked while the one that computes it is just there: its mark. Each of those who
// share it gets a copy of its own from there, with a window of its own.

// stop sets the mark of a sequence, the nearest one first.
func (s *sequence) stop(n int) {
	if n > s.past && (s.mark <= s.past || n < s.mark) {
		s.mark = n
	}
}

// chunk is how many of the next n tokens of a prompt are computed at once.
func (s *scheduler) chunk(seq *sequence, n int) int {
	if s.marks() && seq.mark > seq.past {
		n = min(n, seq.mark-seq.past)
	}
	return n
}

// marks says whether parts of sequences have to be parked to be shared.
func (s *scheduler) marks() bool { return s.parking != nil && s.parking.whole }

// parkMarked parks those that have reached their mark.
func (s *scheduler) parkMarked() {
	if !s.marks() {
		return
	}
	for _, seq := range s.running {
		if seq.mark > 0 && seq.mark == seq.past && !seq.apart {
			s.save(seq.leaf, seq.key, seq.tokens[:seq.past])
			seq.mark = 0
		}
	}
}

// markBranch marks where a prompt parts from one that was here before: a third one
// is likely to part there too.
func (s *scheduler) markBranch(seq *sequence) {
	if !s.marks() {
		return
	}
	prompt := seq.tokens[:len(seq.tokens)-1]
	n := s.parking.common(seq.key, prompt)
	for _, k := range s.kept {
		if k.key == seq.key {
			n = max(n, common(k.tokens, prompt))
		}
	}
	for _, other := range s.running {
		if other.key == seq.key {
			n = max(n, common(other.tokens[:other.past], prompt))
		}
	}
	if n >= seq.past+minShare {
		seq.stop(n)
	}
}

// unparkRunning takes over what has been parked of a prompt since it was admitted.
func (s *scheduler) unparkRunning(seq *sequence) {
	if !s.marks() {
		return
	}
	if _, n := s.parking.match(seq.key, seq.tokens[:len(seq.tokens)-1]); n < seq.past+minShare {
		return
	}
	old, room := seq.leaf, seq.leaf.room()
	s.mem.truncate(old.id, 0)
	s.tree.close(old)
	seq.leaf = s.tree.open(s.tree.root(seq.key), old.id)
	s.tree.reserve(seq.leaf, room)
	seq.took(s.unpark(seq, 0))
	seq.leaf.tokens = seq.tokens[:seq.past]
}
