package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
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
		Env:       append(os.Environ(), workerVariable+"=1"),
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

// workerCall is a request to the worker. One goroutine uses it, beside cancel.
type workerCall struct {
	id      uint64
	session *session
	in      chan frame
	taken   int    // deltas since the last credit
	last    []byte // delta
	end     *frame
	once    sync.Once
}

// call sends a request. Its frames are taken with next, to the end or to finish.
func (s *session) call(ctx context.Context, method string, request []byte) (*workerCall, error) {
	r := callRequest{Method: method, Request: request}
	if deadline, ok := ctx.Deadline(); ok {
		r.Timeout = max(1, time.Until(deadline))
	}
	b, err := encodeWire(nil, r, "call")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, s.err
	}
	c := &workerCall{id: s.next, session: s, in: make(chan frame, wireWindow+2)} // an ask and the end beside the deltas
	s.next++
	if err := s.wire.send(frame{frameCall, c.id, b}); err != nil {
		return nil, err
	}
	s.calls[c.id] = c
	return c, nil
}

// next gives the next frame of the call. What came before the worker died is given
// before its death.
func (c *workerCall) next(ctx context.Context) (frame, error) {
	select {
	case f := <-c.in:
		return c.took(f), nil
	default:
	}
	select {
	case f := <-c.in:
		return c.took(f), nil
	case <-ctx.Done():
		return frame{}, ctx.Err()
	case <-c.session.dead:
	}
	select {
	case f := <-c.in:
		return c.took(f), nil
	default:
		c.end = &frame{}
		return frame{}, c.session.err
	}
}

func (c *workerCall) took(f frame) frame {
	switch f.kind {
	case frameEnd:
		c.end = &f
	case frameDelta:
		c.last = f.payload
		if c.taken++; c.taken == wireWindow/2 {
			c.taken = 0
			_ = c.session.wire.send(frame{kind: frameCredit, id: c.id}) // without payload it cannot fail
		}
	}
	return f
}

// cancel asks the worker to end the call.
func (c *workerCall) cancel() {
	c.once.Do(func() { _ = c.session.wire.send(frame{kind: frameCancel, id: c.id}) })
}

// finish cancels the call unless it has ended, waits for the end and gives its frame.
func (c *workerCall) finish() frame {
	if c.end == nil {
		c.cancel()
	}
	for c.end == nil {
		_, _ = c.next(context.Background()) // its failure is the end, too
	}
	return *c.end
}

// answer replies to a frameAsk.
func (c *workerCall) answer(v any) error {
	b, err := encodeWire(nil, v, "answer")
	if err != nil {
		return err
	}
	return c.session.wire.send(frame{frameAnswer, c.id, b})
}

// endOf reads the end of a call.
func endOf[A any](f frame) (answer A, err error) {
	if f.kind != frameEnd {
		return answer, errWire
	}
	end, err := decodeWire[callEnd](f.payload)
	if err != nil {
		return answer, err
	}
	if len(end.Reply) > 0 {
		if answer, err = decodeWire[A](end.Reply); err != nil {
			return answer, err
		}
	}
	return answer, end.Err.err()
}

// callWorker is a call with one answer.
func callWorker[A any](ctx context.Context, s *session, method string, request []byte) (answer A, err error) {
	c, err := s.call(ctx, method, request)
	if err != nil {
		return answer, err
	}
	f, err := c.next(ctx)
	if err != nil {
		c.cancel() // what hangs holds up nobody who has gone
		return answer, err
	}
	return endOf[A](f)
}

// workerLog takes the worker's stderr: its log lines go to the logger, and the last
// ones stay for its obituary.
type workerLog struct {
	logger *slog.Logger

	mu    sync.Mutex
	part  []byte
	lines []string
	crash int // lines since a crash began
}

const (
	mostLogLines = 20
	mostLogLine  = 4 << 10

	mostCrashLines = 4
)

// crash begins what Go's runtime says of one; after the reason come stacks and registers.
var crash = regexp.MustCompile(`^(SIG[A-Z0-9]+|panic|fatal error): `)

func (l *workerLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		i := slices.Index(l.part, '\n')
		if i < 0 && len(l.part) < mostLogLine {
			return len(p), nil
		}
		if i < 0 {
			i = len(l.part) - 1
		}
		l.line(strings.TrimRight(string(l.part[:i+1]), "\r\n"))
		l.part = slices.Delete(l.part, 0, i+1)
	}
}

func (l *workerLog) line(text string) {
	if l.crash > 0 || crash.MatchString(text) {
		l.crash++
	}
	if text == "" || l.crash > mostCrashLines {
		return
	}
	if l.lines = append(l.lines, text); len(l.lines) > mostLogLines {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	level := slog.LevelWarn // what is not ours was written by something that ends the process
	if rest, ok := strings.CutPrefix(text, "level="); ok {
		name, words, _ := strings.Cut(rest, " ")
		if level.UnmarshalText([]byte(name)) == nil {
			text = words
		}
	}
	l.logger.Log(context.Background(), level, "engine: worker", "says", text)
}

func (l *workerLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}
