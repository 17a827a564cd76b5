package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echoServer is a python program that serves one line of each connection in capitals.
const echoServer = `
import socket, sys, threading
family, address = getattr(socket, sys.argv[1]), sys.argv[2]
s = socket.socket(family)
if address.startswith("@"): s.bind("\0" + address[1:])
elif ":" in address and family != socket.AF_UNIX: s.bind((address.rsplit(":", 1)[0], int(address.rsplit(":", 1)[1])))
else: s.bind(address)
s.listen(int(sys.argv[3]))
def serve(c):
    c.sendall(c.makefile("rb").readline().upper())
    c.close()
while sys.argv[3] != "0":
    threading.Thread(target=serve, args=(s.accept()[0],)).start()
import time; time.sleep(300)
`

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// reached dials until the server is there.
func reached(t *testing.T, dial dialer, network, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	require.Eventually(t, func() (ok bool) {
		var err error
		conn, err = dial(t.Context(), network, address)
		return err == nil
	}, 6*deadline, 10*time.Millisecond, "%s %s", network, address)
	return conn
}

func TestSessionDial(t *testing.T) {
	s := opened(t, Config{Env: map[string]string{"SERVER": echoServer}})
	deep := "/tmp/" + strings.Repeat("deep/", 40)
	do(t, s, `mkdir -p `+deep+`; ln -s /tmp/socket /tmp/link; ln -s /proc/self/root/tmp/socket /tmp/magic
serve() { python3 -c "$SERVER" "$@" & }
serve AF_INET 127.0.0.1:8001 5; serve AF_INET6 ::1:8002 5; serve AF_UNIX /tmp/socket 5; serve AF_UNIX @name 5; serve AF_INET 127.0.0.1:8003 0; serve AF_UNIX @full 0; (cd `+deep+`; serve AF_UNIX s 5)`)
	for _, tc := range []struct{ network, address string }{
		{"tcp", "localhost:8001"}, {"tcp4", "127.0.0.1:8001"}, {"tcp", ":8001"}, {"tcp", "[::ffff:127.0.0.1]:8001"},
		{"tcp", "localhost:8002"}, {"tcp6", "[::1]:8002"}, {"tcp6", "localhost:8002"},
		{"unix", "/tmp/socket"}, {"unix", "/tmp/link"}, {"unix", "@name"}, {"unix", deep + "s"},
	} {
		conn := reached(t, s.Dial, tc.network, tc.address)
		_, err := fmt.Fprintln(conn, "hello")
		require.NoError(t, err)
		b, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, "HELLO\n", string(b), tc.address)
		require.NotNil(t, conn.RemoteAddr(), tc.address)
		require.NoError(t, conn.Close())
	}
	// The host has a server at the same address, which the host itself reaches.
	host, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer host.Close()
	control, err := net.Dial("tcp", host.Addr().String())
	require.NoError(t, err)
	control.Close()
	before := countFiles(t)
	for _, tc := range []struct {
		network, address string
		want             any // an error, or a type of one
	}{
		{"tcp", host.Addr().String(), syscall.ECONNREFUSED},
		{"tcp", "localhost:9", syscall.ECONNREFUSED},
		{"tcp4", "localhost:8002", syscall.ECONNREFUSED},
		{"unix", "/tmp/nobody", syscall.ENOENT},
		{"unix", "/tmp", syscall.ECONNREFUSED},
		{"unix", "/tmp/magic", syscall.ELOOP},
		{"unix", "@nobody", syscall.ECONNREFUSED},
		{"unix", "@" + strings.Repeat("x", 200), syscall.EINVAL},
		{"unix", "/" + strings.Repeat("x", 5000), new(*net.AddrError)},
		{"unix", "relative", new(*net.AddrError)}, {"unix", "", new(*net.AddrError)},
		{"tcp", "169.254.169.254:80", new(*net.AddrError)}, {"tcp", "0.0.0.0:80", new(*net.AddrError)},
		{"tcp", "example.org:80", new(*net.AddrError)}, {"tcp", "[::1%lo]:80", new(*net.AddrError)},
		{"tcp", "localhost:0", new(*net.AddrError)}, {"tcp", "localhost:65536", new(*net.AddrError)},
		{"tcp", "localhost:http", new(*net.AddrError)}, {"tcp", "localhost", new(*net.AddrError)},
		{"tcp4", "[::1]:80", new(*net.AddrError)}, {"tcp6", "127.0.0.1:80", new(*net.AddrError)},
		{"udp", "localhost:80", net.UnknownNetworkError("udp")},
	} {
		_, err := s.Dial(t.Context(), tc.network, tc.address)
		var op *net.OpError
		require.ErrorAs(t, err, &op, tc.address)
		require.Equal(t, "dial", op.Op)
		require.Equal(t, tc.network, op.Net)
		if errno, ok := tc.want.(error); ok {
			require.ErrorIs(t, err, errno, tc.address)
		} else {
			require.ErrorAs(t, err, tc.want, tc.address)
		}
	}
	t.Run("nobody accepts", func(t *testing.T) { // a full backlog drops what comes
		reached(t, s.Dial, "tcp", "localhost:8003").Close()
		var conns []net.Conn
		var err error
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			var conn net.Conn
			conn, err = s.Dial(ctx, "tcp4", "localhost:8003")
			cancel()
			if err != nil {
				break
			}
			conns = append(conns, conn)
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.True(t, op.Timeout())
		for _, c := range conns {
			c.Close()
		}
	})
	t.Run("nobody accepts of a Unix socket", func(t *testing.T) { // listen(2) with 0 has room for one
		defer reached(t, s.Dial, "unix", "@full").Close()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := s.Dial(ctx, "unix", "@full")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("many at once", func(t *testing.T) { // more than the server has room for
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				conn, err := s.Dial(t.Context(), "unix", "/tmp/socket")
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			})
		}
		require.Equal(t, "alive\n", says(t, s, "echo alive"))
		group.Wait()
	})
	require.Eventually(t, func() bool { return countFiles(t) <= before }, patience, time.Millisecond, "no file is left open")
	left := reached(t, s.Dial, "tcp", "localhost:8001")
	defer left.Close()
	require.NoError(t, s.Close())
	_, err = io.ReadAll(left) // what is left of a connection has ended, too
	require.True(t, err == nil || strings.Contains(err.Error(), "reset"), err)
	_, err = s.Dial(t.Context(), "tcp", "localhost:8001")
	require.ErrorIs(t, err, ErrClosed)
}

// A server that Start has started is spoken to as any other, here by net/http.
func TestProcessDial(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/page", []byte("inside"), 0o644))
	p, err := Start(t.Context(), Config{Workspace: dir}, "python3", "-m", "http.server", "8000", "--bind", "127.0.0.1")
	require.NoError(t, err)
	reached(t, p.Dial, "tcp", "localhost:8000").Close()
	transport := &http.Transport{DialContext: p.Dial}
	answer, err := (&http.Client{Transport: transport}).Get("http://localhost:8000/page")
	require.NoError(t, err)
	b, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "inside", string(b))
	require.NoError(t, answer.Body.Close())
	transport.CloseIdleConnections()
	p.Kill()
	_, err = p.Wait()
	require.NoError(t, err)
	_, err = p.Dial(t.Context(), "tcp", "localhost:8000")
	require.ErrorIs(t, err, os.ErrProcessDone)
}
