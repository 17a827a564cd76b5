package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"time"
)

// ErrNoWorker says that no program can be the worker of an engine with
// Params.Isolated.
var ErrNoWorker = errors.New("engine: no worker process can be started: call engine.RunWorker first thing in main, or set Params.WorkerPath to the lm-sandbox program, or have that in PATH")

// ErrWorkerDied says that the worker process of an isolated engine ended under a
// request, or while it loaded the model: most often a crash in llama.cpp. The next
// request starts another one. Where they keep crashing, requests fail at once for a
// while with what the last one died of.
type ErrWorkerDied struct {
	Signal   string // that killed it, such as "killed"; "" where it exited
	ExitCode int    // -1 where a signal killed it; 2 of a Go program means a crash, which Log tells
	Log      string // the last lines of its stderr
}

func (e *ErrWorkerDied) Error() string {
	how := fmt.Sprintf("exit code %d", e.ExitCode)
	if e.Signal != "" {
		how = "signal: " + e.Signal
	}
	if e.Log == "" {
		return fmt.Sprintf("engine: the worker process died (%s)", how)
	}
	return fmt.Sprintf("engine: the worker process died (%s); its last words:\n%s", how, e.Log)
}

// isolated is an engine in a worker process, seen from its owner's.
type isolated struct {
	supervisor
	path   string
	params Params // as Open got them, completed

	// With the supervisor's mutex:
	last     Stats // of the last time that the worker could be asked
	template bool
}

// openIsolated is Open for Params.Isolated.
func openIsolated(ctx context.Context, path string, p Params) (*Engine, error) {
	program, args, err := workerProgram(p.WorkerPath)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := p.absolutePaths(); err != nil {
		return nil, err
	}
	w := &isolated{path: path, params: p}
	w.supervisor = supervisor{program: program, args: args, logger: p.Logger, load: w.load, most: p.MaxSequences + p.MaxQueue}
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	return &Engine{worker: w, params: p, closed: make(chan struct{})}, nil
}

// absolutePaths makes the files that a worker opens the same ones after a restart: this process may change its directory before
// one.
func (p *Params) absolutePaths() error {
	paths := []*string{&p.Speculative.DraftModel, &p.Cache.Dir}
	if p.Model.Tune != nil {
		tune := *p.Model.Tune
		p.Model.Tune = &tune
		paths = append(paths, &tune.Dir)
	}
	for _, path := range paths {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	p.Adapters = maps.Clone(p.Adapters)
	for name, path := range p.Adapters {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		p.Adapters[name] = absolute
	}
	return nil
}

// load opens the engine in a new process.
func (w *isolated) load(ctx context.Context, s *session) error {
	r := openRequest{
		Path: w.path, Params: w.params, Logs: logLevel(ctx, w.logger),
		Preflight: w.params.Preflight != nil, Progress: w.params.Model.Progress != nil,
	}
	r.Params.Isolated, r.Params.WorkerPath = false, ""
	r.Params.Logger, r.Params.Preflight, r.Params.Model.Progress = nil, nil, nil
	reply, err := s.open(ctx, r, w.params.Preflight, w.params.Model.Progress)
	if err == nil {
		w.mu.Lock()
		w.template = reply.HasChatTemplate
		w.mu.Unlock()
	}
	return err
}

// close ends the process, in good order where it can.
func (w *isolated) close() error {
	s := w.stop()
	if s == nil {
		return nil
	}
	grace := closeGrace
	if w.params.Cache.Dir != "" {
		grace = writeGrace
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	stats, err := callWorker[Stats](ctx, s, "close", nil)
	s.kill()
	if err == nil {
		w.mu.Lock()
		w.last = stats
		w.mu.Unlock()
		return nil
	}
	var died *ErrWorkerDied
	late := errors.Is(err, context.DeadlineExceeded)
	if (late || errors.As(err, &died)) && w.params.Cache.Dir != "" {
		w.logger.Error("engine: the worker process ended before all states were written to Params.Cache.Dir", "error", err)
	}
	if late || died != nil {
		return nil // what it held, the system has back
	}
	return err
}

// closeGrace is for the step in flight, writeGrace for what is to be written to Params.Cache.Dir, too; afterwards the process
// is killed.
const (
	closeGrace = 5 * time.Second
	writeGrace = 5 * time.Minute
)

// statsPatience is how long Stats waits for a worker that computes.
const statsPatience = time.Second

func (w *isolated) stats() Stats {
	w.mu.Lock()
	s := w.now
	w.mu.Unlock()
	var fresh Stats
	err := ErrClosed
	if s != nil {
		ctx, cancel := context.WithTimeout(context.Background(), statsPatience)
		defer cancel()
		fresh, err = callWorker[Stats](ctx, s, "stats", nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && !w.closing {
		w.last = fresh
	}
	w.last.Restarts = w.restarts
	return w.last
}

func (w *isolated) hasChatTemplate() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.template
}

// isolatedCall is a method with one answer.
func isolatedCall[A any](ctx context.Context, w *isolated, method, kind string, r any) (answer A, err error) {
	if err := ctx.Err(); err != nil {
		return answer, err
	}
	b, err := encodeWire(r, kind)
	if err != nil {
		return answer, err
	}
	s, err := w.session(ctx)
	if err != nil {
		return answer, err
	}
	answer, err = callWorker[A](ctx, s, method, b)
	return answer, w.died(err)
}

// isolatedStream is a method with deltas; resultOf is where a delta has its Result.
func isolatedStream[D any](ctx context.Context, w *isolated, method, kind string, r any, resultOf func(*D) **Result) iter.Seq2[D, error] {
	return func(yield func(D, error) bool) {
		var zero D
		b, err := encodeWire(r, kind)
		if err != nil {
			yield(zero, err)
			return
		}
		if err := ctx.Err(); err != nil {
			yield(zero, err)
			return
		}
		s, err := w.session(ctx)
		if err != nil {
			yield(zero, err)
			return
		}
		c, err := s.call(ctx, method, b)
		if err != nil {
			yield(zero, w.died(err))
			return
		}
		defer c.finish()
		// Also while the consumer is busy.
		stop := context.AfterFunc(ctx, c.cancel)
		defer stop()
		for {
			f, err := c.next(ctx)
			switch {
			case ctx.Err() != nil:
				d := zero
				if result := cancelledResult(c, resultOf); result != nil {
					result.FinishReason = FinishCancelled
					*resultOf(&d) = result
				}
				yield(d, ctx.Err())
				return
			case err != nil:
				yield(zero, w.died(err))
				return
			case f.kind == frameEnd:
				if d, err := endOf[D](f); err != nil {
					yield(d, w.died(err))
				}
				return
			}
			d, err := decodeWire[D](f.payload)
			if err != nil {
				yield(zero, err)
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// cancelledResult ends a call and gives its result, nil where it got none: it is
// beside the error, or in the last delta of a request that has just ended by itself.
func cancelledResult[D any](c *workerCall, resultOf func(*D) **Result) *Result {
	d, _ := endOf[D](c.finish())
	if result := *resultOf(&d); result != nil || c.last == nil {
		return result
	}
	d, _ = decodeWire[D](c.last)
	return *resultOf(&d)
}

// died is err, unless the process died because it was to.
func (w *isolated) died(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var died *ErrWorkerDied
	if w.closing && errors.As(err, &died) {
		return ErrClosed
	}
	return err
}
