package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
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

// isolated is an engine in a worker process, seen from its owner's. At most one
// process lives at a time; a request that finds none starts one.
type isolated struct {
	path    string
	program string
	args    []string
	params  Params // as Open got them, completed

	mu       sync.Mutex
	closing  bool
	now      *session // nil before the first
	starting *start   // nil while none is being started
	crashes  backoff
	restarts uint64
	waiting  int   // requests that wait for a start
	last     Stats // of the last time that the worker could be asked
	template bool
	ctx      context.Context // of starts; ends with Close
	cancel   context.CancelFunc
}

// start is a session that is being made; done is closed when one of the others is set.
type start struct {
	done    chan struct{}
	session *session
	err     error
}

// openIsolated is Open for Params.Isolated.
func openIsolated(ctx context.Context, path string, p Params) (*Engine, error) {
	program, args, err := workerProgram(p.WorkerPath)
	if err != nil {
		return nil, err
	}
	// The process may change its directory before a restart.
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	w := &isolated{path: path, program: program, args: args, params: p}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	s, err := w.open(ctx)
	if err != nil {
		w.cancel()
		return nil, err
	}
	w.now = s
	return &Engine{worker: w, params: p, closed: make(chan struct{})}, nil
}

// workerProgram finds who can be the worker.
func workerProgram(given string) (program string, args []string, err error) {
	const command = "worker" // for those who look at the list of processes
	switch {
	case given != "":
		return given, []string{given, command}, nil
	case canBeWorker.Load() && runtime.GOOS == "linux":
		// The same program, even if its file has been replaced.
		return "/proc/self/exe", []string{os.Args[0], command}, nil
	case canBeWorker.Load():
		program, err = os.Executable()
		return program, []string{os.Args[0], command}, err
	}
	if program, err = exec.LookPath("lm-sandbox"); err != nil {
		return "", nil, ErrNoWorker
	}
	return program, []string{program, command}, nil
}

// open starts a process and makes it load the model.
func (w *isolated) open(ctx context.Context) (*session, error) {
	s, err := startSession(ctx, w.program, w.args, w.params.Logger)
	if err != nil {
		return nil, err
	}
	reply, err := w.load(ctx, s)
	if err != nil {
		s.kill()
		return nil, err
	}
	w.mu.Lock()
	w.template = reply.HasChatTemplate
	w.mu.Unlock()
	return s, nil
}

func (w *isolated) load(ctx context.Context, s *session) (openReply, error) {
	r := openRequest{
		Path: w.path, Params: w.params, Logs: slog.LevelError,
		Preflight: w.params.Preflight != nil, Progress: w.params.Model.Progress != nil,
	}
	for _, level := range []slog.Level{slog.LevelWarn, slog.LevelInfo, slog.LevelDebug} {
		if w.params.Logger.Enabled(ctx, level) {
			r.Logs = level
		}
	}
	preflight, progress := r.Params.Preflight, r.Params.Model.Progress
	r.Params.Isolated, r.Params.WorkerPath = false, ""
	r.Params.Logger, r.Params.Preflight, r.Params.Model.Progress = nil, nil, nil
	b, err := encodeWire(nil, r, "")
	if err != nil {
		return openReply{}, err
	}
	c, err := s.call(ctx, "open", b)
	if err != nil {
		return openReply{}, err
	}
	var refused error
	for {
		f, err := c.next(ctx)
		if err != nil {
			return openReply{}, err
		}
		switch f.kind {
		case frameDelta:
			if fraction, err := decodeWire[float32](f.payload); err == nil && progress != nil {
				progress(fraction)
			}
		case frameAsk:
			need, err := decodeWire[llama.MemoryNeed](f.payload)
			if err != nil {
				return openReply{}, err
			}
			refused = preflight.CheckModel(ctx, need)
			if err := c.answer(refused != nil); err != nil {
				return openReply{}, err
			}
		default:
			reply, err := endOf[openReply](f)
			if errors.Is(err, errPreflight) {
				err = refused
			}
			return reply, err
		}
	}
}

// session gives the process that lives, and starts one where none does.
func (w *isolated) session(ctx context.Context) (*session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.closing:
			return nil, ErrClosed
		case w.now != nil && !w.now.isDead():
			return w.now, nil
		}
		if w.now != nil {
			w.crashes.add(w.now.started, time.Now(), w.now.err)
			w.now = nil
		}
		if w.starting == nil {
			if err := w.crashes.refused(time.Now()); err != nil {
				return nil, err
			}
			w.starting = &start{done: make(chan struct{})}
			go w.restart(w.starting)
		}
		if w.waiting >= w.params.MaxSequences+w.params.MaxQueue {
			return nil, ErrBusy
		}
		starting := w.starting
		w.waiting++
		w.mu.Unlock()
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-starting.done:
			err = starting.err
		}
		w.mu.Lock()
		w.waiting--
		if err != nil {
			return nil, err
		}
	}
}

func (w *isolated) restart(st *start) {
	begin := time.Now()
	s, err := w.open(w.ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starting = nil
	if w.closing && err == nil {
		s.kill()
		err = ErrClosed
	}
	if err != nil && w.closing {
		err = ErrClosed
	}
	if st.err = err; err != nil {
		w.crashes.add(begin, time.Now(), err)
	} else {
		w.now, w.restarts = s, w.restarts+1
	}
	close(st.done)
}

// close ends the process, in good order where it can.
func (w *isolated) close() error {
	w.mu.Lock()
	w.closing = true
	s, starting := w.now, w.starting
	w.mu.Unlock()
	w.cancel()
	if starting != nil {
		<-starting.done
	}
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
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
	if errors.As(err, &died) || errors.Is(err, context.DeadlineExceeded) {
		return nil // what it held, the system has back
	}
	return err
}

// closeGrace is for the step in flight; afterwards the process is killed.
const closeGrace = 5 * time.Second

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
	b, err := encodeWire(nil, r, kind)
	if err != nil {
		return answer, err
	}
	s, err := w.session(ctx)
	if err != nil {
		return answer, err
	}
	return callWorker[A](ctx, s, method, b)
}

// isolatedStream is a method with deltas; resultOf is where a delta has its Result.
func isolatedStream[D any](ctx context.Context, w *isolated, method, kind string, r any, resultOf func(*D) **Result) iter.Seq2[D, error] {
	return func(yield func(D, error) bool) {
		var zero D
		b, err := encodeWire(nil, r, kind)
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
			yield(zero, err)
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
