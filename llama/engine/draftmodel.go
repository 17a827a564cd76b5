package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// draftModel guesses what a larger model is going to sample: its own likeliest tokens.
// It belongs to the loop's goroutine, which computes with one model at a time.
type draftModel struct {
	model    *llama.Model
	ctx      *llama.Context
	batch    *llama.Batch
	rows     []llama.SampleRow
	samplers []*llama.Sampler
	have     [][]llama.Token // of each sequence: what memory has
	guesses  [][]llama.Token // of each sequence: storage
	most     int             // tokens of one sequence
	left     int             // tokens that may be computed before the guesses of a step
	promised int             // cells that the sequences which are followed are going to need, beside those they have
	vocab    llama.Token     // tokens of the larger model
	log      *slog.Logger
}

// catchUp is how many tokens of a sequence are computed beside those of others.
const catchUp = 8

// openDraftModel loads the draft model of a model's engine with so many cells.
func openDraftModel(ctx context.Context, m *llama.Model, p *Params, cells int) (_ *draftModel, err error) {
	cp := llama.ContextParams{
		NCtx: cells, NBatch: max(p.NBatch, catchUp*p.MaxSequences), NUBatch: p.NUBatch, NSeqMax: p.MaxSequences, NOutputsMax: p.MaxSequences,
		NThreads: p.NThreads, NThreadsBatch: p.NThreadsBatch, FlashAttn: p.FlashAttn, KVUnified: true, SWAFull: true, Pool: p.Pool,
	}
	mp := p.Model
	mp.Context, mp.Progress, mp.Preflight = cp, nil, nil
	d := &draftModel{have: make([][]llama.Token, p.MaxSequences), guesses: make([][]llama.Token, p.MaxSequences), vocab: llama.Token(m.Vocab().NTokens()), log: p.Logger}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.model, err = llama.LoadModel(ctx, p.Speculative.DraftModel, mp); err != nil {
		return nil, fmt.Errorf("engine: Params.Speculative.DraftModel: %w", err)
	}
	if !canForget(d.model) {
		return nil, fmt.Errorf("engine: Params.Speculative.DraftModel: it has a recurrent state, which cannot forget tokens: %w", llama.ErrUnsupported)
	}
	if err := sameVocab(m.Vocab(), d.model.Vocab()); err != nil {
		return nil, err
	}
	if d.ctx, err = llama.NewContext(d.model, cp); err != nil {
		return nil, fmt.Errorf("engine: Params.Speculative.DraftModel: %w", err)
	}
	d.most = d.ctx.NCtxSeq()
	if trained := d.model.NCtxTrain(); trained > 0 {
		d.most = min(d.most, trained)
	}
	d.batch = llama.NewBatch(d.ctx.NBatch())
	for range p.MaxSequences {
		s, err := llama.NewSampler(d.model, llama.SamplerParams{})
		if err != nil {
			return nil, err
		}
		d.samplers = append(d.samplers, s)
	}
	return d, nil
}

// unequalPadding is how many more tokens one of two vocabularies may have: models of a
// family are padded differently.
const unequalPadding = 128

func sameVocab(a, b *llama.Vocab) error {
	n := min(a.NTokens(), b.NTokens())
	if max(a.NTokens(), b.NTokens()) > n+unequalPadding {
		return invalid("Params.Speculative.DraftModel", "its vocabulary has %d tokens, the model's has %d: take a smaller model of the same family", b.NTokens(), a.NTokens())
	}
	var x, y []byte
	for t := range llama.Token(n) {
		var errA, errB error
		x, errA = a.AppendPiece(x[:0], t, true)
		y, errB = b.AppendPiece(y[:0], t, true)
		if errA != nil || errB != nil || !bytes.Equal(x, y) {
			return invalid("Params.Speculative.DraftModel", "its token %d is %q, the model's is %q: take a smaller model of the same family", t, y, x)
		}
	}
	return nil
}

func (d *draftModel) close() error {
	if d == nil {
		return nil
	}
	var errs []error
	for _, s := range d.samplers {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, d.batch.Close(), d.ctx.Close(), d.model.Close())...)
}

// guess fills in the guesses of the feeds that want some of it, and returns how many
// tokens it computed for that.
func (d *draftModel) guess(feeds []feed) int {
	n, err := d.draft(feeds)
	if err == nil {
		return n
	}
	d.log.Error("engine: the draft model failed", "error", err)
	for i := range feeds {
		if f := &feeds[i]; f.asks() {
			f.guess, f.draft = nil, 0
		}
	}
	clear(d.have)
	if err := d.ctx.Memory().Clear(); err != nil {
		d.log.Error("engine: the draft model's memory was not cleared", "error", err)
	}
	return 0
}

// draft goes on with the sequences, all of them at once.
func (d *draftModel) draft(feeds []feed) (computed int, err error) {
	// all go on together, up to who is to go on for longest
	most, longest := 0, 0
	for i := range feeds {
		if f := &feeds[i]; f.asks() {
			most = max(most, f.draft)
		}
	}
	d.promised, d.left = 0, d.ctx.NBatch()
	for i := range feeds {
		f := &feeds[i]
		if !f.asks() {
			continue
		}
		if fits, err := d.follow(f, most, feeds); err != nil {
			return 0, err
		} else if !fits {
			f.draft = 0
			continue
		}
		d.promised += len(f.seq.tokens) - len(d.have[f.seq.leaf.id]) + most
		longest = max(longest, f.draft)
	}
	if longest == 0 {
		return 0, nil
	}
	if err := d.begin(feeds); err != nil {
		return 0, err
	}
	for left := longest; left > 0; {
		if err := d.ctx.DecodeSteps(d.batch, d.rows, left); err != nil {
			return 0, err
		}
		steps := len(d.rows[0].Tokens)
		computed += steps * len(d.rows)
		if left -= steps; d.take(feeds) {
			left = 0
		}
		if left > 0 {
			if err := d.goOn(feeds); err != nil {
				return 0, err
			}
		}
	}
	for i := range feeds {
		if f := &feeds[i]; f.asks() {
			f.guess = f.guess[:min(len(f.guess), f.draft)]
			f.draft = len(f.guess)
		}
	}
	return computed, nil
}

// follow brings memory to a sequence's tokens, but for its last ones. It reports false
// where it has not come so far yet, or where there is no room for them and so many more.
func (d *draftModel) follow(f *feed, more int, feeds []feed) (bool, error) {
	id, tokens := f.seq.leaf.id, f.seq.tokens
	n := common(d.have[id], tokens[:len(tokens)-1])
	own := llama.Token(d.model.Vocab().NTokens())
	if len(tokens)+more > d.most || slices.ContainsFunc(tokens[n:], func(t llama.Token) bool { return t >= own }) {
		return false, nil
	}
	if n < len(d.have[id]) {
		if err := d.truncate(id, n); err != nil {
			return false, err
		}
	}
	for other := range d.have {
		if d.cells()+d.promised+len(tokens)-n+more <= d.ctx.NCtx() {
			break
		}
		if slices.ContainsFunc(feeds, func(f feed) bool { return int(f.seq.leaf.id) == other }) {
			continue
		}
		if err := d.truncate(llama.SeqID(other), 0); err != nil {
			return false, err
		}
	}
	if d.cells()+d.promised+len(tokens)-n+more > d.ctx.NCtx() {
		return false, nil
	}
	if len(tokens)-n <= catchUp {
		return true, nil
	}
	// Others wait for their next token, or for a cancellation: the rest has to wait for later steps.
	piece := min(len(tokens)-n-1, d.left)
	if piece == 0 {
		return false, nil
	}
	d.left -= piece
	d.batch.Clear()
	for i := range piece {
		if _, err := d.batch.Add(tokens[n+i], llama.Pos(n+i), id, false); err != nil {
			return false, err
		}
	}
	if err := d.ctx.Decode(d.batch); err != nil {
		return false, err
	}
	d.have[id] = append(d.have[id], tokens[n:n+piece]...)
	return len(tokens)-n-piece <= catchUp, nil
}

// cells is how many are in use.
func (d *draftModel) cells() int {
	n := 0
	for _, have := range d.have {
		n += len(have)
	}
	return n
}

func (d *draftModel) truncate(id llama.SeqID, n int) error {
	d.have[id] = d.have[id][:n]
	return d.ctx.Memory().SeqRemove(id, llama.Pos(n), -1)
}

// begin makes the first batch: what is left of the sequences' tokens.
func (d *draftModel) begin(feeds []feed) error {
	d.batch.Clear()
	d.rows = d.rows[:0]
	for i := range feeds {
		f := &feeds[i]
		if !f.asks() {
			continue
		}
		id := f.seq.leaf.id
		f.guess = d.guesses[id][:0]
		d.rows = slices.Grow(d.rows, 1)[:len(d.rows)+1] // an old row keeps the storage of its tokens
		d.rows[len(d.rows)-1].Sampler = d.samplers[id]
		if err := d.add(&d.rows[len(d.rows)-1], id, f.seq.tokens[len(d.have[id]):]); err != nil {
			return err
		}
	}
	return nil
}

// add puts further tokens of a sequence into the batch; the row samples behind them.
func (d *draftModel) add(row *llama.SampleRow, id llama.SeqID, tokens []llama.Token) (err error) {
	for i, t := range tokens {
		if row.Index, err = d.batch.Add(t, llama.Pos(len(d.have[id])), id, i == len(tokens)-1); err != nil {
			return err
		}
		d.have[id] = append(d.have[id], t)
	}
	return nil
}

// goOn makes the batch of the tokens that were sampled last.
func (d *draftModel) goOn(feeds []feed) error {
	d.batch.Clear()
	row := 0
	for i := range feeds {
		if f := &feeds[i]; f.asks() {
			if err := d.add(&d.rows[row], f.seq.leaf.id, f.guess[len(f.guess)-1:]); err != nil {
				return err
			}
			row++
		}
	}
	return nil
}

// take books what was sampled; end says that one of the sequences is not to go on.
func (d *draftModel) take(feeds []feed) (end bool) {
	row := 0
	for i := range feeds {
		f := &feeds[i]
		if !f.asks() {
			continue
		}
		id, tokens := f.seq.leaf.id, d.rows[row].Tokens
		row++
		if len(tokens) == 0 { // its sampler failed
			end = true
			continue
		}
		d.have[id] = append(d.have[id], tokens[:len(tokens)-1]...) // the last one is not in memory
		for _, t := range tokens {
			if t >= d.vocab || d.model.Vocab().IsEOG(t) {
				end = true
			}
			if t >= d.vocab {
				break
			}
			f.guess = append(f.guess, t)
		}
		d.guesses[id] = f.guess
	}
	return end
}
