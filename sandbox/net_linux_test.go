package sandbox

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Class F: the allow-list.

// onLoopback lets the names of the tests resolve to this machine.
func onLoopback(rules ...string) Config {
	return Config{Net: NetAllowList, Allow: AllowList{
		Rules: rules, Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}}
}

func port(a net.Addr) int { return a.(*net.TCPAddr).Port }

// greeter is a server that says hello to a name, and its port.
func greeter(t *testing.T) int {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.Host, ":")
		fmt.Fprintln(w, "hello", name)
	}))
	t.Cleanup(server.Close)
	return port(server.Listener.Addr())
}

func TestAllowList(t *testing.T) {
	p := greeter(t)
	c := onLoopback(fmt.Sprintf("good.test:%d", p))
	ask := fmt.Sprintf("curl -sS http://good.test:%d/; curl -sS http://bad.test:%d/", p, p)
	want := fmt.Sprintf("hello good.test\nlm-sandbox: bad.test:%d: no rule allows it\n", p)
	check := func(t *testing.T, out string, records []NetRecord) {
		t.Helper()
		require.Equal(t, want, out)
		require.Len(t, records, 2)
		good, bad := records[0], records[1]
		require.Equal(t, "127.0.0.1", good.Addr.String())
		require.True(t, good.Up > 0 && good.Down > 0 && good.Duration > 0 && time.Since(good.Start) < time.Minute)
		good.Up, good.Down, good.Duration, good.Start, good.Addr = 0, 0, 0, time.Time{}, netip.Addr{}
		require.Equal(t, NetRecord{Via: "http", Host: "good.test", Port: uint16(p), Allowed: true, Rule: c.Allow.Rules[0]}, good)
		require.Equal(t, "bad.test", bad.Host)
		require.False(t, bad.Allowed)
	}
	t.Run("Run", func(t *testing.T) {
		r := run(t, c, ask)
		check(t, string(r.Stdout), r.Net)
		require.False(t, r.NetTruncated)
	})
	t.Run("Start", func(t *testing.T) {
		process, err := Start(background(t), c, "bash", "-c", ask)
		require.NoError(t, err)
		r, err := process.Wait()
		require.NoError(t, err)
		check(t, string(r.Stdout), r.Net)
	})
	t.Run("Session", func(t *testing.T) {
		s, err := NewSession(background(t), c)
		require.NoError(t, err)
		defer s.Close()
		require.Empty(t, s.Net())
		r, err := s.Exec(t.Context(), ask)
		require.NoError(t, err)
		check(t, string(r.Stdout), s.Net())
		require.NoError(t, s.Close())
		require.Len(t, s.Net(), 2)
	})
	t.Run("Pool", func(t *testing.T) {
		pool, err := NewPool(c, 1)
		require.NoError(t, err)
		defer pool.Close()
		for range 2 { // what one has asked for is not told to the next
			r, err := pool.Run(t.Context(), Lease{}, ask)
			require.NoError(t, err)
			check(t, string(r.Stdout), r.Net)
		}
	})
}

// Real clients, by name and TLS.
func TestClients(t *testing.T) {
	files := t.TempDir()
	git := exec.Command("bash", "-ec", `git init -q -b main work; cd work; git config user.name a; git config user.email a@example.com
		echo one >f; git add f; git commit -qm first; cd ..; git clone -q --bare work repo.git; cd repo.git; git update-server-info`)
	git.Dir = files
	out, err := git.CombinedOutput()
	require.NoError(t, err, "%s", out)
	plain, secure := httptest.NewServer(http.FileServer(http.Dir(files))), httptest.NewTLSServer(http.FileServer(http.Dir(files)))
	defer plain.Close()
	defer secure.Close()
	require.NoError(t, os.WriteFile(filepath.Join(files, "file"), []byte("content"), 0o644))
	ws := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	require.NoError(t, os.WriteFile(filepath.Join(ws, "ca.pem"), ca, 0o644))
	require.NoError(t, os.Chmod(ws, 0o755))

	// The certificate of net/http/httptest is for example.com.
	c := onLoopback(fmt.Sprintf("example.com:%d", port(plain.Listener.Addr())), fmt.Sprintf("example.com:%d", port(secure.Listener.Addr())))
	c.Workspace = ws
	c.Env = map[string]string{
		"P": fmt.Sprintf("http://example.com:%d", port(plain.Listener.Addr())), "S": fmt.Sprintf("https://example.com:%d", port(secure.Listener.Addr())),
		"SSL_CERT_FILE": "/workspace/ca.pem", "GIT_SSL_CAINFO": "/workspace/ca.pem", "NODE_EXTRA_CA_CERTS": "/workspace/ca.pem",
	}
	c.Allow.VerifySNI = true // also of them all
	for name, row := range map[string]struct{ command, want string }{
		"curl":             {"curl -sS $P/file; curl -sS --cacert ca.pem $S/file", "contentcontent"},
		"curl by SOCKS":    {"curl -sS --noproxy '' --cacert ca.pem -x socks5h://127.0.0.1:1080 $S/file", "content"},
		"curl's two forms": {"curl -sS --noproxy '' --cacert ca.pem -p -x http://127.0.0.1:3128 $S/file", "content"},
		"wget":             {"wget -qO- $P/file; wget -qO- --ca-certificate=ca.pem $S/file", "contentcontent"},
		"python": {`python3 -c 'import os,urllib.request as u
for v in "PS": print(u.urlopen(os.environ[v] + "/file").read().decode(), end="")'`, "contentcontent"},
		"git":         {"git clone -q $P/repo.git a && git clone -q $S/repo.git b && cat a/f b/f", "one\none\n"},
		"bare socket": {`exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET %s/file HTTP/1.0\r\n\r\n' $P >&3; tail -c 7 <&3`, "content"},
	} {
		t.Run(name, func(t *testing.T) {
			if tool, _, _ := strings.Cut(row.command, " "); tool == "wget" {
				if _, err := exec.LookPath(tool); err != nil {
					return // the images of a build need not have it
				}
			}
			r := run(t, c, "rm -rf a b; "+row.command)
			require.Equal(t, row.want, string(r.Stdout), "%s", r.Stderr)
			for _, n := range r.Net {
				require.True(t, n.Allowed, "%+v", n)
			}
		})
	}
}

// There is no way beside the proxy. Each row has a listener of the host to reach.
func TestNoWayAround(t *testing.T) { // 93
	p := greeter(t)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	c := onLoopback(fmt.Sprintf("good.test:%d", p))
	r := run(t, c, fmt.Sprintf("curl -sS http://good.test:%d/", p))
	require.Equal(t, "hello good.test\n", string(r.Stdout), "the control")
	u := udp.LocalAddr().(*net.UDPAddr).Port
	for name, row := range map[string]struct {
		command string
		asks    int // of the proxy
	}{
		"its address":             {fmt.Sprintf("curl -sS -m 20 http://127.0.0.1:%d/", p), 0},
		"its address, by proxy":   {fmt.Sprintf("curl -fsS --noproxy '' -x http://127.0.0.1:3128 http://127.0.0.1:%d/", p), 1},
		"its address, by CONNECT": {fmt.Sprintf("curl -fsS --noproxy '' -p -x http://127.0.0.1:3128 http://127.0.0.1:%d/", p), 1},
		"its address, by SOCKS":   {fmt.Sprintf("curl -fsS --noproxy '' -x socks5h://127.0.0.1:1080 http://127.0.0.1:%d/", p), 1},
		"without variables":       {fmt.Sprintf("unset ${!http*} ${!HTTP*} ${!ALL*} ${!all*}; curl -sS -m 20 http://good.test:%d/", p), 0},
		"names by SOCKS4 style":   {fmt.Sprintf("curl -sS --noproxy '' -x socks4a://127.0.0.1:1080 http://good.test:%d/", p), 1},
		"names of the client":     {fmt.Sprintf("curl -sS --noproxy '' -x socks5://127.0.0.1:1080 http://good.test:%d/", p), 0},
		"a public address":        {"</dev/tcp/1.1.1.1/443", 0},
		"DNS":                     {"getent hosts good.test", 0},
		"QUIC":                    {fmt.Sprintf("echo x >/dev/udp/1.1.1.1/%d", u), 0},
		"UDP by SOCKS":            {`exec 3<>/dev/tcp/127.0.0.1/1080; printf '\5\1\0\5\3\0\1\0\0\0\0\0\0' >&3; head -c 4 <&3 | od -An -tx1 | grep -q '05 00 05 00'`, 1},
		"metadata":                {"curl -fsS --noproxy '' -x http://127.0.0.1:3128 http://169.254.169.254/", 1},
		"its own loopback":        {"curl -fsS --noproxy '' -x http://127.0.0.1:3128 http://127.0.0.1:3128/", 1},
		"a chain":                 {fmt.Sprintf("curl -fsS --noproxy '' --preproxy socks5h://127.0.0.1:1080 -x http://127.0.0.1:3128 http://good.test:%d/", p), 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c, row.command)
			require.NotEqual(t, 0, r.ExitCode, "%s", r.Stdout)
			require.NotContains(t, string(r.Stdout), "hello")
			require.Less(t, r.Duration, deadline)
			require.Len(t, r.Net, row.asks)
			for _, n := range r.Net {
				require.False(t, n.Allowed)
			}
		})
	}
	r = run(t, c, "cat /proc/net/route /proc/net/ipv6_route | grep -vw lo; ls /sys/class/net 2>/dev/null; cat /etc/resolv.conf")
	require.Equal(t, "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT", strings.TrimSpace(string(r.Stdout)))
}

// The listening sockets are in nobody's hands inside.
func TestProxyPorts(t *testing.T) {
	p := greeter(t)
	c := onLoopback(fmt.Sprintf("good.test:%d", p))
	r := run(t, c, fmt.Sprintf(`python3 - <<'END'
import errno, glob, os, socket
for port in 3128, 1080:
    for option in None, socket.SO_REUSEADDR, socket.SO_REUSEPORT:
        for address in "127.0.0.1", "0.0.0.0":
            s = socket.socket()
            if option: s.setsockopt(socket.SOL_SOCKET, option, 1)
            try: s.bind((address, port)); s.listen(); print("bound", port, option, address)
            except OSError as e: assert e.errno == errno.EADDRINUSE, e
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(); print("the control bound")
own = 0
for f in glob.glob("/proc/[0-9]*/fd/*"):
    try: own += os.readlink(f).startswith("socket:")
    except OSError: pass
print(own, "socket")
try: os.listdir("/proc/1/fd"); print("pid 1 is open")
except PermissionError: pass
END
kill -9 1; kill -STOP 1; curl -sS http://good.test:%d/`, p))
	require.Equal(t, "the control bound\n1 socket\nhello good.test\n", string(r.Stdout), "%s", r.Stderr)
}

// The ports of one sandbox are not those of another, nor of the host.
func TestProxyIsOfOneSandbox(t *testing.T) {
	p := greeter(t)
	c := onLoopback(fmt.Sprintf("good.test:%d", p))
	ready := await("ready")
	c.Stdout = ready
	process, err := Start(background(t), c, "bash", "-c", "echo ready; sleep 300")
	require.NoError(t, err)
	defer process.Kill()
	<-ready.found
	ask := fmt.Sprintf("curl -sS --noproxy '' -x http://127.0.0.1:3128 http://good.test:%d/", p)
	other := run(t, Config{}, ask)
	require.NotEqual(t, 0, other.ExitCode)
	strict := onLoopback("other.test")
	require.NotContains(t, string(run(t, strict, ask).Stdout), "hello")
	out, _ := exec.Command("bash", "-c", ask).Output()
	require.NotContains(t, string(out), "hello", "from the host")
	process.Kill()
	r, err := process.Wait()
	require.NoError(t, err)
	require.Empty(t, r.Net)
}

func TestProxyEnvironment(t *testing.T) {
	c := onLoopback()
	c.Env = map[string]string{"NO_PROXY": "*.corp.test"}
	r := run(t, c, "env | grep -i _proxy | sort")
	require.Equal(t, `ALL_PROXY=http://127.0.0.1:3128
HTTPS_PROXY=http://127.0.0.1:3128
HTTP_PROXY=http://127.0.0.1:3128
NODE_USE_ENV_PROXY=1
NO_PROXY=*.corp.test
all_proxy=http://127.0.0.1:3128
http_proxy=http://127.0.0.1:3128
https_proxy=http://127.0.0.1:3128
no_proxy=localhost,127.0.0.1,::1
`, string(r.Stdout))
	require.Empty(t, string(run(t, Config{}, "env | grep -i proxy").Stdout))
	// A server inside is reached without the proxy.
	r = run(t, onLoopback(), `python3 -m http.server 8000 --bind 127.0.0.1 >/dev/null 2>&1 & until curl -fsS http://localhost:8000/ >/dev/null; do :; done 2>/dev/null; echo served`)
	require.Equal(t, "served\n", string(r.Stdout))
	require.Empty(t, r.Net)
}

// 99: a command with thousands of connections holds up itself.
func TestManyConnections(t *testing.T) {
	p := greeter(t)
	c := onLoopback(fmt.Sprintf("good.test:%d", p))
	c.Allow.MaxConns, c.Allow.IdleTimeout, c.Limits.Wall = 8, 100*time.Millisecond, 5*time.Minute
	before := len(descriptors(t))
	most := 0
	var group sync.WaitGroup
	done := make(chan struct{})
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				most = max(most, len(descriptors(t)))
			}
		}
	})
	r := run(t, c, fmt.Sprintf(`python3 - <<'END'
import socket
n = 0
for turn in range(10):
    held = []
    for i in range(1000):
        s = socket.socket(); s.setblocking(False)
        s.connect_ex(("127.0.0.1", 3128 if i %% 2 else 1080)); held.append(s); n += 1
        try: s.send(b"G")
        except OSError: pass
    for s in held: s.close()
print(n)
END
curl -sS --retry 100 --retry-delay 1 --retry-all-errors http://good.test:%d/`, p))
	close(done)
	group.Wait()
	require.Equal(t, "10000\nhello good.test\n", string(r.Stdout), "%s", r.Stderr)
	require.Less(t, most, before+100, "files of the host")
	swept(t)
}

func descriptors(t *testing.T) []string {
	files, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	return files
}

// The end of the sandbox is the end of its connections, whatever they are doing.
func TestTransfersEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	ended := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { c.Close(); ended <- struct{}{} }()
				b := []byte("HTTP/1.0 200 OK\r\n\r\n") // without which curl looks for the end of a line
				for {
					if _, err := c.Write(b); err != nil {
						return
					}
					b = make([]byte, 1<<16)
				}
			}()
		}
	}()
	c := onLoopback(fmt.Sprintf("good.test:%d", port(l.Addr())))
	run(t, Config{}, "true") // opens what all sandboxes share
	swept(t)
	before := len(descriptors(t))
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		c.Allow.Notify = func(NetRecord) { time.AfterFunc(10*time.Millisecond, cancel) }
		begin := time.Now()
		r, err := Run(ctx, c, fmt.Sprintf("curl -sS -o /dev/null --noproxy '' -p -x http://127.0.0.1:3128 http://good.test:%d/", port(l.Addr())))
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, time.Since(begin), deadline)
		require.Len(t, r.Net, 1)
		require.NotZero(t, r.Net[0].Duration, "it has ended")
		<-ended
	}
	swept(t)
	require.Equal(t, before, len(descriptors(t)))
}

func TestAllowListIsChecked(t *testing.T) {
	for field, c := range map[string]Config{
		"Net":               {Net: 7},
		"Allow":             {Allow: AllowList{Rules: []string{"a.test"}}},
		"Allow.Rules[1]":    {Net: NetAllowList, Allow: AllowList{Rules: []string{"a.test", "https://a.test"}}},
		"Allow.Private[0]":  {Net: NetAllowList, Allow: AllowList{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}}},
		"Allow.MaxConns":    {Net: NetAllowList, Allow: AllowList{MaxConns: -1}},
		"Allow.MaxBytes":    {Net: NetAllowList, Allow: AllowList{MaxBytes: -1, IdleTimeout: -1}}, // the first in their order
		"Allow.IdleTimeout": {Net: NetAllowList, Allow: AllowList{IdleTimeout: -1}},
	} {
		_, err := Run(t.Context(), c, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config, field)
		require.Equal(t, field, config.Field)
	}
}
