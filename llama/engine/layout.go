package engine

import (
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Layout says how the sequences of an engine lie in the KV cache. It is fixed
// when the engine is made.
type Layout int

const (
	// LayoutUnified keeps all sequences in one cache: each may use all of its
	// cells, and they share the beginnings of their prompts. A token costs more the
	// more cells are in use, by whomever.
	LayoutUnified Layout = iota
	// LayoutStreams gives each sequence NCtx / MaxSequences cells of its own, rounded
	// up to 256. A token pays for its own sequence only, but sequences that run share no
	// cells, and steps that hold prompts compute those apart.
	LayoutStreams
)

// pack gives the running sequences the ids from 0 on: those of streams are
// computed together only where their ids follow each other, and each gap costs a
// pass over the weights, which is more than to copy a stream.
func (s *scheduler) pack() {
	for {
		hole := llama.SeqID(0)
		for slices.ContainsFunc(s.running, func(seq *sequence) bool { return seq.leaf.id == hole }) {
			hole++
		}
		var last *sequence
		for _, seq := range s.running {
			if last == nil || seq.leaf.id > last.leaf.id {
				last = seq
			}
		}
		if last == nil || last.leaf.id < hole || last.past > 0 && !s.mem.move(last.leaf.id, hole) {
			return
		}
		s.free[slices.Index(s.free, hole)] = last.leaf.id
		last.leaf.id = hole
	}
}
