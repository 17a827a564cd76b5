package llama

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama/internal/native"
)

// Context is the state of an inference: KV cache, threads, compute buffers (llama_context). It has a thread of its own, which
// decodes, and a pipe from that: two file descriptors. One goroutine at a time may use it, calls of several are put in line;
// Abort, Hold, ResetAbort, InterruptTurn and Times may be called by any. It must be closed before its model.
type Context struct {
	model  *Model
	info   native.ContextInfo
	params ContextParams
	memory Memory
	turn   turn

	mu       sync.Mutex // held during every use of the native context
	native   native.Context
	closed   bool
	adapters []*Adapter // that are set
	outputs  []int8     // which batch indices of the last decode have logits
	encoded  []int32    // sequences of the last Encode
	rows     []native.Row

	abortMu sync.Mutex // orders Abort and Hold with Close, since mu is held during a decode
}

// NewContext makes a context.
//
// # Errors
//
//   - [ErrInvalidParam] for values that cannot be, [ErrClosed] when the model is closed
//   - [*ErrInsufficientMemory] when the KV cache or the compute buffers do not fit
//   - [ErrUnsupported] for processors or a priority that the process may not have
//   - the system's error when the process has no file descriptor left
//
// C: llama_init_from_model
func NewContext(m *Model, p ContextParams) (*Context, error) {
	if m == nil {
		return nil, ErrClosed
	}
	m.mu.Lock() // counted first, so that the model cannot be closed meanwhile
	if m.closed {
		m.mu.Unlock()
		return nil, ErrClosed
	}
	m.contexts++
	m.mu.Unlock()
	c, err := newContext(m, p)
	if err != nil {
		m.contextClosed()
	}
	return c, err
}

func newContext(m *Model, p ContextParams) (*Context, error) {
	if m.vocabOnly {
		return nil, errorf(ErrUnsupported, "the model was loaded with VocabOnly: there is nothing to compute with")
	}
	if err := m.checkEmbeddings(&p); err != nil {
		return nil, err
	}
	np, err := p.native(m.plan.nCtx(m.NCtxTrain()), m.info.HasEncoder)
	if err != nil {
		return nil, err
	}
	if err := m.plan.checkContext(np); err != nil {
		return nil, err
	}
	fitting.RLock()
	m.adapting.RLock()
	nc, info, err := native.NewContext(m.native, np)
	m.adapting.RUnlock()
	fitting.RUnlock()
	if err != nil {
		return nil, fromNative(err, ErrInvalidParam, "context")
	}
	// the next decode rotates the K cache by the shift: that aborts for BF16, and for a quantised one it follows a null
	// pointer where the heads are no multiple of 64 wide (llama_kv_cache::build_rope_shift)
	info.CanShift = info.CanShift && (p.TypeK == KVF16 || p.TypeK == KVF32)
	c := &Context{model: m, native: nc, info: info, params: p}
	c.params.NOutputsMax = int(np.NOutputsMax)
	c.memory.c = c
	if m.turns.total > 0 {
		c.turn.threads = min(int(max(np.NThreads, np.NThreadsBatch)), m.turns.total)
	}
	return c, nil
}

// lock takes the context for one call.
func (c *Context) lock() error {
	if c == nil {
		return ErrClosed
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	return nil
}

// Close frees the context. It waits for a decode in flight (call Abort first to shorten that) and is idempotent; a nil
// Context is closed.
//
// C: llama_free
func (c *Context) Close() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.abortMu.Lock()
	c.closed = true
	c.model.turns.give(&c.turn)
	c.native.Free()
	release(c.adapters)
	c.abortMu.Unlock()

	c.model.contextClosed()
	return nil
}

// Model is the model the context was made of.
func (c *Context) Model() *Model { return c.model }

// NCtx is the number of positions over all sequences (llama_n_ctx).
func (c *Context) NCtx() int { return int(c.info.NCtx) }

// NCtxSeq is the number of positions one sequence may use (llama_n_ctx_seq).
func (c *Context) NCtxSeq() int { return int(c.info.NCtxSeq) }

// NBatch is the most tokens of one Decode (llama_n_batch).
func (c *Context) NBatch() int { return int(c.info.NBatch) }

// NUBatch is the most tokens computed at once (llama_n_ubatch).
func (c *Context) NUBatch() int { return int(c.info.NUBatch) }

// NSeqMax is the number of sequences (llama_n_seq_max).
func (c *Context) NSeqMax() int { return int(c.info.NSeqMax) }

// Memory gives the context's KV cache or recurrent state (llama_get_memory).
func (c *Context) Memory() *Memory { return &c.memory }

// Abort makes the decode in flight and all later ones end with [ErrAborted], until ResetAbort. It works between two nodes of
// the graph and on the CPU only; on a GPU the decode runs to its end. Any goroutine may call it.
//
// C: llama_set_abort_callback
func (c *Context) Abort() { c.signal(func(n native.Context) { n.Abort(true) }) }

// Hold makes DecodeSteps end with the step in flight, and later ones with their first, until ResetAbort. Any goroutine may
// call it.
func (c *Context) Hold() { c.signal(func(n native.Context) { n.Hold(true) }) }

// ResetAbort takes Abort and Hold back. Any goroutine may call it.
func (c *Context) ResetAbort() {
	c.signal(func(n native.Context) {
		n.Abort(false)
		n.Hold(false)
	})
}

// Times gives what the context has spent in llama_decode and in sampling since it was made. Any goroutine may call it, until
// Close.
func (c *Context) Times() (decode, sample time.Duration) {
	c.signal(func(n native.Context) { decode, sample = n.Times() })
	return decode, sample
}

// signal sets flags that a decode in flight reads.
func (c *Context) signal(set func(native.Context)) {
	if c == nil {
		return
	}
	c.abortMu.Lock()
	defer c.abortMu.Unlock()
	if !c.closed {
		set(c.native)
	}
}

// Decode computes a batch and leaves the logits of the tokens that asked for them.
//
// # Errors
//
//   - [*DecodeError], which is ErrNoKVSlot, ErrAborted, ErrInvalidBatch or ErrFatal
//   - [ErrInvalidToken], [ErrClosed]
//
// C: llama_decode
func (c *Context) Decode(b *Batch) error { return c.DecodeSample(b, nil) }

// SampleRow asks for one token after a decode.
type SampleRow struct {
	Index   int      // batch index of a token added with logits
	Sampler *Sampler // samples the token and accepts it
	Token   Token    // result: the last token
	Tokens  []Token  // result: the token of each step or guess; its storage is used again
	Err     error    // result: this row alone failed, for example its grammar
	// Draft says that so many tokens behind Index, each with logits, are guesses of what is going to be sampled: as long as the
	// sampled token is the guessed one, the next one is sampled behind it, up to Draft+1 tokens. Each of them is what would
	// have been sampled without the guesses. Afterwards the memory has those guesses only that were sampled: every token but
	// the last one. Memory with a recurrent state cannot forget, and a sliding window needs all of it in one NUBatch.
	Draft int

	// NProbs asks for probabilities: Probs then has NProbs entries for each token, itself and the NProbs-1 likeliest ones,
	// best first. Its storage is used again.
	NProbs int
	Probs  []TokenProb
}

// TokenProb is a token and the natural logarithm of its probability: of the softmax of the model's logits, before anything
// that a sampler does.
type TokenProb struct {
	Token   Token
	Logprob float32
}

// mostProbs bounds SampleRow.NProbs.
const mostProbs = 1024

// DecodeSample decodes a batch and then, for each row, samples with the row's sampler and accepts the token into it, all of
// it on the context's own thread: the calling goroutine is parked meanwhile and holds no OS thread. Rows fail one by one; the
// error is about the decode, and then no row was sampled.
//
// # Errors
//
//   - as Decode, and [ErrNoLogits] when a row's index or one of its guesses has none
//   - [ErrInvalidBatch] for guesses that do not follow each other, [ErrUnsupported] for memory that cannot forget them
//   - per row: [ErrGrammarRejected], [ErrClosed], [ErrInUse] for a sampler that another goroutine or row uses
func (c *Context) DecodeSample(b *Batch, rows []SampleRow) error {
	return c.DecodeSteps(b, rows, 1)
}

// mostSteps bounds what one call keeps for each row.
const mostSteps = 1024

// DecodeSteps is DecodeSample up to n times without coming back to Go in between, where every token of the batch has its row:
// the sampled tokens, each at the next position of its sequence, are the next batch. It ends earlier with a token that ends
// the generation, with a row that fails, by [Context.Hold], at the model's last position, and where a further decode fails: the
// next call returns its error. The memory then holds every token but the last one of each row; after a decode that failed look
// at [Memory.PosMax], since llama.cpp may leave a part of a step that it computed in several. With other batches n means 1.
//
// # Errors
//
//   - as DecodeSample; [ErrInvalidParam] where n is below 1 or above 1024
func (c *Context) DecodeSteps(b *Batch, rows []SampleRow, n int) error {
	if n < 1 || n > mostSteps {
		return errorf(ErrInvalidParam, "%d steps: want 1 to %d", n, mostSteps)
	}
	if err := c.lock(); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := c.checkBatch(b); err != nil {
		return err
	}
	if err := c.checkEncoded(b); err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		if !c.hasLogits() || r.Index < 0 || r.Index >= len(b.logits) || b.logits[r.Index] == 0 {
			return errorf(ErrNoLogits, "row %d: batch index %d was not added with logits", i, r.Index)
		}
		if err := c.checkDraft(b, i, r); err != nil {
			return err
		}
		if r.NProbs < 0 || r.NProbs > mostProbs {
			return errorf(ErrInvalidParam, "row %d: NProbs = %d: want 0 to %d", i, r.NProbs, mostProbs)
		}
	}
	c.rows = c.rows[:0]
	for i := range rows {
		r := &rows[i]
		r.Token, r.Tokens, r.Probs = NullToken, r.Tokens[:0], r.Probs[:0]
		if r.Err = r.Sampler.hold(c); r.Err == nil {
			c.rows = append(c.rows, native.Row{})
			native.SetRow(&c.rows[len(c.rows)-1], r.Sampler.native, int32(r.Index), int32(r.Draft), int32(r.NProbs))
		}
	}
	if n > 1 {
		n = min(n, int(c.model.positions()-slices.Max(b.pos)))
	}
	c.outputs = c.outputs[:0]
	c.model.adapting.RLock()
	err := c.native.Decode(b.token, b.pos, b.seq, b.logits, c.rows, n)
	c.model.adapting.RUnlock()
	k := 0
	for i := range rows {
		r := &rows[i]
		if r.Err != nil {
			continue
		}
		if err == nil {
			tokens, probs, rowErr := native.RowResult(&c.rows[k])
			for _, t := range tokens {
				r.Token = Token(t)
				r.Tokens = append(r.Tokens, r.Token)
			}
			r.addProbs(probs)
			if rowErr != nil {
				r.Token, r.Err = NullToken, fromNative(rowErr, ErrFatal, "sample")
			}
		}
		k++
		r.Sampler.letGo()
	}
	if err != nil {
		var ne *native.Error
		if errors.As(err, &ne) {
			err = &DecodeError{Code: ne.Code, Text: ne.Text}
		}
		return err
	}
	c.outputs = append(c.outputs, b.logits...)
	return nil
}

// checkDraft refuses guesses of a row that are none.
func (c *Context) checkDraft(b *Batch, row int, r *SampleRow) error {
	if r.Draft == 0 {
		return nil
	}
	if r.Draft < 0 || r.Draft >= len(b.token)-r.Index {
		return invalidBatch("row %d: %d guesses behind batch index %d, and the batch has %d tokens", row, r.Draft, r.Index, len(b.token))
	}
	if c.model.IsRecurrent() || c.model.IsHybrid() {
		return errorf(ErrUnsupported, "a recurrent state cannot forget guessed tokens: do without SampleRow.Draft")
	}
	for i := r.Index + 1; i <= r.Index+r.Draft; i++ {
		if b.logits[i] == 0 {
			return errorf(ErrNoLogits, "row %d: batch index %d, a guess, was not added with logits", row, i)
		}
		if b.seq[i] != b.seq[r.Index] || b.pos[i] != b.pos[i-1]+1 {
			return invalidBatch("row %d: batch index %d, a guess, is not the next position of its sequence", row, i)
		}
	}
	return nil
}

// checkBatch refuses what llama_decode would abort the process for, and what it would refuse with less of a reason.
func (c *Context) checkBatch(b *Batch) error {
	switch {
	case b == nil || b.closed:
		return ErrClosed
	case len(b.token) == 0:
		return &DecodeError{Code: -1, Text: "the batch is empty"}
	case len(b.token) > c.NBatch():
		return invalidBatch("%d tokens are more than NBatch = %d", len(b.token), c.NBatch())
	case len(b.token) > c.NUBatch() && (c.model.needsWholeUBatch() || !c.info.HasMemory):
		return invalidBatch("%d tokens are more than NUBatch = %d, and the model attends to all tokens at once", len(b.token), c.NUBatch())
	case !c.hasLogits() && len(b.token) > c.params.NOutputsMax:
		return invalidBatch("%d tokens are more than NBatch or NCtx: %d", len(b.token), c.params.NOutputsMax)
	case b.outputs > c.params.NOutputsMax:
		return invalidBatch("%d tokens with logits are more than NOutputsMax = %d", b.outputs, c.params.NOutputsMax)
	}
	nTokens, nSeq, nPos := c.model.info.NTokens, int32(c.NSeqMax()), c.model.positions()
	for i, t := range b.token {
		if t >= nTokens {
			return errorf(ErrInvalidToken, "batch index %d: token %d is outside the vocabulary of %d", i, t, nTokens)
		}
		if b.seq[i] >= nSeq {
			return invalidBatch("batch index %d: sequence %d, but NSeqMax = %d", i, b.seq[i], nSeq)
		}
		if b.pos[i] >= nPos {
			return invalidBatch("batch index %d: position %d, but the model has only %d", i, b.pos[i], nPos)
		}
	}
	return nil
}

// Logits copies the logits of a batch index of the last decode: one value per token of the vocabulary, not normalised.
//
// # Errors
//
//   - [ErrNoLogits], [ErrClosed]
//
// C: llama_get_logits_ith
func (c *Context) Logits(i int) ([]float32, error) {
	if err := c.lock(); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	if err := c.checkOutput(i); err != nil {
		return nil, err
	}
	out := make([]float32, c.model.info.NTokens)
	if err := c.native.Logits(int32(i), out); err != nil {
		return nil, fromNative(err, ErrNoLogits, "logits")
	}
	return out, nil
}

func (c *Context) checkOutput(i int) error {
	if i < 0 || i >= len(c.outputs) || c.outputs[i] == 0 || !c.hasLogits() {
		return errorf(ErrNoLogits, "the last decode has no logits at batch index %d", i)
	}
	return nil
}

// hasLogits says that a decode leaves logits: an encoder alone has none, and not every model has some beside its embeddings.
func (c *Context) hasLogits() bool { return c.info.HasMemory && !c.params.Embeddings }
