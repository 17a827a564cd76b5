package sandbox

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// loopback lets names of the tests resolve to this machine.
func loopback(rules ...string) AllowList {
	return AllowList{
		Rules: rules, Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}
}

// port of a server of the tests.
func port(l net.Addr) int { return l.(*net.TCPAddr).Port }

func TestAllowList(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello "+r.Host) }))
	defer server.Close()
	p := port(server.Listener.Addr())
	c := Config{Net: NetAllowList, Allow: loopback(fmt.Sprintf("good.test:%d", p))}
	r := run(t, c, fmt.Sprintf("curl -sS http://good.test:%d/; curl -sS http://bad.test:%d/", p, p))
	require.Equal(t, fmt.Sprintf("hello good.test:%dlm-sandbox: bad.test:%d: no rule allows it\n", p, p), string(r.Stdout), "%s", r.Stderr)
	require.Len(t, r.Net, 2)
}
