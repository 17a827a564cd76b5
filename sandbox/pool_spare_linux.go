package sandbox

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// spare is a sandbox that waits for a command.
type spare struct {
	process *process
	id      proto.Ready
	answer  chan answer // of the helper to the command, one
}

type answer struct {
	frame any
	err   error
}

func newSpare(ctx context.Context, c Config) (*spare, error) {
	c.Workspace, c.Protect = "", nil // which come with the command
	request, limits, err := c.request("/bin/bash", []string{"bash"})
	if err != nil {
		return nil, err
	}
	request.Mode = proto.BuildPooled
	p := newProcess()
	p.level = LevelNamespaces
	rest, err := p.launch(&c, func() ([]byte, error) {
		err := p.join(&c, limits, request)
		return request.Build.Encode(), err
	}, true, true)
	if err != nil {
		if p.group != nil {
			p.group.Remove()
		}
		return nil, err
	}
	s := &spare{process: p, answer: make(chan answer, 1)}
	stop := context.AfterFunc(ctx, p.shutdown)
	defer stop()
	_ = p.control.SetReadDeadline(time.Now().Add(startPatience))
	frame, err := p.ask(rest)
	_ = p.control.SetReadDeadline(time.Time{})
	var ok bool
	if s.id, ok = frame.(proto.Ready); ok {
		return s, nil
	}
	s.discard()
	if failure, ok := frame.(proto.Failure); ok {
		return nil, explain(failure, request, &c)
	}
	return nil, &ErrSetup{"talk to the helper", "it was killed, or is of another release", err}
}

// discard ends a sandbox that has not been used and frees what it holds.
func (s *spare) discard() {
	p := s.process
	p.shutdown()
	force := time.AfterFunc(killPatience, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait() // how it ended does not matter
	force.Stop()
	for _, f := range []*os.File{p.control, p.stdin, p.outputs[0], p.outputs[1]} {
		f.Close()
	}
	if p.group != nil {
		p.group.Remove()
	}
}

// start gives the sandbox its command. A helper that refuses has not run it.
func (s *spare) start(ctx context.Context, j *job, file *os.File) (*process, error) {
	p, cold := s.process, false
	if p.group != nil {
		besideGroup(&j.request.Run)
	}
	q, err := p.start(ctx, j, func() (any, error) {
		err := send(p.control, j.request.Run.Encode(), file)
		a := <-s.answer
		f, refused := a.frame.(proto.Failure)
		cold = refused && f.Stage != proto.StageLend || err != nil
		return a.frame, errors.Join(err, a.err)
	})
	if err != nil && cold {
		return nil, errCold
	}
	return q, err
}

// send writes a frame and the file that goes with it, if there is one.
func send(socket *os.File, frame []byte, file *os.File) error {
	if file == nil {
		_, err := socket.Write(frame)
		return err
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(file.Fd()))
	var n int
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		n, errno = unix.SendmsgN(int(fd), frame, rights, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		return !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.EINTR)
	})
	if err := errors.Join(err, errno); err != nil {
		return err
	}
	_, err = socket.Write(frame[n:])
	return err
}
