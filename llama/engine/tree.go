package engine

import (
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// tree mirrors what the context's memory holds: a radix tree over tokens for
// each key. A path from a root to a leaf is one sequence; the cells of
// an inner node are shared by all sequences below it. Two nodes may begin with
// the same tokens: they were computed twice and are two sets of cells.
type tree struct {
	roots map[key]*node
	cells int // of all nodes
}

// node is a run of tokens. A leaf belongs to the one sequence that ends there,
// and grows with it; an inner node does not change any more.
type node struct {
	parent   *node
	children []*node
	start    int           // position of its first token
	tokens   []llama.Token // in memory
	cells    int           // as many, or more where a running sequence has reserved them
	id       llama.SeqID   // of a leaf
}

func newTree() *tree { return &tree{roots: map[key]*node{}} }

func (n *node) end() int { return n.start + len(n.tokens) }

// room is the number of tokens that the sequence of a leaf may have.
func (n *node) room() int { return n.start + n.cells }

func (t *tree) root(k key) *node {
	r := t.roots[k]
	if r == nil {
		r = &node{}
		t.roots[k] = r
	}
	return r
}

// open makes the leaf of a sequence below a node, whose tokens it shares.
func (t *tree) open(parent *node, id llama.SeqID) *node {
	n := &node{parent: parent, start: parent.end(), id: id}
	parent.children = append(parent.children, n)
	return n
}

// reserve gives a leaf cells for a sequence of so many tokens.
func (t *tree) reserve(leaf *node, tokens int) {
	cells := max(tokens-leaf.start, len(leaf.tokens))
	t.cells += cells - leaf.cells
	leaf.cells = cells
}

// fork makes a leaf that shares the first n tokens of another one's sequence.
func (t *tree) fork(leaf *node, n int, id llama.SeqID) *node {
	at := leaf
	for at.parent != nil && at.start >= n {
		at = at.parent
	}
	if n < at.end() || at == leaf {
		at = t.split(at, n-at.start)
	}
	return t.open(at, id)
}

// split puts a new inner node with the first k tokens above a node.
func (t *tree) split(n *node, k int) *node {
	upper := &node{parent: n.parent, children: []*node{n}, start: n.start, tokens: n.tokens[:k:k], cells: k}
	i := slices.Index(n.parent.children, n)
	n.parent.children[i] = upper
	n.parent, n.start, n.tokens = upper, n.start+k, n.tokens[k:]
	n.cells -= k
	return upper
}

// close removes a leaf, and with it what no other sequence shares.
func (t *tree) close(leaf *node) {
	for n := leaf; n.parent != nil && len(n.children) == 0; n = n.parent {
		t.cells -= n.cells
		i := slices.Index(n.parent.children, n)
		n.parent.children = slices.Delete(n.parent.children, i, i+1)
	}
}

// drop forgets a key that has nothing in memory.
func (t *tree) drop(k key) {
	if r := t.roots[k]; r != nil && len(r.children) == 0 {
		delete(t.roots, k)
	}
}

// match finds the sequence that shares the most tokens with a prompt.
func (t *tree) match(k key, prompt []llama.Token) (leaf *node, n int) {
	if r := t.roots[k]; r != nil {
		leaf, n = r.match(prompt)
	}
	return leaf, n
}

func (n *node) match(prompt []llama.Token) (leaf *node, length int) {
	for _, c := range n.children {
		k := common(c.tokens, prompt[c.start:])
		if k == 0 {
			continue
		}
		at, end := c, c.start+k
		if k == len(c.tokens) && end < len(prompt) {
			if below, more := c.match(prompt); more > end {
				at, end = below, more
			}
		}
		if end > length {
			leaf, length = at.leaf(), end
		}
	}
	return leaf, length
}

// leaf is any leaf below a node: its sequence has all tokens of the node.
func (n *node) leaf() *node {
	for len(n.children) > 0 {
		n = n.children[0]
	}
	return n
}

// common is the length of the longest common prefix.
func common(a, b []llama.Token) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// alone is the number of cells behind token n that only a leaf's sequence holds.
func (t *tree) alone(leaf *node, n int) int {
	cells := 0
	for at := leaf; at.parent != nil && at.end() > n && (at == leaf || len(at.children) == 1); at = at.parent {
		cells += at.cells - max(0, n-at.start)
	}
	return cells
}
