package engine

import (
	"log/slog"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// contextDecoder computes steps on a llama.Context: one batch, one crossing
// into C for all sequences.
type contextDecoder struct {
	ctx   *llama.Context
	batch *llama.Batch
	rows  []llama.SampleRow
	log   *slog.Logger
}

func (d *contextDecoder) decode(feeds []feed) error {
	d.batch.Clear()
	d.rows = d.rows[:0]
	for _, f := range feeds {
		last := 0
		for i := range f.n {
			pos := f.seq.past + i
			var err error
			last, err = d.batch.Add(f.seq.tokens[pos], llama.Pos(pos), f.seq.id, f.sample && i == f.n-1)
			if err != nil {
				return err
			}
		}
		if f.sample {
			d.rows = append(d.rows, llama.SampleRow{Index: last, Sampler: f.seq.sampler})
		}
	}
	if err := d.ctx.DecodeSample(d.batch, d.rows); err != nil {
		return err
	}
	row := 0
	for i := range feeds {
		if feeds[i].sample {
			feeds[i].token, feeds[i].err = d.rows[row].Token, d.rows[row].Err
			row++
		}
	}
	return nil
}

// remove frees all cells of a sequence; a whole sequence can be removed from
// every kind of memory.
func (d *contextDecoder) remove(id llama.SeqID) {
	if err := d.ctx.Memory().SeqRemove(id, -1, -1); err != nil {
		d.log.Error("engine: the cells of a sequence were not freed", "sequence", id, "error", err)
	}
}

func (d *contextDecoder) posMax(id llama.SeqID) llama.Pos { return d.ctx.Memory().PosMax(id) }
func (d *contextDecoder) abort()                          { d.ctx.Abort() }
func (d *contextDecoder) resetAbort()                     { d.ctx.ResetAbort() }
