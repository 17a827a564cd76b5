package sandbox

import (
	"context"
	"errors"
	"io"
	"strings"
)

// maxState bounds the shell's state as text.
const maxState = 16 << 20

func (s *session) overlay() *Overlay { return s.config.Overlay }

func (s *session) fork(ctx context.Context) (*Session, error) {
	if err := s.hold(ctx); err != nil {
		return nil, err
	}
	defer s.yield()
	state, err := s.state(ctx)
	if err != nil {
		return nil, err
	}
	c := s.config
	if c.Overlay != nil {
		if c.Overlay, err = c.Overlay.Fork(ctx); err != nil {
			return nil, err
		}
	}
	n, err := NewSession(ctx, c)
	if err == nil {
		if err = s.hand(ctx, n.impl, state); err == nil {
			return n, nil
		}
		err = errors.Join(err, n.Close())
	}
	if c.Overlay != nil {
		err = errors.Join(err, c.Overlay.Close())
	}
	return nil, err
}

// state is the shell's, as text for another one.
func (s *session) state(ctx context.Context) (string, error) {
	r, err := s.command(ctx, `__lm_state "$@" || \builtin :`, Config{}, maxState)
	switch {
	case err != nil:
		return "", err
	case r.StdoutTruncated:
		return "", &ErrSetup{"fork the session", "the shell's variables", &ErrTooLarge{"/", "total", maxState}}
	case !strings.HasSuffix(string(r.Stdout), "printf done\n"):
		return "", &ErrSetup{"fork the session", "the shell does not give its state", errors.New(Plain(r.Stderr))}
	}
	return string(r.Stdout), nil
}

// hand gives a new session what this one has.
func (s *session) hand(ctx context.Context, to *session, state string) error {
	places := []string{"/home/user", "/tmp", "/dev/shm"}
	if s.config.Workspace == "" && s.config.Overlay == nil {
		places = append(places, "/workspace")
	}
	for _, dir := range places {
		if err := s.copyTo(ctx, to, dir); err != nil {
			return err
		}
	}
	r, err := to.command(ctx, state, Config{}, maxState)
	if err == nil && string(r.Stdout) != "done" {
		err = &ErrSetup{"fork the session", "the new shell does not take the state", errors.New(Plain(r.Stderr))}
	}
	return err
}

// copyTo copies a directory of this sandbox to the same one of another.
func (s *session) copyTo(ctx context.Context, to *session, dir string) error {
	limits := FileLimits{File: s.limits.Disk, Total: s.limits.Disk, Entries: maxInodes}
	from, err := s.files(ctx, dir, limits)
	if err != nil {
		return err
	}
	defer from.Close()
	there, err := to.files(ctx, dir, limits)
	if err != nil {
		return err
	}
	defer there.Close()
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err := from.GetTar(ctx, ".", w, TarOptions{Times: true})
		w.CloseWithError(err)
	}()
	_, err = there.unpack(ctx, ".", r, true)
	r.CloseWithError(io.ErrClosedPipe)
	<-ended
	return err
}
