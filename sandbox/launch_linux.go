package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// helperInChild is the second of the child's extra files. Only such a number is
// certain: os/exec overwrites others while it arranges the child's files.
const helperInChild = "/proc/self/fd/4"

// launch starts the helper with pipes for the streams of a command. The request
// is made, with the control groups of v1, and sent meanwhile; what the socket does
// not take at once is returned.
func (p *process) launch(c *Config, request func() ([]byte, error), outputs, input bool) ([]byte, error) {
	if len(helper.Binary()) == 0 {
		return nil, fmt.Errorf("%w: no helper for this architecture", ErrUnsupported)
	}
	path, extra := c.HelperPath, []*os.File(nil)
	if path == "" {
		path = namedHelper()
	}
	if path == "" {
		file, err := helper.File()
		if err != nil {
			remedy := "memory of the caller"
			if errors.Is(err, helper.ErrMemfd) {
				remedy = "set Config.HelperPath to an installed one"
			}
			return nil, &ErrSetup{"load the helper", remedy, err}
		}
		path, extra = helperInChild, []*os.File{file}
	}
	var ours, theirs []*os.File
	fail := func(err error) ([]byte, error) {
		for _, f := range append(ours, theirs...) {
			f.Close()
		}
		return nil, &ErrSetup{"start the helper", path, err}
	}
	control, child, err := socketPair()
	if err != nil {
		return fail(err)
	}
	ours, theirs = append(ours, control), append(theirs, child)
	p.cmd = &exec.Cmd{
		Path: path, Args: []string{"lm-sandbox-helper"}, Env: []string{}, ExtraFiles: append(theirs[:1:1], extra...),
		// No terminal of the caller's, nor the signals that it sends to its group.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if outputs {
		for i := range p.outputs {
			r, w, err := os.Pipe()
			if err != nil {
				return fail(err)
			}
			p.outputs[i] = r
			ours, theirs = append(ours, r), append(theirs, w)
		}
		p.cmd.Stdout, p.cmd.Stderr = theirs[1], theirs[2]
	}
	if input {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		ours, theirs = append(ours, w), append(theirs, r)
		p.cmd.Stdin, p.stdin = r, w
	}
	p.control = control
	p.files = receiver{file: control}
	var rest []byte
	asked := make(chan error, 1)
	ask := func() {
		b, err := request()
		if err == nil {
			rest, err = offer(control, b)
		}
		asked <- err
	}
	if !cgroup.AtStart() {
		go ask()
	} else if ask(); p.group != nil && p.group.Dir != nil {
		p.cmd.SysProcAttr.UseCgroupFD, p.cmd.SysProcAttr.CgroupFD = true, int(p.group.Dir.Fd())
	}
	started := p.cmd.Start()
	if err := <-asked; err != nil {
		if started == nil {
			control.Close() // so that it ends
			_ = p.cmd.Wait()
		}
		_, _ = fail(nil)
		return nil, err
	}
	if started != nil {
		return fail(started)
	}
	for _, f := range theirs {
		f.Close()
	}
	return rest, nil
}

// ready is a request that is made already.
func ready(b []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return b, nil }
}

// offer writes what a socket takes without waiting, and returns the rest.
func offer(socket *os.File, b []byte) (rest []byte, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var sent int
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		sent, errno = unix.Write(int(fd), b)
		return true
	})
	if errors.Is(errno, unix.EAGAIN) {
		return b, err
	}
	return b[max(sent, 0):], errors.Join(err, errno)
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	// Only this side polls; the helper blocks.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// ask sends the rest of the request and reads the first answer.
func (p *process) ask(rest []byte) (any, error) {
	// A helper that gave up has said why before it closed the socket.
	_, werr := p.control.Write(rest)
	frame, err := proto.Read(&p.files)
	if err != nil {
		return nil, errors.Join(werr, err)
	}
	return frame, nil
}
