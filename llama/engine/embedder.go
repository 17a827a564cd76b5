package engine

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Sizes of a context for embeddings.
const (
	defaultEmbedCtx = 2048
	embedBatch      = 512 // tokens of a batch, where no text needs more
	embedSequences  = 64  // texts of a batch
	recurrentTexts  = 8   // the same, where each has a state of full size
)

// embedders are the contexts that an engine has for embeddings, each made when
// it is needed first: one that gives the embeddings of tokens, which are pooled
// here, and one for the scores of a reranker.
type embedders struct {
	mu     sync.Mutex
	closed bool
	kinds  [2]*embedder
}

func (s *embedders) get(e *Engine, rank bool) (*embedder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := 0
	if rank {
		kind = 1
	}
	if s.closed {
		return nil, ErrClosed
	}
	if s.kinds[kind] == nil {
		emb, err := newEmbedder(e.model, e.params, rank)
		if err != nil {
			return nil, err
		}
		s.kinds[kind] = emb
		go emb.loop()
	}
	return s.kinds[kind], nil
}

// close ends all calls with ErrClosed and waits for the batch in flight, which
// it aborts.
func (s *embedders) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var errs []error
	for _, emb := range s.kinds {
		if emb != nil {
			emb.close()
			errs = append(errs, emb.batch.Close(), emb.ctx.Close())
		}
	}
	return errors.Join(errs...)
}

// embedder computes texts on a context of its own, on one goroutine.
type embedder struct {
	ctx   *llama.Context
	batch *llama.Batch
	rank  bool
	whole bool // a text is computed in one batch
	most  int  // tokens of a text
	width int  // of what a text or a token gets
	done  chan struct{}

	// The goroutine's own.
	rows  []float32     // of one batch
	parts []part        // of one batch
	open  []*embedText  // begun and not ended
	free  []llama.SeqID // sequences without a text

	mu      sync.Mutex
	wake    *sync.Cond
	jobs    []*embedJob // with texts that are not begun; the first is next
	closing bool
}

// embedJob is one call.
type embedJob struct {
	pooling llama.PoolingType
	texts   [][]llama.Token
	out     [][]float32 // valid where err is nil
	next    int         // text to begin
	left    int         // texts that have not ended
	err     error
	done    chan struct{} // closed when the job has ended
	ended   bool
}

func newEmbedJob(n int, pooling llama.PoolingType) *embedJob {
	return &embedJob{pooling: pooling, texts: make([][]llama.Token, n), out: make([][]float32, n), left: n, done: make(chan struct{})}
}

// embedText is a text that is being computed.
type embedText struct {
	job   *embedJob
	index int
	seq   llama.SeqID
	past  int // tokens computed
}

func (t *embedText) tokens() []llama.Token { return t.job.texts[t.index] }

// part is some tokens of a text in a batch.
type part struct {
	text     *embedText
	first, n int // in the batch
}

func newEmbedder(m *llama.Model, p Params, rank bool) (*embedder, error) {
	if !m.CanEmbed() {
		return nil, errEncoder
	}
	cp := llama.ContextParams{
		NCtx: p.NCtxEmbed, NSeqMax: embedSequences, NThreads: p.NThreads, FlashAttn: p.FlashAttn,
		KVUnified: true, Embeddings: true, PoolingType: llama.PoolingNone,
	}
	if rank {
		cp.PoolingType = llama.PoolingRank
	}
	if m.IsRecurrent() || m.IsHybrid() {
		cp.NSeqMax = recurrentTexts
	}
	if n := m.NCtxTrain(); n > 0 {
		cp.NCtx = min(cp.NCtx, n)
	}
	emb := &embedder{rank: rank, whole: rank || !m.CanGenerate(), most: cp.NCtx, width: m.NEmbdOut(), done: make(chan struct{})}
	if rank {
		emb.width = m.NClsOut()
	}
	cp.NBatch = embedBatch
	if emb.whole {
		cp.NBatch = max(cp.NBatch, cp.NCtx)
	}
	cp.NUBatch = cp.NBatch
	if !emb.whole {
		cp.NCtx += embedBatch // a long text that has begun, beside others
	}
	ctx, err := llama.NewContext(m, cp)
	if err != nil {
		return nil, err
	}
	emb.ctx, emb.batch = ctx, llama.NewBatch(cp.NBatch)
	for s := range ctx.NSeqMax() {
		emb.free = append(emb.free, llama.SeqID(s))
	}
	emb.wake = sync.NewCond(&emb.mu)
	return emb, nil
}

// run computes a job, or leaves it when ctx is done.
func (emb *embedder) run(ctx context.Context, job *embedJob) error {
	emb.mu.Lock()
	if emb.closing {
		emb.mu.Unlock()
		return ErrClosed
	}
	emb.jobs = append(emb.jobs, job)
	emb.wake.Signal()
	emb.mu.Unlock()
	select {
	case <-job.done:
		return job.err
	case <-ctx.Done():
		emb.mu.Lock()
		defer emb.mu.Unlock()
		emb.end(job, ctx.Err())
		return ctx.Err()
	}
}

// end ends a job once; emb.mu is held.
func (emb *embedder) end(job *embedJob, err error) {
	if job.ended {
		return
	}
	job.ended, job.err = true, err
	emb.jobs = slices.DeleteFunc(emb.jobs, func(j *embedJob) bool { return j == job })
	close(job.done)
}

func (emb *embedder) close() {
	emb.mu.Lock()
	emb.closing = true
	emb.wake.Signal()
	emb.mu.Unlock()
	emb.ctx.Abort()
	emb.ctx.InterruptTurn()
	<-emb.done
}

func (emb *embedder) loop() {
	defer close(emb.done)
	defer emb.ctx.GiveTurn()
	for emb.plan() {
		err := ErrClosed // who interrupts the wait
		if emb.ctx.TakeTurn() {
			err = emb.decode()
		}
		emb.mu.Lock()
		emb.deliver(err)
		emb.mu.Unlock()
	}
}

// plan fills the batch; false when the embedder is closed.
func (emb *embedder) plan() bool {
	emb.mu.Lock()
	defer emb.mu.Unlock()
	for !emb.closing {
		emb.drop()
		emb.fill()
		if len(emb.parts) > 0 {
			return true
		}
		emb.ctx.GiveTurn()
		emb.wake.Wait()
	}
	for _, t := range emb.open {
		emb.end(t.job, ErrClosed)
	}
	for len(emb.jobs) > 0 {
		emb.end(emb.jobs[0], ErrClosed)
	}
	return false
}

// drop gives up the texts of jobs that have ended.
func (emb *embedder) drop() {
	emb.open = slices.DeleteFunc(emb.open, func(t *embedText) bool {
		if t.job.ended {
			emb.release(t)
		}
		return t.job.ended
	})
}

func (emb *embedder) release(t *embedText) {
	_ = emb.ctx.Memory().SeqRemove(t.seq, -1, -1) // a whole sequence can always be removed
	emb.free = append(emb.free, t.seq)
}

// fill takes the rest of the text that was cut by the last batch, and then one
// text of each job in turn. The batch is as large as is fast, and only for one
// text larger.
func (emb *embedder) fill() {
	emb.parts = emb.parts[:0]
	used, room := 0, min(embedBatch, emb.ctx.NBatch()) // which causal attention makes no longer than the context
	for _, t := range emb.open {
		n := min(len(t.tokens())-t.past, room-used)
		emb.parts = append(emb.parts, part{t, used, n})
		used += n
	}
	for used < room && len(emb.jobs) > 0 && len(emb.free) > 0 {
		job := emb.jobs[0]
		n := len(job.texts[job.next])
		if emb.whole {
			if used > 0 && used+n > room {
				return
			}
		} else {
			n = min(n, room-used)
		}
		last := len(emb.free) - 1
		t := &embedText{job: job, index: job.next, seq: emb.free[last]}
		emb.free = emb.free[:last]
		emb.open = append(emb.open, t)
		emb.parts = append(emb.parts, part{t, used, n})
		used += n
		emb.jobs = emb.jobs[1:]
		if job.next++; job.next < len(job.texts) {
			emb.jobs = append(emb.jobs, job)
		}
	}
}

// decode computes the batch and adds what it gives to the texts.
func (emb *embedder) decode() error {
	emb.batch.Clear()
	for _, p := range emb.parts {
		for i := range p.n {
			pos := p.text.past + i
			if _, err := emb.batch.Add(p.text.tokens()[pos], llama.Pos(pos), p.text.seq, true); err != nil {
				return err
			}
		}
	}
	if err := emb.ctx.Decode(emb.batch); err != nil {
		return err
	}
	if emb.rank {
		for _, p := range emb.parts {
			scores := make([]float32, emb.width)
			if err := emb.ctx.EmbeddingSeq(scores, p.text.seq); err != nil {
				return err
			}
			p.text.job.out[p.text.index] = scores
		}
		return nil
	}
	n := emb.batch.Len()
	emb.rows = slices.Grow(emb.rows[:0], n*emb.width)[:n*emb.width]
	if err := emb.ctx.Embeddings(emb.rows, 0, n); err != nil {
		return err
	}
	for _, p := range emb.parts {
		emb.pool(p)
	}
	return nil
}

// pool adds the rows of a part to its text's vector.
func (emb *embedder) pool(p part) {
	w, t := emb.width, p.text
	rows := emb.rows[p.first*w : (p.first+p.n)*w]
	out := &t.job.out[t.index]
	ends := t.past+p.n == len(t.tokens())
	switch t.job.pooling {
	case llama.PoolingNone:
		*out = append(*out, rows...)
	case llama.PoolingCLS:
		if t.past == 0 {
			*out = slices.Clone(rows[:w])
		}
	case llama.PoolingLast:
		if ends {
			*out = slices.Clone(rows[len(rows)-w:])
		}
	default:
		if t.past == 0 {
			*out = make([]float32, w)
		}
		scale := 1 / float32(len(t.tokens()))
		for i := 0; i < len(rows); i += w {
			for k, x := range rows[i : i+w] {
				(*out)[k] += x * scale
			}
		}
	}
}

// deliver ends what the batch has completed, or all that a failed one held.
func (emb *embedder) deliver(err error) {
	if errors.Is(err, llama.ErrAborted) && emb.closing {
		err = ErrClosed
	}
	for _, p := range emb.parts {
		t := p.text
		t.past += p.n
		if err != nil {
			emb.end(t.job, err)
			continue
		}
		if t.past < len(t.tokens()) {
			continue
		}
		emb.release(t)
		emb.open = slices.DeleteFunc(emb.open, func(o *embedText) bool { return o == t })
		if t.job.left--; t.job.left == 0 {
			emb.end(t.job, nil)
		}
	}
}
