package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

const (
	resolveTimeout = 15 * time.Second
	dialTimeout    = 10 * time.Second // of each address
	maxAddresses   = 8
)

// denied is a decision; other errors are failures to reach what is allowed.
type denied string

func (d denied) Error() string { return string(d) }

// public is what the client may know of an error: it would tell of the host's own
// addresses and of its network.
func public(err error) string {
	var no denied
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &no):
		return string(no)
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return "no connection; the record of the caller says why"
}

// ReasonRule is the commonest reason.
const ReasonRule = "no rule allows it"

// connect decides, and connects to what is allowed. The flow tells of both; it
// is the caller's to end.
func (s *Server) connect(f *flow, d Dest) (*meter, error) {
	c, a, rule, err := s.dial(f, d)
	if err != nil {
		f.because(err.Error())
		return nil, err
	}
	f.allowed(rule, a)
	return &meter{c, f}, nil
}

func (s *Server) dial(f *flow, d Dest) (net.Conn, netip.Addr, string, error) {
	none := netip.Addr{}
	rule, ok := s.Rules.match(d)
	if !ok {
		return nil, none, "", denied(ReasonRule)
	}
	if s.bytes.Load() >= s.MaxBytes {
		return nil, none, "", denied(reasonBytes)
	}
	addresses, err := s.addresses(f, d)
	if err != nil {
		return nil, none, "", err
	}
	for _, a := range addresses {
		var c net.Conn
		if c, err = s.dialOne(netip.AddrPortFrom(a, d.Port)); err == nil {
			return c, a, rule, nil
		}
		if s.ctx.Err() != nil {
			break
		}
	}
	f.mu.Lock()
	f.record.Rule = rule
	f.mu.Unlock()
	return nil, none, "", err
}

func (s *Server) dialOne(to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	return s.Dial(ctx, to)
}

// addresses are those of d that may be dialled. A name is resolved here, once,
// and only if a rule allows it.
func (s *Server) addresses(f *flow, d Dest) ([]netip.Addr, error) {
	if d.Name == "" {
		return []netip.Addr{d.Addr}, nil // its rule names it
	}
	ctx, cancel := context.WithTimeout(s.ctx, resolveTimeout)
	defer cancel()
	found, err := s.Resolve(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	var good []netip.Addr
	reason := "the name has no address"
	for _, a := range found {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" {
			continue
		}
		if why := s.Rules.refuses(a, d.Port); why != "" {
			reason = why
			f.at(a)
			continue
		}
		good = append(good, a)
	}
	if len(good) == 0 {
		return nil, denied(reason)
	}
	return good[:min(len(good), maxAddresses)], nil
}

// Resolve asks the host's resolver. A name with a dot is looked up as it is, without
// the host's search domains; one without is the host's own affair, as localhost is.
func Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if strings.Contains(name, ".") {
		name += "."
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// Dial connects from the host.
func Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}
