package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

// interact connects the caller's terminal with that of a shell in a sandbox, until
// the shell ends or ctx does.
func (f *bashFlags) interact(ctx context.Context, std stdio, terminal *os.File) (err error) {
	config, closeAll, err := f.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	config.Limits.Wall = 0 // in a session it is the time of an Exec
	if _, ok := config.Env["TERM"]; !ok && os.Getenv("TERM") != "" {
		config.Env["TERM"] = os.Getenv("TERM")
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if f.sandbox.wall != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.sandbox.wall)
		defer cancel()
	}
	session, err := sandbox.NewSession(ctx, config)
	if err != nil {
		return sandboxFailure(err)
	}
	err = shellFailure(ctx, connect(ctx, stop, session, std.out, terminal))
	if closed := session.Close(); closed != nil {
		err = errors.Join(err, sandboxFailure(closed))
	}
	changed, failed := changes(context.WithoutCancel(ctx), config)
	return errors.Join(err, failed, writeViolations(std.err, session.ProtectViolations()), writeChanges(std.err, changed))
}

// connect has the terminal in raw mode while it lasts. It returns how the shell ended,
// or why it was left.
func connect(ctx context.Context, stop context.CancelCauseFunc, session *sandbox.Session, out io.Writer, terminal *os.File) error {
	fd := int(terminal.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("the terminal cannot be used: %w", err)
	}
	defer func() { _ = term.Restore(fd, before) }() // it is gone, or takes it
	defer passSignals(session, fd, stop)()
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()

	// Not waited for: it sits in a Read of the terminal.
	go func() {
		_, _ = session.Write(nil) // the prompt
		_, err := io.Copy(session, terminal)
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		stop(fmt.Errorf("the terminal is gone: %w", err))
	}()
	if _, err := io.Copy(out, session); err != nil && !errors.Is(err, sandbox.ErrClosed) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return session.Wait()
}

// passSignals tells the session the size of the terminal, now and whenever it changes.
// The signals that would end this process with the terminal in raw mode end the session
// instead. The function that it returns ends all that.
func passSignals(session *sandbox.Session, fd int, stop context.CancelCauseFunc) func() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGHUP, syscall.SIGQUIT)
	done := make(chan struct{})
	resize := func() {
		if cols, rows, err := term.GetSize(fd); err == nil {
			_ = session.Resize(uint16(rows), uint16(cols)) // a shell that has ended needs no size
		}
	}
	resize()
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGWINCH {
					resize()
				} else {
					stop(interrupted{s.(syscall.Signal)})
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}

// shellFailure gives the end of the shell its exit code.
func shellFailure(ctx context.Context, err error) error {
	var exited *sandbox.ErrShellExited
	var sig interrupted
	switch {
	case errors.As(err, &sig):
		return &failure{code: sig.exitCode()}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		const killed = exitSignal + int(syscall.SIGKILL)
		return &failure{code: killed, err: fmt.Errorf("the shell reached a limit: %s", sandbox.LimitTimeout)}
	case !errors.As(err, &exited):
		return err
	case exited.Limit != sandbox.LimitNone:
		return &failure{code: exited.ExitCode, err: fmt.Errorf("the shell reached a limit: %s", exited.Limit)}
	case exited.ExitCode != 0:
		return &failure{code: exited.ExitCode}
	}
	return nil
}
