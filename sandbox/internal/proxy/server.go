// Package proxy is the only way out of a sandbox with an allow-list: HTTP with
// CONNECT, and SOCKS5, on listening sockets that lie in the sandbox's network
// namespace. It decides by the name that was asked for, resolves it once and
// dials the very address that it has checked.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Server needs; all fields but Notify are required.
type Config struct {
	Rules       *Rules
	MaxConns    int
	MaxBytes    int64
	IdleTimeout time.Duration
	VerifySNI   bool
	Resolve     func(ctx context.Context, name string) ([]netip.Addr, error)
	Dial        func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Notify      func(Record) // called from many goroutines
}

// Server is a running proxy.
type Server struct {
	Config
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	group  sync.WaitGroup
	bytes  atomic.Int64

	mu    sync.Mutex
	flows []*flow
	more  int
}

// The ways in, as Record.Via.
const (
	ViaHTTP    = "http"
	ViaConnect = "connect"
	ViaSOCKS   = "socks5"
)

const (
	headTimeout   = 30 * time.Second
	acceptBackoff = 50 * time.Millisecond
)

// Serve starts a proxy on two listeners, which it closes.
func Serve(c Config, http, socks net.Listener) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Config: c, ctx: ctx, cancel: cancel, slots: make(chan struct{}, c.MaxConns)}
	s.group.Go(func() { s.accept(http, s.serveHTTP) })
	s.group.Go(func() { s.accept(socks, s.serveSOCKS) })
	return s
}

// patience is how long a client may take to say what it wants.
func (s *Server) patience() time.Duration { return min(headTimeout, s.IdleTimeout) }

// accept takes a connection only when there is room for it: further ones wait
// in the kernel's queue, which is the sandbox's own.
func (s *Server) accept(l net.Listener, serve func(net.Conn)) {
	defer context.AfterFunc(s.ctx, func() { l.Close() })()
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(acceptBackoff): // no file descriptor, most likely
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			c.Close()
			return
		}
		s.group.Go(func() {
			defer func() { <-s.slots }()
			defer s.survive()
			defer context.AfterFunc(s.ctx, func() { c.Close() })()
			defer c.Close()
			serve(c)
		})
	}
}

// survive keeps a fault of this package, met by hostile bytes, from ending the
// caller's process.
func (s *Server) survive() {
	if r := recover(); r != nil {
		s.refuse("", "", 0, fmt.Sprintf("internal error: %v", r))
	}
}

// Close ends every connection and waits for the goroutines, at most for
// patience: a Resolve, Dial or Notify that does not return is left behind.
func (s *Server) Close(patience time.Duration) {
	s.cancel()
	done := make(chan struct{})
	go func() {
		s.group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// Records are the first MaxRecords, in the order of their beginning, and the
// number of those that were not kept. A Duration of 0 is a connection that is open.
func (s *Server) Records() ([]Record, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Record, len(s.flows))
	for i, f := range s.flows {
		out[i] = f.snapshot()
	}
	return out, s.more
}
