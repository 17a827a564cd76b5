package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// target is one address of a server inside.
type target struct {
	family, port uint32
	address      string // as DIAL has it
	addr         net.Addr
}

func (s *session) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := s.gone(); err != nil {
		return nil, err
	}
	conn, err := s.process.dial(ctx, network, address)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, s.wait()
	}
	return conn, err
}

func (p *process) dial(ctx context.Context, network, address string) (net.Conn, error) {
	targets, err := p.targets(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var first error
	for _, t := range targets {
		conn, err := p.connect(ctx, t)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, os.ErrProcessDone) {
			return nil, err
		}
		if first == nil {
			first = &net.OpError{Op: "dial", Net: network, Addr: t.addr, Err: err}
		}
	}
	return nil, first
}

// connect waits for room in the queue of a Unix socket, which the kernel refuses at once
// where it is full (connect(2), EAGAIN).
func (p *process) connect(ctx context.Context, t target) (net.Conn, error) {
	for pause := firstDialPause; ; pause = min(2*pause, lastDialPause) {
		conn, err := p.connectNow(ctx, t)
		if t.family != unix.AF_UNIX || !errors.Is(err, unix.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

const (
	firstDialPause = time.Millisecond
	lastDialPause  = 50 * time.Millisecond
)

// connectNow has pid 1, which is where the network is, start to connect, and waits itself.
func (p *process) connectNow(ctx context.Context, t target) (net.Conn, error) {
	files, err := p.order(ctx, proto.EncodeDial(t.family, t.port, t.address), 1)
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = os.NewSyscallError("connect", errno)
		}
		return nil, err
	}
	f := files[0]
	defer f.Close()
	if err := connected(ctx, f); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// connected waits until the connection that f begins is there.
func connected(ctx context.Context, f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var result int
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, _ := unix.Poll(ready, 0); n <= 0 {
			return false
		}
		result, errno = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		return true
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil || errno != nil:
		return errors.Join(err, errno)
	case result != 0:
		return os.NewSyscallError("connect", syscall.Errno(result))
	}
	return nil
}

func (p *process) targets(network, address string) ([]target, error) {
	if network == "unix" {
		if len(address) > proto.MaxPath || address == "" || address[0] != '/' && address[0] != '@' {
			return nil, &net.AddrError{Err: "neither an absolute path nor an abstract name", Addr: address}
		}
		return []target{{unix.AF_UNIX, 0, address, &net.UnixAddr{Net: network, Name: address}}}, nil
	}
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, net.UnknownNetworkError(network)
	}
	if p.level < LevelNamespaces {
		return nil, fmt.Errorf("%w: level %s has no network of its own", ErrUnsupported, p.level)
	}
	host, number, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 {
		return nil, &net.AddrError{Err: "no port number", Addr: address}
	}
	hosts := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	if host != "localhost" && host != "" {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Unmap().IsLoopback() || a.Zone() != "" {
			return nil, &net.AddrError{Err: "not a loopback address", Addr: address}
		}
		hosts = []netip.Addr{a.Unmap()}
	}
	var targets []target
	for _, a := range hosts {
		t := target{unix.AF_INET, uint32(port), string(a.AsSlice()), net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(port)))}
		if a.Is6() {
			t.family = unix.AF_INET6
		}
		if network == "tcp" || (network == "tcp6") == a.Is6() {
			targets = append(targets, t)
		}
	}
	if len(targets) == 0 {
		return nil, &net.AddrError{Err: "no address of " + network, Addr: address}
	}
	return targets, nil
}
