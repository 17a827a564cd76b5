package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Class F: the network.

func TestNoNetwork(t *testing.T) { // 90, 91
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err, "the control")
	require.NoError(t, c.Close())

	for name, command := range map[string]string{
		"the host's loopback": fmt.Sprintf("</dev/tcp/127.0.0.1/%d", port),
		"an address":          "</dev/tcp/1.1.1.1/80",
		"datagram":            "echo x >/dev/udp/1.1.1.1/53",
		"metadata":            "</dev/tcp/169.254.169.254/80",
		"IPv6":                "</dev/tcp/::1/80",
		"a name":              "getent hosts example.com",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, Config{}, command)
			require.NotEqual(t, 0, r.ExitCode)
			require.Less(t, r.Duration, deadline, "it fails at once")
		})
	}
	require.Equal(t, "ok", inside(t, Config{}, "loopback"), "its own loopback works")
	r := run(t, Config{}, "tail -n +3 /proc/net/dev | cut -d: -f1; wc -l < /proc/net/route")
	require.Equal(t, "    lo\n1\n", string(r.Stdout))
}

// 90: the tools give up at once. That they work is shown outside, on a server of the host.
func TestNoNetworkForTools(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer server.Close()
	for _, command := range []string{
		"curl -sS -m 20 %s", "wget -qO- -t 1 -T 20 %s", "git ls-remote %s/x", "node -e 'fetch(process.argv[1])' %s",
		"python3 -c 'import sys,urllib.request as u; u.urlopen(sys.argv[1])' %s", "ssh -o ConnectTimeout=20 -p ${X##*:} 127.0.0.1 true",
	} {
		tool, _, _ := strings.Cut(command, " ")
		t.Run(tool, func(t *testing.T) {
			text := "X=" + server.URL + "; " + strings.ReplaceAll(command, "%s", server.URL)
			if tool != "git" && tool != "ssh" { // whom this server is none for
				out, err := exec.Command("bash", "-c", text).CombinedOutput()
				require.NoError(t, err, "the control: %s", out)
			}
			r := run(t, Config{}, text)
			require.NotEqual(t, 0, r.ExitCode)
			require.NotEqual(t, 127, r.ExitCode, "%s", r.Stderr)
			require.Less(t, r.Duration, deadline, "it fails at once")
		})
	}
}

func TestSocketFamilies(t *testing.T) { // 92
	attempt(t, []attack{
		{92, "socket vsock", "EAFNOSUPPORT", nowhere, ""},
		{92, "socket alg", "EAFNOSUPPORT", nowhere, ""},
		{92, "socket packet", "EAFNOSUPPORT", onHostAsRoot, "ok"},
		{92, "socket netlink-audit", "EAFNOSUPPORT", onHost, "ok"},
		{92, "socket udplite", "EPROTONOSUPPORT", nowhere, ""},
		{92, "socket mptcp", "EPROTONOSUPPORT", nowhere, ""},
		{92, "socketpair tipc", "EAFNOSUPPORT", nowhere, ""},
		{92, "socketpair inet", "EAFNOSUPPORT", onHost, "ENOTSUP"},
		{92, "socket raw", "EPERM", onHostAsRoot, "ok"},
	})
	for _, family := range []string{"inet", "unix", "netlink-route"} {
		require.Equal(t, "ok", inside(t, Config{}, "socket "+family))
	}
	require.Equal(t, "ok", inside(t, Config{}, "socketpair unix"))
}
