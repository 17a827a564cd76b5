package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHost(t *testing.T) {
	s := newServer(t, Options{Addr: "10.1.2.3:8000", Key: "k", AllowedHosts: []string{"box.example:8443", "fd00::5", "UPPER.example"}})
	for host, want := range map[string]int{
		"localhost":                     200,
		"localhost:8000":                200,
		"LocalHost:1":                   200,
		"localhost.":                    200,
		"127.0.0.1:8000":                200,
		"127.9.9.9":                     200,
		"[::1]:8000":                    200,
		"[::1]":                         200,
		"[::ffff:127.0.0.1]":            200,
		"10.1.2.3:8000":                 200, // where it listens
		"10.1.2.3":                      200,
		"192.168.7.7:8000":              200, // where this connection arrived
		"[fd00::5]:1":                   200,
		"[fd00:0:0::5]":                 200,
		"box.example":                   200,
		"upper.example":                 200,
		"192.168.7.8:8000":              403,
		"evil.example":                  403,
		"evil.example:8000":             403,
		"localhost.evil.example":        403,
		"127.0.0.1.evil.example":        403,
		"a.localhost":                   403,
		"0.0.0.0:8000":                  403,
		"[::]:8000":                     403,
		"user@localhost":                403,
		"localhost,evil.example":        403,
		"":                              403,
		":8000":                         403,
		"127.1":                         403, // no form that only some resolvers take
		"2130706433":                    403,
		"[::1%25lo]:8000":               403,
		"xn--lcalhost-54a.example":      403,
		"localhost:8000.evil.example":   403,
		"evil.example#localhost":        403,
		"evil.example\\@localhost:8000": 403,
	} {
		t.Run(host, func(t *testing.T) {
			local := &net.TCPAddr{IP: net.ParseIP("192.168.7.7"), Port: 8000}
			r := httptest.NewRequest(http.MethodGet, "/health", nil)
			r = r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local))
			r.Host = host
			got := handle(s, r)
			assert.Equal(t, want, got.status)
			if want == 403 {
				assert.Equal(t, "foreign_host", got.failure(t).Code)
			}
		})
	}
}

// A wildcard is no name: only the address that a connection reached counts.
func TestHostOnAllAddresses(t *testing.T) {
	for _, addr := range []string{":8000", "0.0.0.0:8000", "[::]:8000"} {
		s := newServer(t, Options{Addr: addr, Key: "k"})
		for host, want := range map[string]int{"0.0.0.0:8000": 403, "[::]:8000": 403, "localhost:8000": 200, "192.168.7.7": 403} {
			r := httptest.NewRequest(http.MethodGet, "/health", nil)
			r.Host = host
			assert.Equal(t, want, handle(s, r).status, "%s on %s", host, addr)
		}
	}
}

func TestOrigin(t *testing.T) {
	s := newServer(t, Options{})
	for _, test := range []struct {
		name   string
		header http.Header
		want   int
	}{
		{"program", http.Header{}, 200},
		{"own", http.Header{"Origin": {"http://localhost:8000"}}, 200},
		{"own behind TLS", http.Header{"Origin": {"https://LOCALHOST:8000"}}, 200},
		{"own page", http.Header{"Sec-Fetch-Site": {"same-origin"}}, 200},
		{"typed address", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		{"foreign", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"other port", http.Header{"Origin": {"http://localhost:3000"}}, 403},
		{"other loopback name", http.Header{"Origin": {"http://127.0.0.1:8000"}}, 403},
		{"opaque", http.Header{"Origin": {"null"}}, 403},
		{"empty", http.Header{"Origin": {""}}, 403},
		{"extension", http.Header{"Origin": {"chrome-extension://localhost:8000"}}, 403},
		{"with path", http.Header{"Origin": {"http://localhost:8000/x"}}, 403},
		{"with user", http.Header{"Origin": {"http://evil@localhost:8000"}}, 403},
		{"two", http.Header{"Origin": {"http://localhost:8000", "https://evil.example"}}, 403},
		{"image in a foreign page", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"page of another port", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"contradiction", http.Header{"Origin": {"http://localhost:8000"}, "Sec-Fetch-Site": {"cross-site"}}, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{"/health", "/v1/models"} {
				r := httptest.NewRequest(http.MethodGet, "http://localhost:8000"+path, nil)
				for name, values := range test.header {
					r.Header[name] = values
				}
				got := handle(s, r)
				assert.Equal(t, test.want, got.status)
				if test.want == 403 {
					assert.Equal(t, "foreign_origin", got.failure(t).Code)
				}
				assertNoCORS(t, got)
			}
		})
	}
}

// A browser asks before it sends JSON to another origin; it must hear no.
func TestPreflight(t *testing.T) {
	s := newServer(t, Options{})
	for origin, want := range map[string]int{"https://evil.example": 403, "http://localhost:8000": 405, "": 405} {
		for path := range s.routes {
			r := httptest.NewRequest(http.MethodOptions, "http://localhost:8000"+path, nil)
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			r.Header.Set("Access-Control-Request-Method", "POST")
			r.Header.Set("Access-Control-Request-Headers", "content-type")
			got := handle(s, r)
			assert.Equal(t, want, got.status)
			assertNoCORS(t, got)
		}
	}
}

func assertNoCORS(t *testing.T, a answer) {
	t.Helper()
	for name := range a.header {
		assert.NotContains(t, name, "Access-Control")
	}
	assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
	assert.Equal(t, "same-origin", a.header.Get("Cross-Origin-Resource-Policy"))
}

func TestKey(t *testing.T) {
	s := newServer(t, Options{Key: "s3cret"})
	for _, test := range []struct {
		name   string
		values []string
		want   int
	}{
		{"right", []string{"Bearer s3cret"}, 200},
		{"scheme in other case", []string{"bearer s3cret"}, 200},
		{"missing", nil, 401},
		{"empty", []string{""}, 401},
		{"no scheme", []string{"s3cret"}, 401},
		{"other scheme", []string{"Basic s3cret"}, 401},
		{"wrong", []string{"Bearer s3creT"}, 401},
		{"prefix", []string{"Bearer s3cre"}, 401},
		{"longer", []string{"Bearer s3cretx"}, 401},
		{"no key", []string{"Bearer "}, 401},
		{"two", []string{"Bearer s3cret", "Bearer x"}, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			for path, to := range s.routes {
				if to.method == http.MethodPost && test.want == 200 {
					continue // GET shows it; the POST endpoints have tests of their own
				}
				r := httptest.NewRequest(to.method, "http://localhost"+path, nil)
				r.Header["Authorization"] = test.values
				got := handle(s, r)
				if path == "/health" {
					assert.Equal(t, 200, got.status, "health needs no key")
					continue
				}
				assert.Equal(t, test.want, got.status, path)
				if test.want == 401 {
					assert.Equal(t, "invalid_api_key", got.failure(t).Code)
					assert.Equal(t, "Bearer", got.header.Get("WWW-Authenticate"))
				}
			}
		})
	}
	t.Run("unknown paths are not told without a key", func(t *testing.T) {
		assert.Equal(t, 401, handle(s, httptest.NewRequest(http.MethodGet, "http://localhost/nothing", nil)).status)
	})
}

func TestKeyRequiredBeyondLoopback(t *testing.T) {
	for addr, required := range map[string]bool{
		"":                false,
		"127.0.0.1:8000":  false,
		"127.8.8.8:0":     false,
		"[::1]:8000":      false,
		"localhost:8000":  false,
		":8000":           true,
		"0.0.0.0:8000":    true,
		"[::]:8000":       true,
		"192.168.1.2:80":  true,
		"box.example:80":  true,
		"localhost.x:80":  true,
		"169.254.0.1:123": true,
	} {
		t.Run(addr, func(t *testing.T) {
			o := Options{Engine: &scripted{}, ModelName: "m", Addr: addr}
			_, err := New(o)
			if !required {
				require.NoError(t, err)
				return
			}
			require.Equal(t, err, CheckKey(addr, ""))
			require.NoError(t, CheckKey(addr, "k"))
			require.ErrorIs(t, err, ErrKeyRequired)
			var typed *KeyRequiredError
			require.ErrorAs(t, err, &typed)
			assert.Equal(t, addr, typed.Addr)
			assert.Contains(t, err.Error(), "set a key")
			o.Key = "k"
			_, err = New(o)
			require.NoError(t, err)
		})
	}
}

// open is a listener that says it is reachable by others.
type open struct{ net.Listener }

func (open) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero, Port: 8000} }

// What Options.Addr says is not believed where the listener says otherwise.
func TestServeRefusesOpenListenerWithoutKey(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	err = newServer(t, Options{}).Serve(t.Context(), open{ln})
	require.ErrorIs(t, err, ErrKeyRequired)
	_, err = ln.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestOptions(t *testing.T) {
	good := Options{Engine: &scripted{}, ModelName: "m"}
	for option, spoil := range map[string]func(*Options){
		"Engine":       func(o *Options) { o.Engine = nil },
		"ModelName":    func(o *Options) { o.ModelName = "" },
		"Addr":         func(o *Options) { o.Addr = "8000" },
		"Key":          func(o *Options) { o.Key = "from a file\n" },
		"AllowedHosts": func(o *Options) { o.AllowedHosts = []string{"*"} },
		"Sandbox":      func(o *Options) { o.Sandbox.Stdin = strings.NewReader("") },
		"OllamaURL":    func(o *Options) { o.OllamaURL = "localhost:2234" },
	} {
		t.Run(option, func(t *testing.T) {
			o := good
			spoil(&o)
			_, err := New(o)
			var typed *OptionError
			require.ErrorAs(t, err, &typed)
			assert.Equal(t, option, typed.Option)
			assert.Contains(t, err.Error(), "server: option "+option)
		})
	}
}
