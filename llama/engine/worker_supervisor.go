package engine

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// supervisor keeps at most one worker process alive: whoever asks for it while none
// lives starts one, and all wait for that.
type supervisor struct {
	program string
	args    []string
	logger  *slog.Logger
	load    func(context.Context, *session) error // makes a new process ready
	most    int                                   // that may wait for it; 0 = any number
	eager   bool                                  // no back-off

	mu       sync.Mutex
	closing  bool
	now      *session // nil before the first
	starting *start   // nil while none is being started
	crashes  backoff
	restarts uint64
	waiting  int
	ctx      context.Context // of starts; ends with close
	cancel   context.CancelFunc
}

// start is a session that is being made; done is closed when it is there, or err says
// why not.
type start struct {
	done chan struct{}
	err  error
}

// begin starts the first process.
func (v *supervisor) begin(ctx context.Context) (err error) {
	v.ctx, v.cancel = context.WithCancel(context.Background())
	if v.now, err = v.open(ctx); err != nil {
		v.cancel()
	}
	return err
}

// workerProgram finds who can be the worker.
func workerProgram(given string) (program string, args []string, err error) {
	const command = "worker" // for those who look at the list of processes
	switch {
	case given != "":
		program, err = filepath.Abs(given) // the process may change its directory before a restart
		return program, []string{given, command}, err
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

// open starts a process and makes it ready.
func (v *supervisor) open(ctx context.Context) (*session, error) {
	s, err := startSession(ctx, v.program, v.args, v.logger)
	if err != nil {
		return nil, err
	}
	if err := v.load(ctx, s); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// session gives the process that lives, and starts one where none does.
func (v *supervisor) session(ctx context.Context) (*session, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for {
		switch {
		case v.closing:
			return nil, ErrClosed
		case v.now != nil && !v.now.isDead():
			return v.now, nil
		}
		if v.now != nil {
			v.crashes.add(v.now.started, time.Now(), v.now.err)
			v.now = nil
		}
		if v.starting == nil {
			if err := v.crashes.refused(time.Now()); err != nil && !v.eager {
				return nil, err
			}
			v.starting = &start{done: make(chan struct{})}
			go v.restart(v.starting)
		}
		if v.most > 0 && v.waiting >= v.most {
			return nil, ErrBusy
		}
		if err := v.wait(ctx, v.starting); err != nil {
			return nil, err
		}
	}
}

// wait gives up the mutex meanwhile.
func (v *supervisor) wait(ctx context.Context, st *start) error {
	v.waiting++
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.waiting--
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-st.done:
		return st.err
	}
}

func (v *supervisor) restart(st *start) {
	begun := time.Now()
	s, err := v.open(v.ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.starting = nil
	switch {
	case v.closing:
		if s != nil {
			s.kill()
		}
		st.err = ErrClosed
	case err != nil:
		st.err = err
		v.crashes.add(begun, time.Now(), err)
	default:
		v.now, v.restarts = s, v.restarts+1
	}
	close(st.done)
}

// stop lets no process be started any more and gives the one that lives, nil for none.
func (v *supervisor) stop() *session {
	v.mu.Lock()
	v.closing = true
	s, starting := v.now, v.starting
	v.mu.Unlock()
	v.cancel()
	if starting != nil {
		<-starting.done
	}
	return s
}
