package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// session is one worker process and the connection to it.
type session struct {
	wire    *wire
	process *os.Process
	started time.Time
	log     *workerLog
	exited  chan struct{} // the process is gone and reaped
	state   *os.ProcessState
	dead    chan struct{} // everything is over; err says why
	err     error

	mu    sync.Mutex
	over  bool // no new calls
	calls map[uint64]*workerCall
	next  uint64
}

// helloPatience is for the start of the process until it speaks; loading comes later.
const helloPatience = 30 * time.Second

// startSession starts a process and waits until it has told that it is a worker of
// this version.
func startSession(ctx context.Context, program string, args []string, logger *slog.Logger) (*session, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	s := &session{
		started: time.Now(), log: &workerLog{logger: logger}, exited: make(chan struct{}), dead: make(chan struct{}),
		calls: map[uint64]*workerCall{}, next: 1,
	}
	cmd := &exec.Cmd{
		Path: program, Args: args, Stderr: s.log, ExtraFiles: []*os.File{theirs}, SysProcAttr: workerAttributes(),
		Env:       append(waitingEnv(os.Environ()), workerVariable+"=1"),
		WaitDelay: time.Second, // for what still holds stderr
	}
	if os.Getenv("GOTRACEBACK") == "" {
		// The reason of a crash, without the stacks of all goroutines.
		cmd.Env = append(cmd.Env, "GOTRACEBACK=none")
	}
	if err := s.start(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNoWorker, err), ours.Close(), theirs.Close())
	}
	if err := theirs.Close(); err != nil {
		s.log.logger.Error("engine: a socket was not closed", "error", err)
	}
	s.wire = newWire(ours)
	hello := make(chan error, 1)
	go s.reader(program, hello)
	select {
	case err = <-hello:
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(helloPatience):
		err = fmt.Errorf("%w: %s does not answer", ErrNoWorker, program)
	}
	if err != nil {
		s.kill()
		return nil, err
	}
	go s.ping()
	return s, nil
}

// start runs cmd on a thread of its own: the kernel sends a process the signal of its
// parent's death when the thread that has made it ends.
func (s *session) start(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		s.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state says it
			s.state = cmd.ProcessState
			close(s.exited)
		}
	}()
	return <-started
}

// socketPair gives both ends of a connection; ours does not block.
func socketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(fds[0]), syscall.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "engine"), nil
}

// reader hands what the worker says to the calls, until it is gone.
func (s *session) reader(program string, hello chan<- error) {
	f, err := s.wire.receive()
	switch {
	case err != nil:
		hello <- fmt.Errorf("%w: %s ended instead of becoming one", ErrNoWorker, program)
	case f.kind != frameHello || f.id != wireTypesHash():
		err = fmt.Errorf("%w: the program is of another version", ErrNoWorker)
		hello <- err
	default:
		hello <- nil
	}
	for err == nil {
		if f, err = s.wire.receive(); err == nil {
			err = s.dispatch(f)
		}
	}
	_ = s.process.Kill()
	<-s.exited
	_ = s.wire.close() // nobody is there
	s.mu.Lock()
	s.over = true
	s.err = s.died()
	s.calls = nil
	s.mu.Unlock()
	close(s.dead)
}

func (s *session) dispatch(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls[f.id]
	if c == nil {
		return nil
	}
	if f.kind == frameEnd {
		delete(s.calls, f.id)
	}
	select {
	case c.in <- f:
		return nil
	default:
		return errWire // more than its window
	}
}

func (s *session) died() error {
	e := &ErrWorkerDied{ExitCode: s.state.ExitCode(), Log: s.log.tail()}
	if status, ok := s.state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		e.Signal = status.Signal().String()
	}
	return e
}

func (s *session) isDead() bool {
	select {
	case <-s.dead:
		return true
	default:
		return false
	}
}

// kill ends the process and waits for that.
func (s *session) kill() {
	_ = s.process.Kill()
	<-s.dead
}

// open makes a new process ready.
func (s *session) open(ctx context.Context, r openRequest, preflight Preflight, progress func(float32)) (openReply, error) {
	b, err := encodeWire(r, "")
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
