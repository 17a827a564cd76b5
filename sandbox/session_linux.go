package sandbox

import (
	"context"
	_ "embed" // for the driver
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

//go:embed session.bash
var driver string

// minSessionFiles leaves room for the numbers that the driver uses.
const minSessionFiles = 256

// session is a running shell and what is connected to it.
type session struct {
	process *process
	limits  Limits
	config  Config
	shell   *shell
	term    *terminal
	turn    chan struct{} // held by the one Exec
	ended   chan struct{} // closed once the sandbox is gone and exit is set
	exit    error
	closing sync.Once
	closed  chan struct{}
}

func newSession(ctx context.Context, execute executor, c Config) (*session, error) {
	if err := checkSession(&c); err != nil {
		return nil, err
	}
	env := map[string]string{"PROMPT_COMMAND": driver}
	for k, v := range c.Env {
		env[k] = v
	}
	inner := c
	inner.Env = env
	p, err := execute(ctx, inner, "/bin/bash", []string{"bash", "--noprofile", "--norc"}, true)
	if err != nil {
		return nil, err
	}
	terminal, side := p.lent[proto.FileTerminal], p.lent[proto.FileSide]
	if terminal == nil || side == nil {
		p.kill()
		_, _ = p.wait()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("sandbox: %w", ctx.Err())
		}
		return nil, &ErrSetup{"open a terminal", "the helper sent none", errors.New("it is of another release")}
	}
	s := &session{
		process: p, limits: p.limits, config: c, term: newTerminal(terminal), shell: newShell(side, terminal, p),
		turn: make(chan struct{}, 1), ended: make(chan struct{}), closed: make(chan struct{}),
	}
	p.listen()
	go s.follow()
	go s.shell.listen()
	go s.term.pump()
	if err := s.ready(ctx); err != nil {
		_ = s.close()
		return nil, err
	}
	s.shell.release()
	p.release() // ctx bounds the start only
	if ctx.Err() != nil {
		_ = s.close()
		return nil, fmt.Errorf("sandbox: %w", ctx.Err())
	}
	return s, nil
}

func (s *session) level() Level { return s.process.level }

func (s *session) lacks() []string { return slices.Clone(s.process.lacks) }

// ready waits for the driver's first report.
func (s *session) ready(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	err := s.explain(s.shell.await(patient, s.ended))
	if err != nil && patient.Err() != nil && ctx.Err() == nil {
		return &ErrSetup{"start the shell", "/bin/bash of the root does not answer", errors.New("a session needs GNU bash 4.4 or later")}
	}
	return err
}

func checkSession(c *Config) error {
	if c.Stdin != nil {
		return &ErrConfig{"Stdin", "the commands of a session read its terminal: use Write"}
	}
	if _, ok := c.Env["PROMPT_COMMAND"]; ok {
		return &ErrConfig{"Env[PROMPT_COMMAND]", "taken by the session"}
	}
	if c.Limits.Files > 0 && c.Limits.Files < minSessionFiles {
		return &ErrConfig{"Limits.Files", fmt.Sprintf("a session needs %d", minSessionFiles)}
	}
	return nil
}

// follow waits for the end of the sandbox and sets how the shell ended.
func (s *session) follow() {
	defer close(s.ended)
	<-s.process.orders.done
	r, err := s.process.wait()
	s.exit = &ErrShellExited{ExitCode: r.ExitCode, Signal: r.Signal, Limit: r.Limit}
	if err != nil {
		s.exit = err
	}
	select {
	case <-s.closed:
		s.exit = ErrClosed
	default:
	}
}

func (s *session) net() []NetRecord {
	records, _ := s.process.net()
	return records
}

func (s *session) wait() error {
	<-s.ended
	return s.exit
}

func (s *session) close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.process.kill()
	})
	<-s.ended
	s.shell.socket.Close()
	s.term.close()
	return nil
}

func (s *session) terms() terms { return s.process.terms() }

// result is of the shell and all that ran in it, once the session is closed.
func (s *session) result() Result {
	r, _ := s.process.wait() // the error is s.exit
	return r
}

func (s *session) read(p []byte) (int, error) { return s.term.read(p) }

func (s *session) write(p []byte) (int, error) {
	if err := s.gone(); err != nil {
		return 0, err
	}
	s.shell.wantPrompt()
	return s.term.write(p)
}

func (s *session) resize(rows, cols uint16) error {
	if err := s.gone(); err != nil {
		return err
	}
	return s.term.resize(rows, cols)
}

func (s *session) signal(sig syscall.Signal) error {
	if err := s.gone(); err != nil {
		return err
	}
	return s.process.signalTo(sig, proto.TargetForeground)
}

// gone is how the shell ended, or nil.
func (s *session) gone() error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	select {
	case <-s.ended:
		return s.exit
	default:
		return nil
	}
}

// fetch asks pid 1 for the two pipes of one command, the ends of each; they are named
// by the nonce.
func (s *session) fetch(ctx context.Context, nonce string) ([]*os.File, error) {
	var name [proto.StreamName]byte
	copy(name[:], nonce)
	files, err := s.process.order(ctx, proto.EncodeStreams(name), 2*len(streams{}.taps))
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nil, errEnded
	case errors.As(err, &errno):
		return nil, &ErrSetup{"make the pipes of a command", "stdout and stderr", errno}
	}
	return files, err
}

// interrupt ends the command that runs in the foreground: as Ctrl-C would, then
// by force; and, where the shell itself does not come to its end, the shell.
func (s *session) interrupt(done <-chan struct{}) {
	s.shell.resume()
	_ = s.process.signalTo(syscall.SIGINT, proto.TargetForeground)
	// A program that the shell was just starting may not have felt it.
	repeat := time.NewTimer(repeatInterrupt)
	defer repeat.Stop()
	patience := time.NewTimer(killPatience)
	defer patience.Stop()
	again := time.NewTimer(interruptPatience)
	defer again.Stop()
	interval := forceInterval
	for {
		select {
		case <-done:
			return
		case <-s.ended:
			return
		case <-repeat.C:
			_ = s.process.signalTo(syscall.SIGINT, proto.TargetAgain)
			repeat.Reset(repeatInterrupt)
		case <-again.C:
			select {
			case <-s.shell.lost: // by exec another program is in the shell's place: nothing is to be spared
				s.process.kill()
			default:
			}
			// The shell goes on with its list unless it is interrupted too.
			_ = s.process.signalTo(syscall.SIGINT, proto.TargetPayload)
			_ = s.process.signalTo(syscall.SIGKILL, proto.TargetCommand)
			again.Reset(interval)
			interval = min(2*interval, 8*forceInterval) // a slow shell that comes to its end is thrown back by each
		case <-patience.C:
			s.process.kill()
			<-s.ended
			return
		}
	}
}

const (
	startPatience     = 30 * time.Second
	repeatInterrupt   = 50 * time.Millisecond
	interruptPatience = time.Second
	forceInterval     = 50 * time.Millisecond
)
