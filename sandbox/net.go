package sandbox

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proxy"
)

// Net is how much of a network the sandbox has.
type Net int

const (
	// NetNone is a network of its own that has only a loopback.
	NetNone Net = iota
	// NetAllowList is the same, with a proxy of this process on it that connects to
	// what [Config.Allow] names. There is no other way out: no route, no DNS, no UDP.
	//
	// The proxy listens inside on 127.0.0.1:3128 (HTTP with CONNECT) and
	// 127.0.0.1:1080 (SOCKS5, names resolved by the proxy: socks5h). HTTP_PROXY,
	// HTTPS_PROXY, ALL_PROXY and NO_PROXY say so, in both cases; Config.Env can
	// change them. Programs that heed none of them have no network.
	NetAllowList
	// NetHost is the host's own network, with nothing between: the command reaches
	// whatever this process could, services on the host's loopback and cloud
	// metadata among them, can listen on the host's addresses, and sees its
	// interfaces and connections. Abstract Unix sockets of the host are reachable
	// where the kernel's Landlock has no scopes (before Linux 6.12). It has copies
	// of the host's /etc/resolv.conf and /etc/hosts. Neither capabilities nor other
	// families of sockets come with it.
	NetHost
)

// AllowList is what a sandbox with [NetAllowList] can reach. Its zero value is
// nothing. docs/network.md has the whole of the rules.
type AllowList struct {
	// Rules name hosts and ports:
	//
	//	example.com           this name, ports 80 and 443
	//	example.com:8443      one port; :* for all
	//	*.example.com         names below it, at any depth, and not it
	//	*                     any name, at public addresses only
	//	192.0.32.8            an address, asked for as one
	//	10.1.0.0/16:5432      addresses
	//	[2001:4860::/32]:443  IPv6 with a port; without one, brackets are optional
	//
	// Names are compared without regard to case and a dot at the end; letters
	// other than ASCII are taken in their registered form (xn--). A rule with a name is
	// not about its addresses, nor the other way round. An address that is not
	// public (private, loopback, link-local, cloud metadata, CGNAT, NAT64…) is
	// allowed only by a prefix that is no wider than its range: 10.0.0.0/8 is about
	// 10.1.2.3, 0.0.0.0/0 is not.
	Rules []string
	// Private are addresses that are not public to which the names of Rules may
	// resolve all the same. Without it such an answer of DNS is refused, unless a rule
	// names the address itself.
	Private []netip.Prefix
	// MaxConns bounds connections at once; more wait. Default 64.
	MaxConns int
	// MaxBytes bounds what goes up and down, together, in the life of the sandbox;
	// then every connection ends and none is made. Default 1 GiB.
	MaxBytes int64
	// IdleTimeout ends a connection on which no byte has passed. Default 5 min.
	IdleTimeout time.Duration
	// VerifySNI demands that a tunnel (CONNECT, SOCKS5) begins with a TLS
	// handshake that names the host of the tunnel. It closes plain protocols (ssh),
	// and a tunnel to an allowed host that asks another name of it (domain
	// fronting) as far as that can be seen from outside of TLS.
	VerifySNI bool
	// Resolve finds the addresses of a name that a rule allows, once for each
	// connection; nil is the host's resolver, for names with a dot without its
	// search domains. The ranges are checked whatever it says. It must return when
	// ctx ends.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// Dial connects to an address that was allowed; nil is by TCP from the host.
	// It must return when ctx ends.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Notify is told of each decision, and again of each connection that was
	// allowed when it has ended (its Duration is then not 0). It is called from
	// many goroutines, and holds up the connection that it is told of.
	Notify func(NetRecord)
}

// NetRecord is one decision of the proxy and the connection that followed. Each
// request of HTTP without TLS has its own.
type NetRecord struct {
	Start    time.Time
	Duration time.Duration // 0 while the connection is open
	Via      string        // "http", "connect" or "socks5"
	Host     string        // the name or address that was asked for; "" if that could not be read
	Port     uint16
	Addr     netip.Addr // that it was connected to, or that was refused
	Allowed  bool       // and connected
	Rule     string     // of AllowList.Rules, that allowed it
	Reason   string     // why it was refused, could not be connected, or was ended here
	Up, Down int64      // bytes to and from the host, without those of TCP
}

// The defaults of [AllowList].
const (
	DefaultMaxConns    = 64
	DefaultMaxBytes    = 1 << 30
	DefaultIdleTimeout = 5 * time.Minute
)

// MaxNetRecords is how many records a Result, or a Session, keeps: the first, and later
// ones that were allowed in place of refused ones.
const MaxNetRecords = proxy.MaxRecords // 1000
