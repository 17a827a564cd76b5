// Command allow gives a command a network of one host, and shows what was asked of it.
//
//	go run ./examples/allow
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"

	"github.com/lm-sandbox/lm-sandbox/sandbox"
)

func main() {
	if err := demonstrate(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "allow:", err)
		os.Exit(1)
	}
}

func demonstrate(ctx context.Context) error {
	// A server of this process stands for one of the Internet; that it is not at a
	// public address has to be allowed too.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "an answer") // the client may be gone
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	at := netip.MustParseAddrPort(address)

	config := sandbox.Config{
		Net: sandbox.NetAllowList,
		Allow: sandbox.AllowList{
			Rules:   []string{fmt.Sprintf("api.example:%d", at.Port())},
			Private: []netip.Prefix{netip.PrefixFrom(at.Addr(), at.Addr().BitLen())},
			Resolve: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{at.Addr()}, nil },
		},
	}
	command := fmt.Sprintf("curl -s http://api.example:%d/; curl -s http://other.example/; curl -s --noproxy '*' http://%s/ || echo no way around", at.Port(), address)
	r, err := sandbox.Run(ctx, config, command)
	if err != nil {
		return err
	}
	fmt.Printf("%s", r.Stdout)
	for _, n := range r.Net {
		fmt.Printf("%s: allowed %t %s\n", n.Host, n.Allowed, n.Reason)
	}
	return nil
}
