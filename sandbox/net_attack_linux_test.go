package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// speak sends each of the texts that its input has to the proxy and prints the answers.
const speak = `import json, socket, sys
def ask(port, data):
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.settimeout(20)
    try:
        s.sendall(data.encode("latin1")); s.shutdown(socket.SHUT_WR)
        out = b""
        while b := s.recv(65536): out += b
    except OSError as e: out += repr(e).encode()
    return out.decode("latin1")
json.dump([ask(*a) for a in json.load(sys.stdin)], sys.stdout)`

// What a client inside can say to get elsewhere. The tables of internal/proxy are longer;
// these go through a sandbox. $ is the port of the server that is allowed as good.test.
var proxyAttacks = []struct {
	number int
	send   string
	want   string // beginning of the answer
}{
	{94, "CONNECT good.test:$ HTTP/1.1\r\nHost: good.test:$\r\n\r\nGET / HTTP/1.0\r\nHost: good.test\r\n\r\n", "HTTP/1.1 200"}, // the controls
	{94, "GET http://GOOD.test.:$/ HTTP/1.0\r\n\r\n", "HTTP/1.1 200"},
	{94, "CONNECT good.test.evil.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{94, "CONNECT evil.test.good.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{94, "CONNECT good.test:22 HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{94, "CONNECT sub.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"}, // *.sub.test is allowed
	{94, "CONNECT good.test@evil.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 400"},
	{94, "CONNECT good.test%00.evil.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 400"},
	{94, "CONNECT 127.0.0.1:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{94, "CONNECT [::ffff:127.0.0.1]:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{94, "CONNECT 2130706433:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 400"},
	{94, "CONNECT 0x7f.1:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 400"},
	{94, "CONNECT 0177.0.0.1:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 400"},
	{95, "CONNECT metadata.sub.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{95, "CONNECT private.sub.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{95, "CONNECT flip.sub.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 200"},
	{95, "CONNECT flip.sub.test:$ HTTP/1.0\r\n\r\n", "HTTP/1.1 403"},
	{96, "GET http://good.test:$/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", "HTTP/1.1 400"},
	{97, "GET http://good.test:$/move HTTP/1.0\r\n\r\n", "HTTP/1.1 302"}, // which the client may follow, to be refused
	{97, "POST http://good.test:$/ HTTP/1.1\r\nHost: good.test:$\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 400"},
	{97, "GET http://good.test:$/ HTTP/1.1\r\nHost: good.test:$\r\nX: y\r\n folded\r\n\r\n", "HTTP/1.1 400"},
	{97, "GET http://good.test:$/ HTTP/1.1\nHost: good.test:$\n\n", "HTTP/1.1 400"},
	{97, "GET http://good.test:$/ws HTTP/1.1\r\nHost: good.test:$\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 200"}, // without Upgrade
}

func TestAttacksOnTheProxy(t *testing.T) { // 94 to 97
	var mu sync.Mutex
	var served []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		served = append(served, r.URL.Path+r.Header.Get("Upgrade"))
		if r.URL.Path == "/move" {
			http.Redirect(w, r, "http://evil.test/", http.StatusFound)
		}
	}))
	defer server.Close()
	p := strconv.Itoa(port(server.Listener.Addr()))
	c := onLoopback("good.test:"+p, "*.sub.test:"+p)
	turn := 0
	c.Allow.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		address := map[string]string{"good.test": "127.0.0.1", "metadata.sub.test": "169.254.169.254", "private.sub.test": "10.0.0.1"}[name]
		if name == "flip.sub.test" {
			address = []string{"127.0.0.1", "192.168.0.1"}[turn]
			turn++
		}
		a, err := netip.ParseAddr(address)
		return []netip.Addr{a}, err
	}
	var asks [][2]any
	for _, a := range proxyAttacks {
		asks = append(asks, [2]any{3128, strings.ReplaceAll(a.send, "$", p)})
	}
	input, err := json.Marshal(asks)
	require.NoError(t, err)
	c.Stdin = bytes.NewReader(input)
	r := run(t, c, "python3 -c '"+speak+"'")
	var answers []string
	require.NoError(t, json.Unmarshal(r.Stdout, &answers), "%s", r.Stderr)
	require.Len(t, answers, len(proxyAttacks))
	for i, a := range proxyAttacks {
		t.Run(fmt.Sprintf("%d %d", a.number, i), func(t *testing.T) {
			require.True(t, strings.HasPrefix(answers[i], a.want), "%q gets %q", a.send, answers[i])
		})
	}
	require.Equal(t, []string{"/", "/", "/move", "/ws"}, served)
	require.Len(t, r.Net, len(proxyAttacks))
}
