package engine

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// contextDecoder computes steps on a llama.Context: one batch, one crossing
// into C for all sequences.
type contextDecoder struct {
	ctx   *llama.Context
	batch *llama.Batch
	rows  []llama.SampleRow
	spare llama.SeqID // no sequence's: segments of states pass through it
	last  []int       // batch index of the last token of each feed
	log   *slog.Logger
	// streams: each sequence has cells of its own, and none is spare
	streams bool
	moving  bool // llama.cpp copies streams when the next decode begins: until then they are not read

	adapters string // key of those that the context has
}

func (d *contextDecoder) decode(feeds []feed, steps int) error {
	if s := feeds[0].seq; s.key.adapters != d.adapters {
		if err := d.ctx.SetAdapters(s.adapters); err != nil {
			return err
		}
		d.adapters = s.key.adapters
	}
	if d.streams { // llama.cpp computes together only what follows each other by its id
		slices.SortFunc(feeds, func(a, b feed) int { return int(a.seq.leaf.id - b.seq.leaf.id) })
	}
	d.batch.Clear()
	rows := d.rows[:0]
	d.last = d.last[:0]
	for _, f := range feeds {
		last := 0
		for i := range f.n {
			pos := f.seq.past + i
			var err error
			last, err = d.batch.Add(f.seq.tokens[pos], llama.Pos(pos), f.seq.leaf.id, f.sample && i == f.n-1)
			if err != nil {
				return err
			}
		}
		d.last = append(d.last, last)
		for i, t := range f.guess[:f.draft] {
			if _, err := d.batch.Add(t, llama.Pos(f.seq.past+f.n+i), f.seq.leaf.id, true); err != nil {
				return err
			}
		}
		if f.sample && f.seq.process == nil {
			rows = slices.Grow(rows, 1)[:len(rows)+1] // an old row keeps the storage of its tokens
			row := &rows[len(rows)-1]
			row.Index, row.Draft, row.Sampler, row.NProbs = last, f.draft, f.seq.sampler, f.seq.nProbs
		}
	}
	d.rows, d.moving = rows, false
	if err := d.ctx.DecodeSteps(d.batch, rows, steps); err != nil {
		return err
	}
	row := 0
	for i := range feeds {
		f := &feeds[i]
		switch {
		case !f.sample:
			continue
		case f.seq.process != nil:
			d.process(f, d.last[i])
		default:
			f.tokens, f.probs, f.err = rows[row].Tokens, rows[row].Probs, rows[row].Err
			row++
		}
		if errors.Is(f.err, llama.ErrGrammarRejected) && f.seq.newUnforced != nil {
			d.sampleEnd(f, d.last[i]+min(f.draft, len(f.tokens)))
		}
	}
	return nil
}

// sampleEnd tells a grammar that is finished from one that is at a dead end:
// where only the end is left, it is taken although it is forbidden.
func (d *contextDecoder) sampleEnd(f *feed, index int) {
	if f.seq.discarded > 0 {
		return // what the grammar has seen is gone
	}
	s, err := f.seq.newUnforced()
	if err != nil {
		return
	}
	defer func() { f.err = errors.Join(f.err, s.Close()) }()
	for _, t := range slices.Concat(f.seq.tokens[f.seq.prompt:], f.tokens) {
		if s.Accept(t) != nil {
			return
		}
	}
	if token, err := s.Sample(d.ctx, index); err == nil && d.ctx.Model().Vocab().IsEOG(token) {
		f.tokens, f.err = append(f.tokens, token), nil
		if f.seq.nProbs > 0 { // it was forbidden
			f.probs = append(f.probs, make([]llama.TokenProb, f.seq.nProbs)...)
			f.probs[len(f.probs)-f.seq.nProbs].Token = token
		}
	}
}

// share: a cache with a sliding window forgets what a copy of a part would need,
// a recurrent state is that of the last token only, and between streams llama.cpp
// copies whole sequences.
func (d *contextDecoder) share() bool {
	m := d.ctx.Model()
	return !d.streams && m.NSWA() == 0 && !m.IsRecurrent() && !m.IsHybrid()
}

// move gives a whole sequence another id, which is free.
func (d *contextDecoder) move(src, dst llama.SeqID) bool {
	if err := d.ctx.Memory().SeqCopy(src, dst, -1, -1); err != nil {
		d.log.Error("engine: a sequence was not moved", "sequence", src, "error", err)
		return false
	}
	d.moving = true
	return d.truncate(src, 0)
}

func (d *contextDecoder) copy(src, dst llama.SeqID, n int) bool {
	if d.lend(src, dst, 0, n) {
		return true
	}
	d.truncate(dst, 0)
	return false
}

// lend lets dst share tokens of src. Where it reports false, dst may have a part of them.
func (d *contextDecoder) lend(src, dst llama.SeqID, from, to int) bool {
	err := d.ctx.Memory().SeqCopy(src, dst, llama.Pos(from), llama.Pos(to))
	if err == nil && d.posMax(dst) == llama.Pos(to-1) {
		return true
	}
	d.log.Error("engine: a prefix was not shared", "sequence", src, "error", err)
	return false
}

// save takes the segment out by way of the spare sequence: llama.cpp copies whole sequences only.
func (d *contextDecoder) save(id llama.SeqID, from, to int) []byte {
	whole := id
	if !d.streams {
		defer d.truncate(d.spare, 0)
		if !d.lend(id, d.spare, from, to) {
			return nil
		}
		whole = d.spare
	} else if d.moving {
		return nil
	}
	data, err := d.ctx.Memory().SeqState(whole, llama.StateWhole)
	if err != nil {
		d.log.Error("engine: a prefix was not parked", "sequence", id, "error", err)
	}
	return data
}

func (d *contextDecoder) restore(id llama.SeqID, saved []byte, from, to int) int {
	whole := id
	if !d.streams {
		defer d.truncate(d.spare, 0)
		whole = d.spare
	} else if d.moving {
		return from
	}
	if err := d.ctx.Memory().SetSeqState(whole, saved, llama.StateWhole); err != nil {
		d.log.Error("engine: a parked prefix was not brought back", "sequence", id, "error", err)
		return from
	}
	if d.streams && d.posMax(id) == llama.Pos(to-1) && d.hasWindow(id, to) {
		return to
	}
	if !d.streams && d.lend(d.spare, id, from, to) && d.hasWindow(id, to) {
		return to
	}
	if !d.share() {
		from = 0
	}
	d.truncate(id, from)
	return from
}

// hasWindow says whether a sequence of n tokens has all that its next token attends to: llama.cpp does not look.
func (d *contextDecoder) hasWindow(id llama.SeqID, n int) bool {
	w := d.ctx.Model().NSWA()
	return w == 0 || d.ctx.Memory().PosMin(id) <= llama.Pos(max(0, n-w))
}

// truncate to nothing works with every kind of memory. What lies before a sliding window is
// given to other tokens: a sequence that is cut may lack what its next token attends to.
func (d *contextDecoder) truncate(id llama.SeqID, n int) bool {
	from := llama.Pos(n)
	if n == 0 {
		from = -1
	}
	err := d.ctx.Memory().SeqRemove(id, from, -1)
	if err != nil {
		d.log.Error("engine: the cells of a sequence were not freed", "sequence", id, "error", err)
	}
	return err == nil && (n == 0 || d.hasWindow(id, n))
}

func (d *contextDecoder) shift(id llama.SeqID, keep, n int) bool {
	m := d.ctx.Memory()
	if !m.CanShift() || m.SeqRemove(id, llama.Pos(keep), llama.Pos(keep+n)) != nil {
		return false
	}
	err := m.SeqAdd(id, llama.Pos(keep+n), -1, llama.Pos(-n))
	if err != nil {
		d.log.Error("engine: a sequence was not shifted", "sequence", id, "error", err)
	}
	return err == nil
}

func (d *contextDecoder) posMax(id llama.SeqID) llama.Pos { return d.ctx.Memory().PosMax(id) }
func (d *contextDecoder) abort()                          { d.ctx.Abort() }
func (d *contextDecoder) resetAbort()                     { d.ctx.ResetAbort() }
func (d *contextDecoder) takeTurn() bool                  { return d.ctx.TakeTurn() }
func (d *contextDecoder) giveTurn() {
	if d.ctx != nil { // else it only embeds
		d.ctx.GiveTurn()
	}
}
func (d *contextDecoder) interruptTurn()  { d.ctx.InterruptTurn() }
func (d *contextDecoder) contended() bool { return d.ctx.Contended() }
func (d *contextDecoder) hold()           { d.ctx.Hold() }
