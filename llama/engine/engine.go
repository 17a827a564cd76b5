package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// Params says how to make an Engine. The zero value is sensible.
type Params struct {
	// Model is used by Open only, which sets its Context, and its Preflight where there is one here.
	Model llama.ModelParams
	// Preflight is asked by Open before it loads anything; nil = nobody is.
	Preflight Preflight
	// NCtx is the number of cells of the KV cache, which all sequences share;
	// 0 = the model's n_ctx_train, or after Open what fits into memory. One request may use all of them (its stream's
	// share with LayoutStreams), but never more than the model was trained for.
	NCtx int
	// NBatch is the most tokens of one step, NUBatch the most that are computed
	// at once; 0 = 512 both. A cancelled request ends with the step in flight,
	// and a new token of the others waits for it, so a larger NBatch makes both
	// slower where prompts are long; it makes nothing faster on a CPU.
	NBatch, NUBatch int
	NThreads        int // 0 = the physical cores
	FlashAttn       llama.FlashAttn
	// MaxSequences is the most requests that run at once, at most 255; 0 = 4.
	MaxSequences int
	// Pace is how long those who generate are to wait for a token while prompts are computed
	// beside them: steps with prompts are made as large as fits into it, but have 32 tokens
	// at least. Shorter steps compute prompts more slowly. 0 = 800 ms; -1 = steps of NBatch
	// tokens whatever they take.
	Pace time.Duration
	// MaxQueue is the most requests that wait beyond those; 0 = 256.
	MaxQueue int
	// ChatTemplate, in jinja, is used instead of the model's own.
	ChatTemplate string
	// NCtxEmbed is the most tokens of a text that Embed and Rerank take; 0 = 2048. It is never more than n_ctx_train.
	// A model that looks ahead, as embedding models do, needs memory for the square of it.
	NCtxEmbed int
	// Logger takes what has no caller to be told to; nil = nothing is logged.
	Logger *slog.Logger
	// MaxCellsPerCaller is the most cells that the running requests of one
	// Request.Caller may use; those that they share count for each. Further ones
	// wait, and a single request ends there as at a full context. 0 = no limit.
	MaxCellsPerCaller int
	// MaxWait is the longest that a request waits in the queue before it fails with
	// ErrBusy, and is looked at before each step; 0 = no limit.
	MaxWait time.Duration
	// Isolated makes Open load the model in a worker process, so that a crash of
	// llama.cpp ends that one: its requests get [*ErrWorkerDied], the next one starts
	// another. The worker is this program where it calls [RunWorker], or WorkerPath. What
	// is a Go function cannot cross, but for Preflight, Logger and Model.Progress: a
	// Model.Tune.Progress is [*ErrInvalid], and so is a Request.Processor.
	Isolated bool
	// WorkerPath is the lm-sandbox program of the same version, for programs that do
	// not call [RunWorker]; "" = this program, or else what PATH has.
	WorkerPath string
	// Cache is about what stays of requests that have ended.
	Cache CacheParams
	// CompileBudget is the time that the worker allows for rendering one chat template
	// or compiling one grammar or schema; 0 = 10 s. Real ones take milliseconds.
	CompileBudget time.Duration
	// Layout says how the sequences lie in the KV cache.
	Layout Layout
	// NThreadsBatch is the threads for steps of more than one token; 0 = NThreads.
	NThreadsBatch int
	// TypeK and TypeV are the types of the KV cache; a quantised V needs flash attention.
	TypeK, TypeV llama.KVType
	// SWAFull, NoKVOffload, NoOpOffload and Pool are those of [llama.ContextParams].
	SWAFull, NoKVOffload, NoOpOffload bool
	Pool                              llama.ThreadPool
	// Adapters are LoRA adapters for requests (Request.Adapters): files by name.
	Adapters map[string]string

	// Speculative guesses tokens, so that a step gives several of one request.
	Speculative Speculative

	compiler *compiler // of a worker: what renders and compiles instead of this process
}

// chatTemplate is a [llama.ChatTemplate], or what stands in for one.
type chatTemplate interface {
	apply(context.Context, llama.ChatTemplateRequest) (*llama.ChatPrompt, error)
	io.Closer
}

// ownTemplate renders in this process, where nothing stops it.
type ownTemplate struct{ *llama.ChatTemplate }

func (t ownTemplate) apply(_ context.Context, r llama.ChatTemplateRequest) (*llama.ChatPrompt, error) {
	return t.Apply(r)
}

// Preflight looks at what llama.cpp does not: package gpu behind one tells why a GPU cannot be used.
type Preflight interface {
	// CheckModel gets what the model and the context are going to need of each device, as [llama.EstimateMemory] computes it.
	// Its error ends Open, and is what Open returns.
	CheckModel(ctx context.Context, need llama.MemoryNeed) error
}

const (
	defaultSequences = 4
	mostSequences    = 255 // LLAMA_MAX_SEQ, and one is spare
	defaultHostBytes = 1 << 30
	defaultDirBytes  = 4 << 30
	defaultQueue     = 256
	defaultBatch     = 512
)

// Engine runs requests of many goroutines on one model, several at a time. All
// methods may be called from any goroutine. Several engines may share a model.
type Engine struct {
	model    *llama.Model
	owned    bool // Close closes the model
	ctx      *llama.Context
	batch    *llama.Batch
	draft    *draftModel  // nil: none
	disk     *diskCache   // nil: none
	template chatTemplate // nil where the model has none
	loop     *loop
	most     int // requests that may run and wait
	maxSeq   int // positions of one sequence
	params   Params
	worker   *isolated // nil, or what runs everything; then the fields above are nil

	embedders embedders
	adapters  adapters

	eogBias      func() map[llama.Token]float32 // forbids the end-of-generation tokens
	longestPiece func() int                     // bytes of the longest token's text

	mu       sync.Mutex
	closing  bool
	requests int            // running and waiting
	rejected uint64         // by ErrBusy
	users    sync.WaitGroup // goroutines that use the model outside the loop
	closed   chan struct{}  // Close has ended
	closeErr error
}

// Open loads a model and makes an engine of it, which owns and closes the
// model. ctx cancels the load.
//
// # Errors
//
// Those of [llama.LoadModel], of [New] and of Params.Preflight; with Params.Isolated
// [ErrNoWorker] and [*ErrWorkerDied].
func Open(ctx context.Context, path string, p Params) (*Engine, error) {
	if err := p.complete(); err != nil {
		return nil, err
	}
	if p.Isolated {
		return openIsolated(ctx, path, p)
	}
	p.Model.Context = p.context()
	if p.Preflight != nil {
		p.Model.Preflight = func(need llama.MemoryNeed) error { return p.Preflight.CheckModel(ctx, need) }
	}
	m, err := llama.LoadModel(ctx, path, p.Model)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(ctx, m, p)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	e.owned = true
	if e.ctx == nil {
		return e, nil
	}
	if n := e.ctx.NCtx(); p.NCtx == 0 && n < m.NCtxTrain() {
		p.Logger.Warn("the context is shorter than the model allows, to fit into memory", "n_ctx", n, "n_ctx_train", m.NCtxTrain())
	}
	return e, nil
}

// New makes an engine of a loaded model. The model must be closed after the
// engine.
//
// # Errors
//
//   - [*ErrInvalid] for Params that cannot be
//   - [llama.ErrUnsupported] for Speculative with a model whose memory cannot forget tokens: one with a recurrent
//     state, or in streams with a sliding window
//   - [llama.ErrUnsupported] for a model with an encoder beside its decoder, such as T5. A model that only embeds or ranks, such as
//     BERT, makes an engine whose Generate and Chat give that error
//   - [*llama.ErrInsufficientMemory] when the KV cache does not fit
//   - [llama.ErrChatTemplate] for a ChatTemplate that cannot be used
//   - those of [llama.LoadAdapter]
//   - those of [llama.LoadModel] for Speculative.DraftModel
func New(m *llama.Model, p Params) (*Engine, error) {
	if err := p.complete(); err != nil {
		return nil, err
	}
	if p.Isolated {
		return nil, invalid("Params.Isolated", "a model that is loaded is in this process: use Open")
	}
	return newEngine(context.Background(), m, p)
}

// newEngine is New with complete parameters; ctx cancels what takes long.
func newEngine(ctx context.Context, m *llama.Model, p Params) (*Engine, error) {
	if !m.CanEmbed() {
		return nil, errEncoder
	}
	if err := p.checkSpeculative(m); err != nil {
		return nil, err
	}
	template, err := p.newTemplate(m)
	if err != nil {
		return nil, err
	}
	e := &Engine{model: m, template: template, params: p, most: p.MaxSequences + p.MaxQueue, closed: make(chan struct{})}
	if e.adapters, err = loadAdapters(m, p.Adapters); err != nil {
		return nil, errors.Join(err, closeTemplate(template))
	}
	cells, batch, host := 0, 1, int64(-1)
	if m.CanGenerate() {
		host = p.Cache.HostBytes
		if p.Cache.Dir != "" {
			if e.disk, err = openDiskCache(ctx, m, p.context(), &p); err != nil {
				return nil, errors.Join(err, e.adapters.close(), closeTemplate(template))
			}
		}
		if e.ctx, err = llama.NewContext(m, p.context()); err != nil {
			return nil, errors.Join(err, e.disk.close(), e.adapters.close(), closeTemplate(template))
		}
		cells, batch, e.maxSeq = e.ctx.NCtx(), e.ctx.NBatch(), e.ctx.NCtxSeq()
		if p.Speculative.DraftModel != "" {
			if e.draft, err = openDraftModel(ctx, m, &p, cells); err != nil {
				return nil, errors.Join(err, e.ctx.Close(), e.disk.close(), e.adapters.close(), closeTemplate(template))
			}
		}
	}
	e.batch = llama.NewBatch(batch)
	if trained := m.NCtxTrain(); trained > 0 {
		e.maxSeq = min(e.maxSeq, trained)
	}
	if p.MaxCellsPerCaller > 0 {
		e.maxSeq = min(e.maxSeq, p.MaxCellsPerCaller)
	}
	e.eogBias = sync.OnceValue(func() map[llama.Token]float32 { return eogBias(m.Vocab()) })
	e.longestPiece = sync.OnceValue(func() int { return longestPiece(m.Vocab()) })
	dec := &contextDecoder{ctx: e.ctx, batch: e.batch, log: p.Logger, spare: llama.SeqID(p.MaxSequences), streams: p.Layout == LayoutStreams}
	sched := newScheduler(cells, batch, p.MaxSequences, host, dec)
	if sched.parking != nil {
		sched.parking.disk = e.disk
	}
	sched.quota, sched.streams = p.MaxCellsPerCaller, dec.streams
	sched.apart = !dec.streams && p.FlashAttn != llama.FlashAttnOff && m.MemoryNeed().NGPULayers == 0
	e.loop = newLoop(dec, sched, m.Vocab().IsEOG, p.Logger)
	e.loop.maxWait = p.MaxWait
	if s := p.Speculative; s.on() {
		e.loop.guesser = &guesser{ngram: s.NGram, most: s.MaxDraft, batch: min(batch, p.NUBatch), model: e.draft, cost: newGuessCost()}
	}
	go e.loop.run()
	return e, nil
}

// newTemplate compiles the chat template, nil where there is none.
func (p *Params) newTemplate(m *llama.Model) (chatTemplate, error) {
	if p.compiler != nil {
		if err := <-p.compiler.begun; err != nil || !p.compiler.has {
			return nil, err
		}
		return p.compiler, nil
	}
	template, err := llama.NewChatTemplate(m, p.ChatTemplate)
	if errors.Is(err, llama.ErrNoChatTemplate) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ownTemplate{template}, nil
}

func closeTemplate(t chatTemplate) error {
	if t == nil {
		return nil
	}
	return t.Close()
}

// context is the context of an engine with these parameters, which are complete.
func (p *Params) context() llama.ContextParams {
	sequences := p.MaxSequences + 1 // a spare one
	if p.Layout == LayoutStreams {
		sequences = p.MaxSequences
	}
	return llama.ContextParams{
		NCtx: p.NCtx, NBatch: p.NBatch, NUBatch: p.NUBatch, NSeqMax: sequences, NOutputsMax: p.outputs(sequences),
		NThreads: p.NThreads, NThreadsBatch: p.NThreadsBatch, FlashAttn: p.FlashAttn, KVUnified: p.Layout == LayoutUnified,
		TypeK: p.TypeK, TypeV: p.TypeV, SWAFull: p.SWAFull, NoKVOffload: p.NoKVOffload, NoOpOffload: p.NoOpOffload, Pool: p.Pool,
	}
}

// complete checks the parameters and fills in the defaults.
func (p *Params) complete() error {
	for _, f := range []struct {
		name     string
		v        *int
		standard int
		most     int
	}{
		{"NBatch", &p.NBatch, defaultBatch, 1 << 20},
		{"NUBatch", &p.NUBatch, defaultBatch, 1 << 20},
		{"MaxSequences", &p.MaxSequences, defaultSequences, mostSequences},
		{"MaxQueue", &p.MaxQueue, defaultQueue, 1 << 20},
		{"NCtxEmbed", &p.NCtxEmbed, defaultEmbedCtx, 1 << 20},
	} {
		if *f.v < 0 || *f.v > f.most {
			return invalid("Params."+f.name, "%d: want 0 to %d", *f.v, f.most)
		}
		if *f.v == 0 {
			*f.v = f.standard
		}
	}
	if p.NCtx != 0 && p.NCtx < p.MaxSequences {
		return invalid("Params.NCtx", "%d: want at least one cell for each of the %d sequences", p.NCtx, p.MaxSequences)
	}
	switch {
	case p.Cache.HostBytes < -1:
		return invalid("Params.Cache.HostBytes", "%d: want -1 or more", p.Cache.HostBytes)
	case p.Cache.HostBytes == 0:
		p.Cache.HostBytes = defaultHostBytes
	case p.Cache.HostBytes == -1 && p.Cache.Dir != "":
		return invalid("Params.Cache.Dir", "needs HostBytes: what is written passes through it")
	}
	switch {
	case p.Cache.DirBytes < 0:
		return invalid("Params.Cache.DirBytes", "%d is negative", p.Cache.DirBytes)
	case p.Cache.DirBytes == 0:
		p.Cache.DirBytes = defaultDirBytes
	}
	if p.MaxCellsPerCaller < 0 {
		return invalid("Params.MaxCellsPerCaller", "%d is negative", p.MaxCellsPerCaller)
	}
	if p.MaxWait < 0 {
		return invalid("Params.MaxWait", "%v is negative", p.MaxWait)
	}
	if p.Layout != LayoutUnified && p.Layout != LayoutStreams {
		return invalid("Params.Layout", "%d is none of the constants", p.Layout)
	}
	switch {
	case p.Pace < -1:
		return invalid("Params.Pace", "%v is negative", p.Pace)
	case p.Pace == 0:
		p.Pace = defaultPace
	}
	if err := p.Speculative.complete(); err != nil {
		return err
	}
	if p.CompileBudget < 0 {
		return invalid("Params.CompileBudget", "%v is negative", p.CompileBudget)
	}
	if p.CompileBudget == 0 {
		p.CompileBudget = compileBudget
	}
	// A step holds at least one token of each sequence.
	p.NBatch = max(p.NBatch, p.MaxSequences)
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Model is the model that the engine runs. It is valid until the engine, if it
// owns it, is closed; nil where it is in a worker process (Params.Isolated).
func (e *Engine) Model() *llama.Model { return e.model }

// HasChatTemplate says whether Chat works.
func (e *Engine) HasChatTemplate() bool {
	if e.worker != nil {
		return e.worker.hasChatTemplate()
	}
	return e.template != nil
}

// Close ends all requests with [ErrClosed], waits until none uses the model any
// more, and frees the context, and the model if Open loaded it. It aborts the
// step in flight and waits for no consumer: it may be called while iterating.
// Idempotent, nil-safe, and safe from several goroutines: all of them wait.
func (e *Engine) Close() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	first := !e.closing
	e.closing = true
	e.mu.Unlock()
	if !first {
		<-e.closed
		return e.closeErr
	}
	if e.worker != nil {
		e.closeErr = e.worker.close()
		close(e.closed)
		return e.closeErr
	}
	var errs []error
	if k := e.params.compiler; k != nil { // ends those who wait for it
		errs = append(errs, k.Close())
	}
	e.loop.close()
	errs = append(errs, e.embedders.close())
	e.users.Wait()
	errs = append(errs, e.disk.close(), e.draft.close(), e.batch.Close(), e.ctx.Close(), e.adapters.close(), closeTemplate(e.template))
	if e.owned {
		errs = append(errs, e.model.Close())
	}
	e.closeErr = errors.Join(errs...)
	close(e.closed)
	return e.closeErr
}

// enter registers a goroutine that is going to use the model; leave is its end.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return ErrClosed
	}
	e.users.Add(1)
	return nil
}

func (e *Engine) leave() { e.users.Done() }

// admit lets a request in that can be; leaveRequest must follow.
func (e *Engine) admit(ctx context.Context, t *terms) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.ctx == nil {
		return errEncoder
	}
	if err := t.check(); err != nil {
		return err
	}
	if err := e.checkShift(t.kind, t.contextShift, t.nKeep); err != nil {
		return err
	}
	if n := t.outputs(); n > e.most {
		return invalid(t.kind+".N", "%d outputs are more than Params.MaxSequences and MaxQueue together, which are %d", n, e.most)
	}
	return e.enterRequest(t.outputs())
}

// enterRequest is enter for a request: it takes places for n outputs.
func (e *Engine) enterRequest(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closing:
		return ErrClosed
	case e.requests+n > e.most:
		e.rejected++
		return ErrBusy
	}
	e.requests += n
	e.users.Add(n)
	return nil
}

// leaveRequest gives the places of n outputs back.
func (e *Engine) leaveRequest(n int) {
	e.mu.Lock()
	e.requests -= n
	e.mu.Unlock()
	e.users.Add(-n)
}
