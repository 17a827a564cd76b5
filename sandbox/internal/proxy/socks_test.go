package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const greeting = "\x05\x01\x00"

// toName is a request for a name.
func toName(name string, port int) string {
	return "\x05\x01\x00\x03" + string([]byte{byte(len(name))}) + name + string([]byte{byte(port >> 8), byte(port)})
}

func TestSOCKS(t *testing.T) {
	w := serve(t, echo(t), nil, "a.test", "8.8.8.8", "2606:4700::/32")
	for name, row := range map[string]struct {
		send string
		code byte
		host string // of the record, "" for a malformed one
	}{
		"name":               {toName("A.test.", 443), socksGranted, "a.test"},
		"IPv4":               {"\x05\x01\x00\x01\x08\x08\x08\x08\x01\xbb", socksGranted, "8.8.8.8"},
		"IPv4 as a name":     {toName("8.8.8.8", 443), socksGranted, "8.8.8.8"},
		"IPv4 within IPv6":   {"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x08\x08\x08\x08\x01\xbb", socksGranted, "8.8.8.8"},
		"IPv6":               {"\x05\x01\x00\x04\x26\x06\x47\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb", socksGranted, "2606:4700::1"},
		"other name":         {toName("b.test", 443), socksRefusedByRule, "b.test"},
		"other port":         {toName("a.test", 22), socksRefusedByRule, "a.test"},
		"loopback":           {"\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb", socksRefusedByRule, "127.0.0.1"},
		"metadata":           {toName("169.254.169.254", 80), socksRefusedByRule, "169.254.169.254"},
		"decimal address":    {toName("2130706433", 443), socksFailure, ""},
		"NUL in the name":    {toName("a.test\x00.evil", 443), socksFailure, ""},
		"IPv6 as a name":     {toName("::1", 443), socksFailure, ""},
		"no name":            {toName("", 443), socksFailure, ""},
		"port 0":             {toName("a.test", 0), socksFailure, ""},
		"BIND":               {"\x05\x02\x00\x01\x08\x08\x08\x08\x01\xbb", socksCommand, ""},
		"UDP":                {"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", socksCommand, ""},
		"reserved":           {"\x05\x01\x01\x01\x08\x08\x08\x08\x01\xbb", socksFailure, ""},
		"other address type": {"\x05\x01\x00\x02\x08\x08\x08\x08\x01\xbb", socksAddressType, ""},
		"SOCKS4 within":      {"\x04\x01\x00\x50\x08\x08\x08\x08x\x00", socksFailure, ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := exchange(t, w.socks, greeting+row.send+"payload")
			want := "\x05\x00\x05" + string(row.code) + "\x00\x01\x00\x00\x00\x00\x00\x00"
			if row.code == socksGranted {
				want += "payload"
			}
			require.Equal(t, want, out)
			records, _ := w.Records()
			require.Equal(t, row.host, records[len(records)-1].Host)
		})
	}
}

func TestBadGreeting(t *testing.T) {
	w := serve(t, echo(t), nil, "a.test")
	for _, send := range []string{"\x04\x01\x00\x50\x08\x08\x08\x08x\x00", "\x05\x01\x02", "\x05\x00", "GET http://a.test/ HTTP/1.1\r\n\r\n"} {
		require.Equal(t, "\x05\xff", exchange(t, w.socks, send))
	}
	exchange(t, w.socks, "\x05") // it has just gone: no record
	w.records(t, 4)
}

func TestSOCKSClient(t *testing.T) { // net/http's, which leaves the name to the proxy
	at, _ := origin(t)
	w := serve(t, at, nil, "a.test")
	proxy, err := url.Parse("socks5h://" + w.socks)
	require.NoError(t, err)
	tr := &http.Transport{Proxy: http.ProxyURL(proxy)}
	defer tr.CloseIdleConnections()
	_, body := get(t, &http.Client{Transport: tr}, "http://a.test/")
	require.Contains(t, body, "GET a.test /")
	_, err = (&http.Client{Transport: tr}).Get("http://b.test/")
	require.ErrorContains(t, err, "not allowed by ruleset")
}

// pipeConn is a connection whose other side is a buffer.
type pipeConn struct {
	io.Reader
	out bytes.Buffer
}

func (p *pipeConn) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (*pipeConn) Close() error                       { return nil }
func (*pipeConn) LocalAddr() net.Addr                { return nil }
func (*pipeConn) RemoteAddr() net.Addr               { return nil }
func (*pipeConn) SetDeadline(time.Time) error        { return nil }
func (*pipeConn) SetReadDeadline(time.Time) error    { return nil }
func (*pipeConn) SetWriteDeadline(t time.Time) error { return nil }

// FuzzSOCKS: a request that is understood is the one that these bytes are.
func FuzzSOCKS(f *testing.F) {
	f.Add([]byte(greeting + toName("a.test", 443)))
	f.Add([]byte(greeting + "\x05\x01\x00\x01\x08\x08\x08\x08\x01\xbb"))
	f.Add([]byte(greeting + "\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x08\x08\x08\x08\x01\xbb"))
	f.Add([]byte("\x05\x02\x00\x02" + toName("8.8.8.8", 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		if readGreeting(in) != nil {
			return
		}
		rest := b[len(b)-in.Len():]
		d, _, err := readSOCKS(in)
		if err != nil {
			return
		}
		used := rest[:len(rest)-in.Len()]
		if port := int(used[len(used)-2])<<8 | int(used[len(used)-1]); port != int(d.Port) || port == 0 {
			t.Fatalf("%q has port %d", used, d.Port)
		}
		again, err := ParseAuthority(d.authority(), 0)
		if err != nil || again != d {
			t.Fatalf("%q is %v, and that is %v, %v", used, d, again, err)
		}
		if d.Name != "" && !strings.EqualFold(strings.TrimSuffix(string(used[5:len(used)-2]), "."), d.Name) {
			t.Fatalf("%q is %q", used, d.Name)
		}
	})
}

// FuzzServe: whatever comes in, only what a rule names is dialled.
func FuzzServe(f *testing.F) {
	for _, text := range smuggled {
		if len(text) < 1000 {
			f.Add(false, []byte(text))
		}
	}
	f.Add(true, []byte(greeting+toName("a.test", 443)))
	s := &Server{ctx: f.Context(), Config: Config{
		Rules: rules(f, "a.test", "8.8.8.8:53"), MaxBytes: 1 << 60, IdleTimeout: time.Hour,
	}}
	f.Fuzz(func(t *testing.T, socks bool, b []byte) {
		s.flows, s.more = nil, 0
		s.Resolve, s.Dial = onlyTo(t)
		c := &pipeConn{Reader: bytes.NewReader(b)}
		if socks {
			s.serveSOCKS(c)
		} else {
			s.serveHTTP(c)
		}
	})
}
