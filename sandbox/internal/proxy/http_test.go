package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// origin is a server that tells what it got.
func origin(t testing.TB) (string, *atomic.Int64) {
	t.Helper()
	requests := &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "http://evil.test/stolen", http.StatusFound)
		case "/stream":
			for i := range 3 {
				fmt.Fprintf(w, "line %d\n", i)
				w.(http.Flusher).Flush()
			}
		case "/early": // an answer before the body
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("Keep-Alive", "timeout=1")
			fmt.Fprintf(w, "%s %s %s %v %q", r.Method, r.Host, r.URL.RequestURI(), r.Header, body)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), requests
}

// client is net/http's own, through the proxy.
func client(t testing.TB, w *world) *http.Client {
	proxy, err := url.Parse("http://" + w.http)
	require.NoError(t, err)
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the test's own server
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

func TestPlainHTTP(t *testing.T) {
	at, _ := origin(t)
	w := serve(t, at, nil, "a.test")
	c := client(t, w)
	_, body := get(t, c, "http://a.test/x%2Fy?q=1&r")
	require.Equal(t, `GET a.test /x%2Fy?q=1&r map[Accept-Encoding:[gzip] Connection:[close] User-Agent:[Go-http-client/1.1]] ""`, body)
	_, body = get(t, c, "http://a.test/stream")
	require.Equal(t, "line 0\nline 1\nline 2\n", body)
	resp, err := c.Post("http://A.TEST./p", "text/plain", io.MultiReader(strings.NewReader("chunked "), strings.NewReader("body")))
	require.NoError(t, err)
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.Contains(t, string(b), `POST a.test /p map[`)
	require.Contains(t, string(b), `"chunked body"`)
	require.Empty(t, resp.Header.Get("Keep-Alive"))
	code, body := get(t, c, "http://b.test/")
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "lm-sandbox: b.test:80: no rule allows it\n", body)
	r := w.records(t, 4)
	require.True(t, r[0].Allowed && r[0].Up > 0 && r[0].Down > 0 && r[0].Via == ViaHTTP)
}

func TestHTTPS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "secret of "+r.Host) }))
	defer s.Close()
	w := serve(t, s.Listener.Addr().String(), nil, "a.test:8443")
	_, body := get(t, client(t, w), "https://a.test:8443/")
	require.Equal(t, "secret of a.test:8443", body)
	_, err := client(t, w).Get("https://a.test/")
	require.ErrorContains(t, err, "Forbidden")
}

func TestRedirect(t *testing.T) { // 97: it is the client's, and another request
	at, requests := origin(t)
	w := serve(t, at, nil, "a.test")
	code, body := get(t, client(t, w), "http://a.test/redirect")
	require.Equal(t, http.StatusForbidden, code)
	require.Contains(t, body, "evil.test:80: no rule allows it")
	require.EqualValues(t, 1, requests.Load())
}

// Each request of a connection is decided for itself.
func TestKeepAlive(t *testing.T) { // 97
	at, requests := origin(t)
	w := serve(t, at, nil, "a.test")
	out := exchange(t, w.http, "GET http://a.test/1 HTTP/1.1\r\nHost: a.test\r\n\r\n"+
		"POST http://a.test/2 HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 4\r\n\r\nbody"+
		"GET http://evil.test/3 HTTP/1.1\r\nHost: evil.test\r\n\r\n"+
		"GET http://a.test/4 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	require.Equal(t, 2, strings.Count(out, "HTTP/1.1 200 OK"), out)
	require.Equal(t, 1, strings.Count(out, "HTTP/1.1 403 Forbidden"))
	require.Contains(t, out, `"body"`)
	require.NotContains(t, out, "/4")
	require.EqualValues(t, 2, requests.Load())
}

func TestHeaders(t *testing.T) {
	at, _ := origin(t)
	w := serve(t, at, nil, "a.test")
	out := exchange(t, w.http, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-Hop, Upgrade\r\nX-Hop: 1\r\nX-End: 2\r\n"+
		"Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nUpgrade: websocket\r\nTE: trailers\r\nAuthorization: mine\r\n\r\n")
	require.Contains(t, out, `GET a.test / map[Authorization:[mine] Connection:[close] X-End:[2]] ""`)
	// 1.0: the end of the body is the end of the connection.
	out = exchange(t, w.http, "GET http://a.test/stream HTTP/1.0\r\n\r\n")
	require.Contains(t, out, "Connection: close\r\n")
	require.True(t, strings.HasSuffix(out, "\r\n\r\nline 0\nline 1\nline 2\n"), out)
	out = exchange(t, w.http, "HEAD http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\nGET http://a.test/second HTTP/1.1\r\nHost: a.test\r\n\r\n")
	require.Contains(t, out, "/second")
}

func TestExpect(t *testing.T) {
	at, _ := origin(t)
	w := serve(t, at, nil, "a.test")
	c := dial(t, w.http)
	fmt.Fprint(c, "PUT http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
	_, _ = in.ReadString('\n')
	fmt.Fprint(c, "abc")
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	b, _ := io.ReadAll(resp.Body)
	require.Contains(t, string(b), `"abc"`)
	// Refused before the body is asked for.
	out := exchange(t, w.http, "PUT http://b.test/ HTTP/1.1\r\nHost: b.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
	require.True(t, strings.HasPrefix(out, "HTTP/1.1 403"), out)
}

// An answer before the end of the body: what of it is left is not a request.
func TestEarlyAnswer(t *testing.T) { // 97
	at, requests := origin(t)
	w := serve(t, at, nil, "a.test")
	hidden := "GET http://a.test/hidden HTTP/1.1\r\nHost: a.test\r\n\r\n"
	c := dial(t, w.http)
	fmt.Fprint(c, "POST http://a.test/early HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n"+hidden)
	b, _ := io.ReadAll(c)
	require.Contains(t, string(b), "413 Request Entity Too Large")
	require.Contains(t, string(b), "Connection: close")
	require.EqualValues(t, 1, requests.Load())
}

var smuggled = map[string]string{ // 97: what two parsers may read in two ways
	"both lengths":           "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"two lengths":            "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\nabcd",
	"two equal lengths":      "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
	"list of lengths":        "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4, 4\r\n\r\nabcd",
	"signed length":          "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: +4\r\n\r\nabcd",
	"negative length":        "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: -1\r\n\r\n",
	"huge length":            "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"hidden chunked":         "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"chunked with blank":     "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"chunked twice":          "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
	"chunked and gzip":       "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"chunked in 1.0":         "POST http://a.test/ HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"chunked, vertical tab":  "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
	"folded header":          "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n Transfer-Encoding: chunked\r\n\r\n",
	"folded by a tab":        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\tfold\r\n\r\n",
	"first header indented":  "GET http://a.test/ HTTP/1.1\r\n Host: a.test\r\n\r\n",
	"bare line feed":         "GET http://a.test/ HTTP/1.1\r\nHost: a.test\nX: 1\r\n\r\n",
	"bare line feeds":        "GET http://a.test/ HTTP/1.1\nHost: a.test\n\n",
	"line feed in the value": "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n",
	"bare carriage return":   "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: a\rY: b\r\n\r\n",
	"NUL":                    "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: a\x00b\r\n\r\n",
	"no name":                "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n: x\r\n\r\n",
	"no colon":               "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n",
	"other host":             "GET http://a.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
	"other port":             "GET http://a.test/ HTTP/1.1\r\nHost: a.test:81\r\n\r\n",
	"two hosts":              "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n",
	"no host":                "GET http://a.test/ HTTP/1.1\r\n\r\n",
	"empty host":             "GET http://a.test/ HTTP/1.1\r\nHost:\r\n\r\n",
	"user":                   "GET http://a.test@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
	"user of a.test":         "GET http://evil.test@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"backslash":              "GET http://a.test\\@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"origin form":            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"asterisk form":          "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"https":                  "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"ftp":                    "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"blank in the target":    "GET http://a.test/ x HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"two blanks":             "GET  http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"0.9":                    "GET http://a.test/\r\n\r\n",
	"2":                      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"1.2":                    "GET http://a.test/ HTTP/1.2\r\nHost: a.test\r\n\r\n",
	"line before":            "\r\nGET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"TLS":                    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
	"CONNECT with a body":    "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 5\r\n\r\nhello",
	"CONNECT without port":   "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"CONNECT, other host":    "CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
	"CONNECT, other port":    "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
	"CONNECT, path":          "CONNECT /a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"CONNECT, user":          "CONNECT u@a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"CONNECT, URL":           "CONNECT http://a.test:443/ HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
	"many headers":           "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n" + strings.Repeat("X: y\r\n", 20000) + "\r\n",
	"one long header":        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nX: " + strings.Repeat("y", 100000) + "\r\n\r\n",
	"long target":            "GET http://a.test/" + strings.Repeat("y", 100000) + " HTTP/1.1\r\nHost: a.test\r\n\r\n",
}

func TestMalformed(t *testing.T) {
	at, requests := origin(t)
	w := serve(t, at, nil, "a.test", "evil.test")
	require.Contains(t, exchange(t, w.http, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), "200 OK", "the control")
	for name, text := range smuggled {
		t.Run(name, func(t *testing.T) {
			out := exchange(t, w.http, text)
			require.Regexp(t, `^HTTP/1.1 4(00|31) `, out)
			require.Equal(t, 1, strings.Count(out, "Connection: close"), "one answer: %s", out)
		})
	}
	require.EqualValues(t, 1, requests.Load(), "none of them reached the server")
	r := w.records(t, 1+len(smuggled))
	for _, r := range r[1:] {
		require.True(t, strings.HasPrefix(r.Reason, "malformed request: "), r.Reason)
	}
}

// Chunks that are none end the request, and with it the connection.
func TestBadChunks(t *testing.T) { // 97
	at, _ := origin(t)
	w := serve(t, at, nil, "a.test")
	for name, chunks := range map[string]string{
		"no number": "zz\r\n\r\n", "negative": "-1\r\n\r\n", "bare line feed": "3\nabc\n0\n\n", "too long": "3\r\nabcd\r\n0\r\n\r\n",
		"huge": "fffffffffffffffff\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			out := exchange(t, w.http, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks+
				"GET http://a.test/smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n")
			require.NotContains(t, out, "/smuggled")
			require.NotContains(t, out, "200 OK")
		})
	}
}

func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"none": "", "no HTTP": "SSH-2.0-x\r\n", "switch": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
		"endless head": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, answering(t, answer), nil, "a.test")
			require.Contains(t, exchange(t, w.http, "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"), "502 Bad Gateway")
		})
	}
}

// answering is a server that says the same to everybody.
func answering(t testing.TB, answer string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, answer)
			c.Close()
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// FuzzHTTP: what is accepted is one request, to one host, as any parser reads it.
func FuzzHTTP(f *testing.F) {
	for _, text := range smuggled {
		if len(text) < 1000 {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("POST http://a.test:81/x?y HTTP/1.1\r\nHost: A.test.:81\r\nTransfer-Encoding: chunked\r\nConnection: x\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]\r\n\r\n"))
	f.Add([]byte("GET http://a.test HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bufio.NewReaderSize(bytes.NewReader(b), maxHead)
		req, d, err := readRequest(in)
		if err != nil {
			return
		}
		at, err := ParseAuthority(req.Host, 80)
		if req.Method == http.MethodConnect {
			at, err = ParseAuthority(req.Host, 0)
		}
		if err != nil || at != d {
			t.Fatalf("%q is for %v and for net/http of %q", b, d, req.Host)
		}
		if req.Method == http.MethodConnect {
			return
		}
		content, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		var wire bytes.Buffer
		if err := outgoing(req, d, io.NopCloser(bytes.NewReader(content))).Write(&wire); err != nil {
			return // net/http does not send it
		}
		out := bufio.NewReaderSize(&wire, maxHead)
		head, err := peekHead(out)
		if err != nil {
			return // too long now
		}
		if _, err := checkHead(head); err != nil {
			t.Fatalf("%q becomes %q: %v", b, head, err)
		}
		again, err := http.ReadRequest(out)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		if same, err := ParseAuthority(again.Host, 80); err != nil || same != d || again.Method != req.Method {
			t.Fatalf("%q is %s for %v, and %q is %s for %q", b, req.Method, d, head, again.Method, again.Host)
		}
		rest, err := io.ReadAll(again.Body)
		if err != nil || !bytes.Equal(rest, content) {
			t.Fatalf("%q has the body %q, and sent it is %q, %v", b, content, rest, err)
		}
		if _, err := out.ReadByte(); err == nil {
			t.Fatalf("%q is followed by more", head)
		}
	})
}
