package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// onlyTo are hooks that fail the test for any other destination than its rules name.
func onlyTo(t *testing.T) (func(context.Context, string) ([]netip.Addr, error), func(context.Context, netip.AddrPort) (net.Conn, error)) {
	public := netip.MustParseAddr("192.0.32.8")
	resolve := func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != "a.test" {
			t.Errorf("%q is resolved", name)
		}
		return []netip.Addr{public, netip.MustParseAddr("127.0.0.1")}, nil
	}
	dial := func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
		switch to.String() {
		case "192.0.32.8:80", "192.0.32.8:443", "8.8.8.8:53":
		default:
			t.Errorf("%v is dialled", to)
		}
		return nil, errors.New("not in this test")
	}
	return resolve, dial
}

func TestMaxConns(t *testing.T) { // 99
	w := serve(t, echo(t), func(c *Config) { c.MaxConns = 2 }, "a.test")
	first, _ := connected(t, w, "a.test:443")
	connected(t, w, "a.test:443")
	third := dial(t, w.http)
	fmt.Fprint(third, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	require.NoError(t, third.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err := third.Read(make([]byte, 1))
	require.Error(t, err, "it waits")
	first.Close()
	require.NoError(t, third.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = third.Read(make([]byte, 1))
	require.NoError(t, err)
}

// 99: connections that say nothing, or little, make room again.
func TestSlowClients(t *testing.T) {
	w := serve(t, echo(t), func(c *Config) { c.MaxConns, c.IdleTimeout = 4, time.Second }, "a.test")
	var slow []net.Conn
	for range 8 {
		slow = append(slow, dial(t, w.http), dial(t, w.socks))
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { // a byte of a header now and then
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			for _, c := range slow {
				_, _ = c.Write([]byte("GET http://a.test/ HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")[i%50 : i%50+1])
			}
		}
	})
	c, in := connected(t, w, "a.test:443")
	close(stop)
	group.Wait()
	fmt.Fprint(c, "x")
	b, err := in.ReadByte()
	require.NoError(t, err)
	require.EqualValues(t, 'x', b)
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "an idle tunnel ends")
	records, _ := w.Records()
	found := false
	for _, r := range records {
		found = found || r.Reason == "idle for 1s" && r.Allowed && r.Up == 1 && r.Down == 1
	}
	require.True(t, found, "%v", records)
}

// A client that reads nothing does not hold its place for ever.
func TestDeafClient(t *testing.T) { // 99
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, endless{}); c.Close() }()
		}
	}()
	w := serve(t, l.Addr().String(), func(c *Config) { c.IdleTimeout = time.Second }, "a.test")
	connected(t, w, "a.test:443")
	r := w.records(t, 1)[0]
	require.Equal(t, "idle for 1s", r.Reason)
	require.Greater(t, r.Down, int64(1<<16))
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestMaxBytes(t *testing.T) { // 99: a giant upload
	for name, send := range map[string]string{
		"tunnel": "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
		"body":   "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000000000\r\n\r\n",
		"chunks": "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n", 1<<40),
	} {
		t.Run(name, func(t *testing.T) {
			sink, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer sink.Close()
			go func() {
				for {
					c, err := sink.Accept()
					if err != nil {
						return
					}
					go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
				}
			}()
			const limit = 10 << 20
			w := serve(t, sink.Addr().String(), func(c *Config) { c.MaxBytes = limit }, "a.test")
			c := dial(t, w.http)
			_, err = io.WriteString(c, send)
			require.NoError(t, err)
			n, err := io.Copy(c, io.LimitReader(endless{}, 1<<40))
			require.Error(t, err)
			require.Less(t, n, int64(limit+16<<20), "what the kernel buffers is beyond")
			r := w.records(t, 1)[0]
			require.Equal(t, reasonBytes, r.Reason)
			require.InDelta(t, limit, r.Up, 1<<20)
			require.Contains(t, exchange(t, w.http, "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n"), "403 Forbidden")
		})
	}
}

func TestManyConnections(t *testing.T) { // 99
	w := serve(t, echo(t), nil, "a.test")
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			for range 20 {
				out := exchange(t, w.http, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nhello")
				if !strings.HasSuffix(out, "\r\n\r\nhello") {
					t.Errorf("%q", out)
				}
			}
		})
	}
	group.Wait()
	w.records(t, 1000)
}

func TestVerifySNI(t *testing.T) { // 96
	s := httptest.NewUnstartedServer(nil)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	at := s.Listener.Addr().String()
	w := serve(t, at, func(c *Config) { c.VerifySNI = true }, "a.test", "8.8.8.8")
	plain := serve(t, at, nil, "a.test")
	handshake := func(w *world, authority, name string) error {
		c, _ := connected(t, w, authority)
		defer c.Close()
		tc := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}) //nolint:gosec // the test's own server
		return tc.HandshakeContext(t.Context())
	}
	require.NoError(t, handshake(plain, "a.test:443", "evil.test"), "the control: fronting is not seen")
	require.NoError(t, handshake(w, "a.test:443", "a.test"))
	require.NoError(t, handshake(w, "A.TEST.:443", "a.test"))
	require.NoError(t, handshake(w, "8.8.8.8:443", ""))
	require.Error(t, handshake(w, "a.test:443", "evil.test"))
	require.Error(t, handshake(w, "a.test:443", ""))
	require.Error(t, handshake(w, "8.8.8.8:443", "a.test"))
	for _, first := range []string{"SSH-2.0-x\r\n", "GET / HTTP/1.1\r\n\r\n", "", "\x16\x03\x01\xff\xff" + strings.Repeat("x", 70000)} {
		c, in := connected(t, w, "a.test:443")
		_, _ = io.WriteString(c, first)
		_ = c.CloseWrite()
		b, _ := io.ReadAll(in)
		require.Empty(t, b)
	}
	r := w.records(t, 10)
	require.Equal(t, `the TLS handshake names "evil.test"`, r[3].Reason)
	require.Zero(t, r[3].Up, "not a byte of it reached the host")
	require.Equal(t, `no TLS handshake, which VerifySNI demands`, r[6].Reason)
}
