package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Session is one bash that lives across commands, in a sandbox and on a
// terminal of its own. What a command changes in the shell (directory,
// variables, functions, background jobs) is there for the next one. Its methods
// may be called from any number of goroutines.
type Session struct {
	impl  *session
	audit *audit
}

// ExecResult is how one command of a [Session] ended.
type ExecResult struct {
	// ExitCode is the command's own, or 128+n where signal n ended it, as the shell has it.
	ExitCode int
	// Signal is "" or the name of the signal that ExitCode stands for: "SIGKILL".
	// A command that exits with such a code by itself looks the same.
	Signal string
	// Stdout and Stderr are the first Limits.Output bytes of each stream, as they
	// came. What the command has put into the background and what that writes
	// after the end of the command is not in them.
	Stdout, Stderr                   []byte
	StdoutTruncated, StderrTruncated bool
	// Limit is LimitTimeout or LimitOutput where that ended the command, or LimitNone.
	Limit LimitKind
	// Dir is the shell's working directory after the command, as the shell names it.
	Dir string
	// Duration is from the moment when the shell took the command to its end.
	Duration time.Duration
}

// ErrShellExited is a shell that has ended: by exit, by exec, by a signal, by a
// limit. It is the error of the Exec that ended it and of all later ones.
// Nothing of the sandbox is left; a new Session starts afresh.
type ErrShellExited struct {
	ExitCode int
	Signal   string    // "" or the name of the signal that ended it: "SIGKILL"
	Limit    LimitKind // the limit that ended it, or LimitNone
	// Replaced: another program runs in the shell's place (exec) on the terminal.
	Replaced bool
}

func (e *ErrShellExited) Error() string {
	if e.Replaced {
		return "sandbox: the shell of the session has been replaced by another program; start a new session"
	}
	how := fmt.Sprintf("with exit code %d", e.ExitCode)
	if e.Signal != "" {
		how = "by " + e.Signal
	}
	if e.Limit != LimitNone {
		how += fmt.Sprintf(" (limit: %s)", e.Limit)
	}
	return "sandbox: the shell of the session has ended " + how + "; start a new session"
}

// ErrClosed is a [Session] that was closed. errors.Is(err, os.ErrClosed) holds too.
var ErrClosed = fmt.Errorf("sandbox: the session is closed: %w", os.ErrClosed)

// NewSession makes a sandbox and starts a shell in it. ctx bounds the start
// only; Close must be called.
//
// Limits.Wall is the time of one Exec, and Limits.Output and StopAtOutput are for
// the output of each. Config.Stdout and Stderr get what commands of Exec write, of
// all of them. Config.Stdin must be nil, Limits.Files at least 256.
//
// # Errors
//
// Those of [Run].
func NewSession(ctx context.Context, c Config) (*Session, error) {
	return sessionIn(ctx, execute, c)
}

func sessionIn(ctx context.Context, execute executor, c Config) (*Session, error) {
	a := c.audit(ctx, "session", "bash")
	s, err := newSession(ctx, execute, c)
	if err != nil {
		return nil, a.end(Result{}, err)
	}
	if a != nil {
		a.under(s.terms())
	}
	return &Session{s, a}, nil
}

// Exec runs a command line in the shell and returns when it has ended; what it
// put into the background lives on. One command runs at a time, others wait in
// line. Its input is the terminal.
//
// When ctx ends, the command's foreground process group is interrupted, and
// killed one second later; the error is then ctx's. The shell lives on, unless it
// is deaf to SIGINT itself: after 5 s it is killed.
//
// The result holds what there is also where there is an error: the output until
// then. What a program writes cannot be mistaken for a result; what the shell itself
// is told to write to its own socket can (docs/session.md).
//
// # Errors
//
// [ErrConfig] (the command itself), [ErrShellExited], [ErrClosed], [ErrStream],
// [ErrSetup] (no pipes for it), ctx's. A command that fails, or runs into a limit of
// its own, is a result and no error.
func (s *Session) Exec(ctx context.Context, command string) (ExecResult, error) {
	a := s.audit.exec(ctx, command)
	if err := checkCommand(command); err != nil {
		return ExecResult{}, a.end(Result{}, err)
	}
	r, err := s.impl.exec(ctx, command)
	return r, a.end(Result{ExitCode: r.ExitCode, Signal: r.Signal, Limit: r.Limit, Level: s.impl.terms().level}, err)
}

// Read reads what the terminal shows, as it comes: not text, not sanitised. It
// returns io.EOF when the shell has ended and all was read, [ErrClosed] after Close.
// Before the first Read only the last 256 KiB are kept; from then on programs wait
// for a reader, as at any terminal.
func (s *Session) Read(p []byte) (int, error) { return s.impl.read(p) }

// Write types on the terminal: for the command of the Exec that runs, or else for
// the shell, which shows its prompt from the first Write on, even of nothing. It
// waits while the terminal's input is full (4 KiB that nobody reads).
func (s *Session) Write(p []byte) (int, error) { return s.impl.write(p) }

// Resize sets the size of the terminal in characters; programs in the
// foreground get SIGWINCH.
func (s *Session) Resize(rows, cols uint16) error { return s.impl.resize(rows, cols) }

// Signal sends sig to the terminal's foreground process group: what runs there, or
// the shell at its prompt.
func (s *Session) Signal(sig syscall.Signal) error { return s.impl.signal(sig) }

// Net is what was asked of the proxy of [NetAllowList] until now, as in [Result].
func (s *Session) Net() []NetRecord { return s.impl.net() }

// Dial connects to a server that runs inside, as [net.Dialer.DialContext] does on this
// host: network is "tcp", "tcp4", "tcp6" with an address like "localhost:8080", or
// "unix" with an absolute path inside, or an abstract name that begins with @. Only the
// loopback of the sandbox's own network can be dialled, which under [NetHost] is the host's;
// "localhost" is 127.0.0.1 and, where nobody listens there, ::1. Links on the way to a
// path are followed as they are inside.
//
// ctx bounds the connecting only; a Unix socket whose queue is full is tried until it
// ends. The connection lives until it is closed, also when
// the session has ended: then its other side is gone.
//
// # Errors
//
// A [net.OpError] with the reason, for example syscall.ECONNREFUSED or ctx's;
// [ErrShellExited], [ErrClosed].
func (s *Session) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return s.impl.dial(ctx, network, address)
}

// Level is how strongly the session is isolated.
func (s *Session) Level() Level { return s.impl.level() }

// Lacks is what the session does without, as in [Result].
func (s *Session) Lacks() []string { return s.impl.lacks() }

// Wait returns when the shell has ended, and says how: an [ErrShellExited], or
// [ErrClosed]. Nothing of the sandbox is left then.
func (s *Session) Wait() error { return s.impl.wait() }

// Close ends every process of the session, and returns when the last one is
// gone. It may be called more than once. With [Config.Audit] it writes the record
// of the session, of which commands and their use of the terminal are a part: that
// of a shell that has ended by itself too.
func (s *Session) Close() error {
	err := s.impl.close()
	return s.audit.end(s.impl.result(), err)
}
