package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	addresses, err := s.addresses(d)
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
	return nil, none, "", fmt.Errorf("connect: %w", plain(err))
}

func (s *Server) dialOne(to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	return s.Dial(ctx, to)
}

// plain is an error without the addresses that net puts into it.
func plain(err error) error {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &errno):
		return errno
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timeout")
	}
	return err
}

// addresses are those of d that may be dialled. A name is resolved here, once,
// and only if a rule allows it.
func (s *Server) addresses(d Dest) ([]netip.Addr, error) {
	if d.Name == "" {
		return []netip.Addr{d.Addr}, nil // its rule names it
	}
	ctx, cancel := context.WithTimeout(s.ctx, resolveTimeout)
	defer cancel()
	found, err := s.Resolve(ctx, d.Name)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", plainDNS(err))
	}
	var good []netip.Addr
	reason := "resolve: no address"
	for _, a := range found {
		a = a.Unmap()
		if !a.IsValid() || a.Zone() != "" {
			continue
		}
		if why := s.Rules.refuses(a, d.Port); why != "" {
			reason = why
			continue
		}
		good = append(good, a)
	}
	if len(good) == 0 {
		return nil, denied(reason)
	}
	return good[:min(len(good), maxAddresses)], nil
}

func plainDNS(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return errors.New(dns.Err)
	}
	return plain(err)
}

// Resolve asks the host's resolver, for the name as it is: no search domains.
func Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name+".")
}

// Dial connects from the host.
func Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}
