package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"syscall"
	"time"
)

func (s *session) exec(ctx context.Context, command string) (ExecResult, error) {
	if err := s.hold(ctx); err != nil {
		return ExecResult{}, err
	}
	defer s.yield()
	return s.command(ctx, command, s.config, s.limits.Output)
}

// hold waits for its turn, in which no other Exec runs; yield ends it.
func (s *session) hold(ctx context.Context) error {
	if err := s.gone(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sandbox: another command is running: %w", ctx.Err())
	case <-s.ended:
		return s.exit
	}
}

func (s *session) yield() { <-s.turn }

// command runs one in its turn, with the streams of c.
func (s *session) command(ctx context.Context, command string, c Config, output int64) (ExecResult, error) {
	if ctx.Err() != nil {
		return ExecResult{}, fmt.Errorf("sandbox: %w", ctx.Err())
	}
	nonce, err := newNonce()
	if err != nil {
		return ExecResult{}, err
	}
	if err := s.shell.await(ctx, s.ended); err != nil {
		return ExecResult{}, s.explain(err)
	}
	files, err := s.fetch(ctx, nonce)
	if err != nil {
		s.shell.release()
		return ExecResult{}, s.explain(err)
	}
	return s.run(ctx, nonce, command, newStreams(c, output, files))
}

// explain tells an end of the shell by how it ended.
func (s *session) explain(err error) error {
	if !errors.Is(err, errEnded) {
		return err
	}
	select {
	case <-s.ended:
		return s.exit
	case <-s.shell.lost:
	}
	// Its end of the socket is closed before the process itself is gone.
	grace := time.NewTimer(replacedPatience)
	defer grace.Stop()
	select {
	case <-s.ended:
		return s.exit
	case <-grace.C:
		return &ErrShellExited{Replaced: true}
	}
}

const replacedPatience = time.Second

func (s *session) run(ctx context.Context, nonce, command string, streams *streams) (ExecResult, error) {
	begin := time.Now()
	call := s.shell.begin(nonce, command)
	var r ExecResult
	var err error
	r.Limit, err = s.watch(ctx, call, streams)
	if err != nil || r.Limit != LimitNone {
		streams.stop()
		s.interrupt(call.done)
	}
	unblock := context.AfterFunc(ctx, streams.stop) // a writer of the caller's may block after the end, too
	defer unblock()
	err = errors.Join(err, streams.finish(&r))
	r.Duration = time.Since(begin)
	select {
	case <-call.done:
		r.ExitCode, r.Dir = call.result.status, call.result.dir
		if n := r.ExitCode - 128; n > 0 && n <= maxSignal {
			r.Signal = signalName(syscall.Signal(n))
		}
		return r, err
	default:
		return r, errors.Join(s.exit, err)
	}
}

// watch waits for the end of a call, or for the reason to stop it.
func (s *session) watch(ctx context.Context, call *call, streams *streams) (LimitKind, error) {
	wall := time.NewTimer(s.limits.Wall)
	defer wall.Stop()
	tick := time.NewTicker(nudgePatience)
	defer tick.Stop()
	for {
		select {
		case <-call.done:
			return LimitNone, nil
		case <-s.ended:
			return LimitNone, nil
		case <-ctx.Done():
			return LimitNone, fmt.Errorf("sandbox: %w", ctx.Err())
		case <-wall.C:
			return LimitTimeout, nil
		case <-streams.full:
			return LimitOutput, nil
		case <-tick.C:
			if !s.shell.deliver(call) {
				tick.Stop()
			}
		}
	}
}

const maxSignal = 64

func newNonce() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", &ErrSetup{"make a nonce", "random numbers", err}
	}
	return hex.EncodeToString(b[:]), nil
}
