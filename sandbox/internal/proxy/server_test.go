package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a proxy on loopback, for which every name is this machine and every
// port that of the test's server.
type world struct {
	*Server
	http, socks string

	mu       sync.Mutex
	resolved []string
	dialled  []string
}

func (w *world) seen() (resolved, dialled []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.resolved, w.dialled
}

// serve starts a proxy whose connections all end at origin.
func serve(t testing.TB, origin string, change func(*Config), texts ...string) *world {
	t.Helper()
	w := &world{}
	c := Config{
		Rules: rules(t, texts...), MaxConns: 16, MaxBytes: 1 << 30, IdleTimeout: time.Minute,
		Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.resolved = append(w.resolved, name)
			return []netip.Addr{netip.MustParseAddr("192.0.32.8")}, nil
		},
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			w.mu.Lock()
			w.dialled = append(w.dialled, to.String())
			w.mu.Unlock()
			var d net.Dialer
			return d.DialContext(ctx, "tcp", origin)
		},
	}
	if change != nil {
		change(&c)
	}
	var l [2]net.Listener
	for i := range l {
		var err error
		l[i], err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
	}
	w.Server = Serve(c, l[0], l[1])
	w.http, w.socks = l[0].Addr().String(), l[1].Addr().String()
	t.Cleanup(func() { w.Close(10 * time.Second) })
	return w
}

// records waits until n flows have ended.
func (w *world) records(t testing.TB, n int) []Record {
	t.Helper()
	var got []Record
	require.Eventually(t, func() bool {
		got, _ = w.Records()
		ended := 0
		for _, r := range got {
			if r.Duration > 0 {
				ended++
			}
		}
		return ended >= n
	}, 10*time.Second, time.Millisecond, "%v", got)
	require.Len(t, got, n)
	return got
}

func dial(t testing.TB, to string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", to)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c.(*net.TCPConn)
}

// exchange sends raw bytes to the proxy and returns all that comes back.
func exchange(t testing.TB, to, send string) string {
	t.Helper()
	c := dial(t, to)
	_, err := io.WriteString(c, send)
	require.NoError(t, err)
	_ = c.CloseWrite()
	b, _ := io.ReadAll(c)
	return string(b)
}

// echo is a server that sends back what it gets.
func echo(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// connected is a tunnel to an authority.
func connected(t testing.TB, w *world, authority string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c := dial(t, w.http)
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	in := bufio.NewReader(c)
	head, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 200 Connection established\r\n", head)
	_, _ = in.ReadString('\n')
	return c, in
}

func TestTunnel(t *testing.T) {
	w := serve(t, echo(t), nil, "a.test")
	c, in := connected(t, w, "A.test.:443")
	_, err := io.WriteString(c, "through")
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	b, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, "through", string(b))
	r := w.records(t, 1)[0]
	require.Equal(t, "192.0.32.8", r.Addr.String())
	r.Start, r.Duration, r.Addr = time.Time{}, 0, netip.Addr{}
	require.Equal(t, Record{Via: ViaConnect, Host: "a.test", Port: 443, Allowed: true, Rule: "a.test", Up: 7, Down: 7}, r)
	resolved, dialled := w.seen()
	require.Equal(t, []string{"a.test"}, resolved)
	require.Equal(t, []string{"192.0.32.8:443"}, dialled)
}

func TestRefusedIsNotResolved(t *testing.T) { // 93: no DNS for what is refused
	w := serve(t, echo(t), nil, "a.test")
	require.Contains(t, exchange(t, w.http, "CONNECT secret.evil.test:443 HTTP/1.1\r\nHost: secret.evil.test:443\r\n\r\n"), "403 Forbidden")
	resolved, dialled := w.seen()
	require.Empty(t, resolved)
	require.Empty(t, dialled)
	r := w.records(t, 1)[0]
	require.Equal(t, "secret.evil.test", r.Host)
	require.Equal(t, ReasonRule, r.Reason)
	require.False(t, r.Allowed)
}

func TestRebinding(t *testing.T) { // 95
	answers := map[string][]string{
		"public.test": {"192.0.32.8"}, "loopback.test": {"127.0.0.1"}, "mapped.test": {"::ffff:127.0.0.1"}, "metadata.test": {"169.254.169.254"},
		"private.test": {"10.0.0.1"}, "nat64.test": {"64:ff9b::7f00:1"}, "six.test": {"::1"}, "both.test": {"10.0.0.1", "192.0.32.8"},
		"zone.test": {"fe80::1%lo"}, "none.test": {},
	}
	turn := 0
	w := serve(t, echo(t), func(c *Config) {
		c.Rules.Private = []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}
		c.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "flip.test" { // another answer each time
				turn++
				return []netip.Addr{netip.MustParseAddr([]string{"192.0.32.8", "127.0.0.1"}[(turn-1)%2])}, nil
			}
			var out []netip.Addr
			for _, a := range answers[name] {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		}
	}, "*.test")
	ask := func(name string) string {
		return exchange(t, w.http, fmt.Sprintf("CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\n\r\n", name, name))
	}
	for name := range answers {
		want := "403 Forbidden"
		if name == "public.test" || name == "both.test" {
			want = "200 Connection"
		}
		require.Contains(t, ask(name), want, name)
	}
	require.Contains(t, ask("flip.test"), "200 Connection")
	require.Contains(t, ask("flip.test"), "403 Forbidden", "the check is of the answer that is dialled")
	_, dialled := w.seen()
	for _, d := range dialled {
		require.Equal(t, "192.0.32.8:443", d)
	}
	require.Len(t, dialled, 3)
}

func TestUnreachable(t *testing.T) {
	w := serve(t, "127.0.0.1:1", func(c *Config) {
		resolve := c.Resolve
		c.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			if name == "absent.test" {
				return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
			}
			return resolve(ctx, name)
		}
	}, "*.test")
	out := exchange(t, w.http, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	require.Contains(t, out, "502 Bad Gateway")
	require.Contains(t, out, "lm-sandbox: a.test:443: connection refused\n", "and nothing of the host's addresses")
	require.Contains(t, exchange(t, w.http, "CONNECT absent.test:443 HTTP/1.1\r\nHost: absent.test:443\r\n\r\n"), "502 Bad Gateway")
	r := w.records(t, 2)
	require.Equal(t, "dial tcp 127.0.0.1:1: connect: connection refused", r[0].Reason)
	require.Equal(t, "lookup absent.test: no such host", r[1].Reason)
	require.False(t, r[0].Allowed)
}

func TestHostsResolver(t *testing.T) { // of /etc/hosts, the one name that every host has
	addresses, err := Resolve(t.Context(), "localhost")
	require.NoError(t, err)
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	require.Contains(t, addresses, netip.MustParseAddr("127.0.0.1"))
}

func TestNotify(t *testing.T) {
	var mu sync.Mutex
	var told []Record
	w := serve(t, echo(t), func(c *Config) {
		c.Notify = func(r Record) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, r)
		}
	}, "a.test")
	c, _ := connected(t, w, "a.test:443")
	mu.Lock()
	require.Len(t, told, 1, "before the first byte")
	require.True(t, told[0].Allowed && told[0].Duration == 0)
	mu.Unlock()
	c.Close()
	w.records(t, 1)
	exchange(t, w.http, "CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(told) == 3 }, 10*time.Second, time.Millisecond)
	require.True(t, told[1].Allowed && told[1].Duration > 0)
	require.False(t, told[2].Allowed)
}

func TestRecordsAreBounded(t *testing.T) {
	w := serve(t, echo(t), nil, "a.test")
	for range MaxRecords + 5 {
		w.refuse(ViaHTTP, strings.Repeat("x", 10000), 1, "r")
	}
	records, more := w.Records()
	require.Len(t, records, MaxRecords)
	require.Equal(t, 5, more)
	require.LessOrEqual(t, len(records[0].Host), 300)

	// A connection is not hidden behind them.
	exchange(t, w.http, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	records, more = w.Records()
	require.Len(t, records, MaxRecords)
	require.Equal(t, 6, more)
	require.Equal(t, "a.test", records[MaxRecords-1].Host)
	require.True(t, records[MaxRecords-1].Allowed)
}

func TestCloseDoesNotWaitForHooks(t *testing.T) {
	release := make(chan struct{})
	w := serve(t, echo(t), func(c *Config) {
		c.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
			<-release
			return nil, errors.New("too late")
		}
	}, "a.test")
	c := dial(t, w.http)
	fmt.Fprint(c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	require.Eventually(t, func() bool { r, _ := w.Records(); return len(r) == 1 }, 10*time.Second, time.Millisecond)
	w.Close(10 * time.Millisecond)
	close(release)
	w.Close(10 * time.Second)
}
