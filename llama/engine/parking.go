package engine

import (
	"maps"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// parking holds in main memory the states of sequences that are not in the context any more, in segments: what two sequences
// have in common is there once. Least recently used ends go first.
type parking struct {
	most  int64 // bytes
	bytes int64
	whole bool // segments can be gone on with at their end only
	count int
	clock uint64
	roots map[key]*segment
}

// segment is the state of a run of tokens. It continues its parent, of which it may leave the last ones out: parents are
// not split.
type segment struct {
	parent   *segment
	children []*segment
	start    int // position of its first token, at most the parent's end
	tokens   []llama.Token
	data     []byte
	used     uint64
}

func newParking(most int64, whole bool) *parking {
	return &parking{most: most, whole: whole, roots: map[key]*segment{}}
}

func (g *segment) end() int { return g.start + len(g.tokens) }

// match finds the segment with which most tokens of a prompt end.
func (p *parking) match(k key, prompt []llama.Token) (at *segment, n int) {
	at = p.roots[k]
	if at == nil {
		return nil, 0
	}
	return p.below(at, 0, prompt, p.whole)
}

// common is how many tokens of a prompt a sequence here began with, whether or not they can be brought back.
func (p *parking) common(k key, prompt []llama.Token) int {
	if p.roots[k] == nil {
		return 0
	}
	_, n := p.below(p.roots[k], 0, prompt, false)
	return n
}

// below goes on from a segment that agrees with the prompt up to position n; whole leaves segments out that agree in a part.
func (p *parking) below(g *segment, n int, prompt []llama.Token, whole bool) (at *segment, end int) {
	at, end = g, n
	for _, c := range g.children {
		if c.start > n {
			continue
		}
		k := common(c.tokens, prompt[c.start:])
		if k == 0 || whole && k < len(c.tokens) {
			continue
		}
		if a, e := p.below(c, c.start+k, prompt, whole); e > end {
			at, end = a, e
		}
	}
	return at, end
}

// save takes over what memory has of a sequence beyond what is here already, cut where borders say.
func (p *parking) save(k key, tokens []llama.Token, borders []int, copyOf func(from, to int) []byte) {
	at, n := p.match(k, tokens)
	p.touch(at)
	if len(tokens)-n < minShare {
		return
	}
	if at == nil {
		at = &segment{}
		p.roots[k] = at
	}
	for _, to := range borders {
		last := to == len(tokens)
		if !last && (p.whole || to-n < minShare || len(tokens)-to < minShare) {
			continue
		}
		data := copyOf(n, to)
		if data == nil {
			break
		}
		g := &segment{parent: at, start: n, tokens: slices.Clone(tokens[n:to]), data: data}
		at.children = append(at.children, g)
		p.bytes += int64(len(data))
		p.count++
		at, n = g, to
		p.touch(at)
	}
	p.tidy()
	p.trim()
}

// touch marks a segment, and those that it continues, as used.
func (p *parking) touch(g *segment) {
	p.clock++
	for ; g != nil; g = g.parent {
		g.used = p.clock
	}
}

// trim drops ends until the bytes are within their bound.
func (p *parking) trim() {
	for p.bytes > p.most {
		var oldest *segment
		for _, root := range p.roots {
			root.ends(func(g *segment) {
				if oldest == nil || g.used < oldest.used {
					oldest = g
				}
			})
		}
		p.drop(oldest)
	}
}

// ends calls f for each segment that no other one continues.
func (g *segment) ends(f func(*segment)) {
	for _, c := range g.children {
		c.ends(f)
	}
	if len(g.children) == 0 && g.parent != nil {
		f(g)
	}
}

// drop forgets a segment and what continues it.
func (p *parking) drop(g *segment) {
	for len(g.children) > 0 {
		p.drop(g.children[0])
	}
	p.bytes -= int64(len(g.data))
	p.count--
	i := slices.Index(g.parent.children, g)
	g.parent.children = slices.Delete(g.parent.children, i, i+1)
	p.tidy()
}

// tidy forgets keys that have nothing here.
func (p *parking) tidy() {
	maps.DeleteFunc(p.roots, func(_ key, r *segment) bool { return len(r.children) == 0 })
}

// path lists the segments of the first n tokens, of which g has the last ones.
func (g *segment) path(n int) []piece {
	var pieces []piece
	for ; g.parent != nil; g = g.parent {
		pieces = append(pieces, piece{g, n})
		n = g.start
	}
	slices.Reverse(pieces)
	return pieces
}

// piece is a segment up to a position.
type piece struct {
	*segment
	to int
}
