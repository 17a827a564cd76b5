package engine

import (
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

const fakeEOG llama.Token = 0

// fakeCell is one cell of the cache; sequences that share it have the same one.
type fakeCell struct{ token llama.Token }

func tokensOf(cells []*fakeCell) []llama.Token {
	out := make([]llama.Token, len(cells))
	for i, c := range cells {
		out[i] = c.token
	}
	return out
}

// fakeDecoder has the memory of a unified cache, and a model whose next token
// is a function of all tokens before it, so that a token fed twice, never, or
// at the wrong place shows in the output.
type fakeDecoder struct {
	t      *testing.T
	cells  int
	fail   func(step int) error   // nil: never
	gate   chan struct{}          // where set, a step waits for a value or an abort
	order  func([]feed)           // where set, sees each step
	noEOG  bool                   // the model never ends by itself
	whole  bool                   // only whole sequences can be gone on with
	refuse func(restore int) bool // nil: never

	mu       sync.Mutex // of the fields below
	memory   map[llama.SeqID][]*fakeCell
	steps    int
	aborted  chan struct{}
	isClosed bool
	held     bool
	returns  int // of decode
	restores int
	moving   bool // sequences were moved, which happens with the next step
}

func newFakeDecoder(t *testing.T, cells int) *fakeDecoder {
	return &fakeDecoder{t: t, cells: cells, memory: map[llama.SeqID][]*fakeCell{}, aborted: make(chan struct{})}
}

// nextToken is the fake model: a hash of the history; about one in 40 is EOG.
func nextToken(history []llama.Token) llama.Token {
	h := uint32(2166136261)
	for _, t := range history {
		h = (h ^ uint32(t)) * 16777619
	}
	return llama.Token((h >> 8) % 40)
}

// decode ends several steps as llama.Context.DecodeSteps does.
func (d *fakeDecoder) decode(feeds []feed, steps int) error {
	for i := range feeds {
		feeds[i].tokens = nil
	}
	defer func() {
		d.mu.Lock()
		d.returns++
		d.mu.Unlock()
	}()
	for step := range steps {
		if err := d.step(feeds); err != nil {
			if step > 0 {
				return nil
			}
			return err
		}
		d.mu.Lock()
		held := d.held
		d.mu.Unlock()
		if held || slices.ContainsFunc(feeds, func(f feed) bool { return slices.Contains(f.tokens, fakeEOG) }) {
			break
		}
	}
	return nil
}

// step feeds the tokens of the plan, or those of the step before.
func (d *fakeDecoder) step(feeds []feed) error {
	d.mu.Lock()
	d.moving = false
	d.steps++
	aborted, step := d.aborted, d.steps
	d.mu.Unlock()
	if d.order != nil {
		d.order(feeds)
	}
	if d.gate != nil {
		select {
		case <-d.gate:
		case <-aborted:
			return &llama.DecodeError{Code: 2}
		}
	}
	if d.fail != nil {
		if err := d.fail(step); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	used := d.cellsInUse()
	for _, f := range feeds {
		used += f.n
	}
	if used > d.cells {
		return &llama.DecodeError{Code: 1}
	}
	for i := range feeds {
		f := &feeds[i]
		m := d.memory[f.seq.leaf.id]
		next := f.seq.tokens[f.seq.past : f.seq.past+f.n]
		if k := len(f.tokens); k > 0 {
			next = f.tokens[k-1:]
		} else if len(m) != f.seq.past {
			d.t.Errorf("sequence %d is fed from %d, memory has %d", f.seq.leaf.id, f.seq.past, len(m))
		}
		m = slices.Clip(m) // a copy of it goes on by itself
		for _, t := range next {
			m = append(m, &fakeCell{t})
		}
		d.memory[f.seq.leaf.id] = m
		if f.sample {
			token := nextToken(tokensOf(m))
			if d.noEOG {
				token++
			}
			f.tokens = append(f.tokens, token)
		}
	}
	return nil
}

func (d *fakeDecoder) takeTurn() bool  { return true }
func (d *fakeDecoder) giveTurn()       {}
func (d *fakeDecoder) interruptTurn()  {}
func (d *fakeDecoder) contended() bool { return false }

func (d *fakeDecoder) share() bool { return !d.whole }

func (d *fakeDecoder) copy(src, dst llama.SeqID, n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.memory[dst]) > 0 || n > len(d.memory[src]) {
		d.t.Errorf("copy of %d tokens of sequence %d, which has %d, to %d, which has %d", n, src, len(d.memory[src]), dst, len(d.memory[dst]))
		return false
	}
	d.memory[dst] = slices.Clone(d.memory[src][:n])
	return true
}

// save and restore have their own cells.
func (d *fakeDecoder) save(id llama.SeqID, from, to int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.memory[id]
	if d.moving {
		d.t.Errorf("sequence %d is saved while it may be on the move", id)
	}
	if to > len(m) || d.whole && to != len(m) {
		return nil
	}
	var b []byte
	for i := from; i < to; i++ {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		b = binary.LittleEndian.AppendUint32(b, uint32(m[i].token))
	}
	return b
}

func (d *fakeDecoder) restore(id llama.SeqID, saved []byte, from, to int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := slices.Clip(d.memory[id])
	if len(m) != from || d.cellsInUse()+len(saved)/8 > d.cells {
		d.t.Errorf("sequence %d has %d tokens, is given those from %d; %d cells in use, %d more", id, len(m), from, d.cellsInUse(), len(saved)/8)
	}
	if d.moving {
		d.t.Errorf("sequence %d is restored while it may be on the move", id)
	}
	d.restores++
	if d.refuse != nil && d.refuse(d.restores) {
		return from
	}
	for ; len(saved) > 0; saved = saved[8:] {
		if i := int(binary.LittleEndian.Uint32(saved)); i >= from && i < to {
			if i != len(m) {
				d.t.Errorf("token %d is restored at %d", i, len(m))
			}
			m = append(m, &fakeCell{llama.Token(binary.LittleEndian.Uint32(saved[4:]))})
		}
	}
	if len(m) != to {
		d.t.Errorf("restored to %d, want %d", len(m), to)
	}
	d.memory[id] = m
	return to
}

func (d *fakeDecoder) truncate(id llama.SeqID, n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n > len(d.memory[id]) {
		d.t.Errorf("sequence %d has %d tokens, cut at %d", id, len(d.memory[id]), n)
	}
	if n == 0 {
		delete(d.memory, id)
	} else {
		d.memory[id] = d.memory[id][:n]
	}
	return true
}

func (d *fakeDecoder) shift(id llama.SeqID, keep, n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.whole {
		return false
	}
	d.memory[id] = slices.Concat(d.memory[id][:keep], d.memory[id][keep+n:])
	return true
}

func (d *fakeDecoder) move(src, dst llama.SeqID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.memory[dst]) > 0 {
		d.t.Errorf("sequence %d is moved to %d, which has %d tokens", src, dst, len(d.memory[dst]))
	}
	d.memory[dst] = d.memory[src]
	delete(d.memory, src)
	d.moving = true
	return true
}

func (d *fakeDecoder) posMax(id llama.SeqID) llama.Pos {
	d.mu.Lock()
	defer d.mu.Unlock()
	return llama.Pos(len(d.memory[id]) - 1)
}

func (d *fakeDecoder) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.isClosed {
		close(d.aborted)
		d.isClosed = true
	}
}

func (d *fakeDecoder) resetAbort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed {
		d.aborted, d.isClosed = make(chan struct{}), false
	}
	d.held = false
}

func (d *fakeDecoder) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = true
}

func (d *fakeDecoder) used() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cellsInUse()
}

func (d *fakeDecoder) cellsInUse() int {
	cells := map[*fakeCell]bool{}
	for _, m := range d.memory {
		for _, c := range m {
			cells[c] = true
		}
	}
	return len(cells)
}

// startLoop starts a loop that keeps nothing of what has ended.
func startLoop(t *testing.T, d decoder, batch, sequences int) *loop {
	return startKeeping(t, d, batch, sequences, -1)
}

func startKeeping(t *testing.T, d decoder, batch, sequences int, host int64) *loop {
	cells := 100
	if f, ok := d.(*fakeDecoder); ok {
		cells = f.cells
	}
	l := newLoop(d, newScheduler(cells, batch, sequences, host, d), func(tok llama.Token) bool { return tok == fakeEOG }, slog.New(slog.DiscardHandler))
	go l.run()
	t.Cleanup(l.close)
	return l
}

func newTestSequence(prompt []llama.Token, limit int) *sequence {
	return &sequence{
		prompt: len(prompt), limit: limit, limitReason: FinishLength, tokens: slices.Clone(prompt),
		text: noText{}, out: newMailbox[output](), release: func() {}, retired: make(chan struct{}),
	}
}

// noText is the text of a model whose tokens have none.
type noText struct{}

func (noText) push(dst []byte, _ llama.Token) ([]byte, bool, error) { return dst, false, nil }
func (noText) flush(dst []byte) ([]byte, bool)                      { return dst, false }

// reference runs the fake model alone.
func reference(prompt []llama.Token, limit int) []llama.Token {
	all := slices.Clone(prompt)
	for len(all) < limit {
		all = append(all, nextToken(all))
		if all[len(all)-1] == fakeEOG {
			break
		}
	}
	return all[len(prompt):]
}

func outputOf(s *sequence) []llama.Token {
	out, _, _ := s.out.take(output{})
	return out.tokens
}

func randomPrompt(r *rand.Rand, n int) []llama.Token {
	p := make([]llama.Token, n)
	for i := range p {
		p[i] = llama.Token(1 + r.IntN(1000))
	}
	return p
}
