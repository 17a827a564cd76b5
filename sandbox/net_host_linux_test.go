package sandbox

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostNetwork(t *testing.T) {
	p := greeter(t)
	c := Config{Net: NetHost}
	r := run(t, c, fmt.Sprintf("curl -sS http://127.0.0.1:%d/; readlink /proc/self/ns/net", p))
	host, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	require.Equal(t, "hello 127.0.0.1\n"+host+"\n", string(r.Stdout), "%s", r.Stderr)
	require.Contains(t, strings.Join(r.Lacks, "\n"), "network namespace: ")
	require.Equal(t, r.Lacks, opened(t, c).Lacks())
	require.Empty(t, r.Net)
	require.NotContains(t, strings.Join(run(t, Config{}, "true").Lacks, "\n"), "network", "the control")

	for _, name := range []string{"resolv.conf", "hosts"} {
		want, err := os.ReadFile("/etc/" + name)
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		r := run(t, c, "cat /etc/"+name)
		require.True(t, strings.HasSuffix(string(r.Stdout), string(want)), "%s", r.Stdout)
	}
	require.Contains(t, string(run(t, c, "getent hosts sandbox").Stdout), "127.0.0.1")
}

// The network is the host's, and nothing else is.
func TestHostNetworkGivesNoMore(t *testing.T) { // 92
	c := Config{Net: NetHost}
	for probe, want := range map[string]string{
		"socket vsock": "EAFNOSUPPORT", "socket alg": "EAFNOSUPPORT", "socket packet": "EAFNOSUPPORT", "socket netlink-audit": "EAFNOSUPPORT",
		"socket raw": "EPERM", "socket inet": "ok", "clone-user-net": "EPERM", "setns": "EPERM",
	} {
		require.Equal(t, want, inside(t, c, probe), probe)
	}
	r := run(t, c, "echo 1 >/proc/sys/net/ipv4/ip_forward")
	require.NotEqual(t, 0, r.ExitCode)

	// Abstract sockets are of the network namespace, and the host's is this one.
	name := fmt.Sprintf("lm-sandbox-test-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	require.NoError(t, err)
	defer l.Close()
	control, err := net.Dial("unix", "@"+name)
	require.NoError(t, err, "the control")
	require.NoError(t, control.Close())
	r = run(t, c, fmt.Sprintf(`python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("\0%s")'`, name))
	if strings.Contains(strings.Join(r.Lacks, "\n"), "abstract Unix sockets") {
		require.Equal(t, 0, r.ExitCode, "as Lacks says")
	} else {
		require.Contains(t, string(r.Stderr), "PermissionError")
	}
}
