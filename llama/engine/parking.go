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
	token int64 // bytes that one takes at least
	clock uint64
	roots map[key]*segment
	disk  *diskCache // nil: none
}

// segment is the state of a run of tokens. It continues its parent, of which it may leave the last ones out: parents are
// not split.
type segment struct {
	parent   *segment
	children []*segment
	start    int // position of its first token, at most the parent's end
	tokens   []llama.Token
	data     []byte // nil: on disk only
	file     string // on disk; "": none
	used     uint64
}

func newParking(most int64, whole bool) *parking {
	return &parking{most: most, whole: whole, roots: map[key]*segment{}}
}

// match finds the segment with which most tokens of a prompt end.
func (p *parking) match(k key, prompt []llama.Token) (at *segment, n int) {
	at = p.root(k)
	if at == nil {
		return nil, 0
	}
	return p.below(at, 0, prompt, p.whole)
}

// common is how many tokens of a prompt a sequence here began with, whether or not they can be brought back.
func (p *parking) common(k key, prompt []llama.Token) int {
	root := p.root(k)
	if root == nil {
		return 0
	}
	_, n := p.below(root, 0, prompt, false)
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
		if int64(to-n)*p.token > p.most {
			break // it would not stay, and copying it takes time
		}
		data := copyOf(n, to)
		if data == nil {
			break
		}
		if each := int64(len(data) / (to - n)); p.token == 0 || each < p.token {
			p.token = each
		}
		g := &segment{parent: at, start: n, tokens: slices.Clone(tokens[n:to]), data: data}
		if p.disk != nil {
			g.file = p.disk.put(p.disk.head(k, n, tokens[:to]), data)
		}
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

// trim frees memory, and then disk, until their bytes are within their bounds. What is on
// disk loses its memory only; else ends go first, but none that is being written: the disk
// would have worked for nothing.
func (p *parking) trim() {
	for p.bytes > p.most {
		if g := p.oldest(func(g *segment) bool { return g.data != nil && g.file != "" && p.disk.has(g.file) }); g != nil {
			p.bytes -= int64(len(g.data))
			g.data = nil
			continue
		}
		can := func(g *segment) bool { // one that has just been written loses its memory at the next look
			return g.data != nil && (g.file == "" || !p.disk.writing(g.file) && !p.disk.has(g.file))
		}
		g := p.oldest(func(g *segment) bool { return can(g) && len(g.children) == 0 })
		if g == nil { // all that is left is continued by what is on disk only
			g = p.oldest(can)
		}
		if g == nil {
			break
		}
		if g.file != "" {
			p.disk.log.Warn("engine: a state is lost: Params.Cache.Dir has not taken it yet, and Params.Cache.HostBytes is full", "file", g.file)
		}
		p.drop(g)
	}
	for p.disk != nil && p.disk.full() {
		g := p.oldest(func(g *segment) bool { return g.file != "" && len(g.children) == 0 })
		if g == nil {
			return
		}
		p.drop(g)
	}
}

// oldest is the least recently used segment of those that can go.
func (p *parking) oldest(can func(*segment) bool) (oldest *segment) {
	var visit func(*segment)
	visit = func(g *segment) {
		for _, c := range g.children {
			visit(c)
		}
		if g.parent != nil && can(g) && (oldest == nil || g.used < oldest.used) {
			oldest = g
		}
	}
	for _, root := range p.roots {
		visit(root)
	}
	return oldest
}

// root is the tree of a key, which the disk may have; nil where there is none.
func (p *parking) root(k key) *segment {
	if p.disk == nil || p.roots[k] != nil {
		return p.roots[k]
	}
	root := &segment{}
	for _, f := range p.disk.take(k) {
		tokens := f.head.tokens
		at, n := p.below(root, 0, tokens[:f.head.start], p.whole)
		if n != f.head.start { // what it continues is gone
			p.disk.remove(f.name)
			continue
		}
		at.children = append(at.children, &segment{parent: at, start: n, tokens: tokens[n:], file: f.name})
		p.count++
	}
	if len(root.children) == 0 {
		return nil
	}
	p.roots[k] = root
	return root
}

// state gives the data of a segment that continues these tokens; nil where they are gone.
func (p *parking) state(k key, g *segment, before []llama.Token) []byte {
	if g.data == nil && g.file != "" {
		g.data = p.disk.get(g.file, p.disk.head(k, g.start, slices.Concat(before[:g.start], g.tokens)))
		p.bytes += int64(len(g.data))
	}
	return g.data
}

// drop forgets a segment and what continues it.
func (p *parking) drop(g *segment) {
	for len(g.children) > 0 {
		p.drop(g.children[0])
	}
	p.bytes -= int64(len(g.data))
	p.count--
	if g.file != "" {
		p.disk.remove(g.file)
	}
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
