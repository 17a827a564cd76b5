package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxResponseHead bounds the headers of what a server answers.
const maxResponseHead = 256 << 10

// serveHTTP serves one connection of a client: any number of requests, each
// decided for itself, or one CONNECT.
func (s *Server) serveHTTP(c net.Conn) {
	in := bufio.NewReaderSize(c, maxHead)
	for {
		_ = c.SetReadDeadline(time.Now().Add(s.IdleTimeout))
		if _, err := in.Peek(1); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(s.patience()))
		req, d, err := readRequest(in)
		if err != nil {
			if gone(err) {
				return
			}
			s.refuse(ViaHTTP, "", 0, "malformed request: "+err.Error())
			respond(c, badRequest(err), err.Error())
			return
		}
		_ = c.SetReadDeadline(time.Time{})
		if req.Method == http.MethodConnect {
			s.serveConnect(c, in, d)
			return
		}
		if !s.forward(c, req, d) {
			return
		}
	}
}

func badRequest(err error) int {
	if errors.Is(err, errHeadSize) {
		return http.StatusRequestHeaderFieldsTooLarge
	}
	return http.StatusBadRequest
}

// readRequest reads a head and says where the request is to go. Where the
// target and the Host header name different places it is refused.
func readRequest(in *bufio.Reader) (*http.Request, Dest, error) {
	head, err := peekHead(in)
	if err != nil {
		return nil, Dest{}, err
	}
	host, err := checkHead(head)
	if err != nil {
		return nil, Dest{}, err
	}
	req, err := http.ReadRequest(in)
	if err != nil {
		return nil, Dest{}, fmt.Errorf("net/http: %s", strings.ReplaceAll(err.Error(), "\n", " "))
	}
	d, port, err := target(req)
	if err != nil {
		return nil, Dest{}, err
	}
	if host == "" && req.ProtoAtLeast(1, 1) {
		return nil, Dest{}, errors.New("an empty Host header")
	}
	if host != "" {
		same, err := ParseAuthority(host, port)
		if err != nil {
			return nil, Dest{}, fmt.Errorf("the Host header: %w", err)
		}
		if same != d {
			return nil, Dest{}, errors.New("the Host header is of another host than the target")
		}
	}
	return req, d, nil
}

// target is where a request is to go, and the port of a Host header without one.
func target(req *http.Request) (Dest, uint16, error) {
	if req.Method == http.MethodConnect {
		if req.ContentLength != 0 {
			return Dest{}, 0, errors.New("CONNECT with a body")
		}
		d, err := ParseAuthority(req.RequestURI, 0)
		return d, d.Port, err
	}
	rest, ok := strings.CutPrefix(strings.ToLower(req.RequestURI), "http://")
	if !ok {
		return Dest{}, 0, errors.New("this is a proxy: the target must begin with http://; for anything else use CONNECT")
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	d, err := ParseAuthority(rest, 80)
	return d, 80, err
}

// respond ends a connection with a message of the proxy's own.
func respond(c net.Conn, code int, message string) {
	_ = c.SetWriteDeadline(time.Now().Add(headTimeout))
	text := "lm-sandbox: " + message + "\n"
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		code, http.StatusText(code), len(text), text)
	finish(c)
}

// finish lets a client read the answer that it has not waited for: closing a
// socket with unread bytes would take it back.
func finish(c net.Conn) {
	closeWrite(c)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c, 1<<20)
}

// refusal tells the client why there is no connection.
func refusal(c net.Conn, d Dest, err error) {
	code := http.StatusBadGateway
	var no denied
	if errors.As(err, &no) {
		code = http.StatusForbidden
	}
	respond(c, code, d.authority()+": "+public(err))
}

func (s *Server) serveConnect(c net.Conn, in *bufio.Reader, d Dest) {
	f := s.begin(ViaConnect, d.host(), d.Port)
	defer f.end()
	up, err := s.connect(f, d)
	if err != nil {
		refusal(c, d, err)
		return
	}
	defer up.Close()
	if _, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	s.tunnel(c, in, up, d)
}

// forward makes one request, on a connection of its own, and says whether the
// client's can be used again.
func (s *Server) forward(c net.Conn, req *http.Request, d Dest) (keep bool) {
	f := s.begin(ViaHTTP, d.host(), d.Port)
	defer f.end()
	up, err := s.connect(f, d)
	if err != nil {
		refusal(c, d, err)
		return false
	}
	defer up.Close()
	f.watch(c, up)
	keep = !req.Close && req.ProtoAtLeast(1, 1)
	if strings.EqualFold(req.Header.Get("Expect"), "100-continue") {
		if _, err := io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false
		}
	}
	body := &body{ReadCloser: req.Body}
	resp, err := roundTrip(s.ctx, up, outgoing(req, d, body))
	if err != nil {
		f.because("request: " + err.Error())
		respond(c, http.StatusBadGateway, d.authority()+": "+public(err))
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols { // nobody asked for it
		respond(c, http.StatusBadGateway, d.authority()+": a switch of protocols")
		return false
	}
	incoming(resp, req, keep && body.complete())
	defer body.stop()
	return resp.Write(&headWriter{w: c}) == nil && !resp.Close
}

// roundTrip uses net/http's client for one request on a connection that is there.
func roundTrip(ctx context.Context, up net.Conn, req *http.Request) (*http.Response, error) {
	var once sync.Once
	t := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxResponseHead,
		DialContext: func(context.Context, string, string) (c net.Conn, err error) {
			err = errors.New("the connection was lost")
			once.Do(func() { c, err = up, nil })
			return c, err
		},
	}
	return t.RoundTrip(req.WithContext(ctx))
}

// outgoing is the request as the server is to see it.
func outgoing(req *http.Request, d Dest, body io.ReadCloser) *http.Request {
	out := &http.Request{
		Method: req.Method, Header: req.Header, ContentLength: req.ContentLength, TransferEncoding: req.TransferEncoding,
		Host: strings.TrimSuffix(d.authority(), ":80"), Body: body,
		URL: &url.URL{Scheme: "http", Host: d.authority(), Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery, ForceQuery: req.URL.ForceQuery},
	}
	if req.ContentLength == 0 {
		out.Body = nil
	}
	removeHops(out.Header)
	out.Header.Del("Expect")
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = []string{""} // or net/http would add its own
	}
	return out
}

// incoming makes the answer the proxy's own: how its end is told, and whether
// the connection stays, is between proxy and client.
func incoming(resp *http.Response, req *http.Request, keep bool) {
	removeHops(resp.Header)
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/1.1", 1, 1
	resp.Request, resp.Trailer, resp.TransferEncoding, resp.Close = req, nil, nil, !keep
	if resp.ContentLength < 0 && req.Method != http.MethodHead {
		if req.ProtoAtLeast(1, 1) {
			resp.TransferEncoding = []string{"chunked"}
		} else {
			resp.Close = true
		}
	}
}

// removeHops deletes the headers that are for the next hop only. Upgrade is one
// of them: websockets go by CONNECT, as clients do.
func removeHops(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// body is what a client sends. Closing it reads nothing more.
type body struct {
	io.ReadCloser
	mu   sync.Mutex
	done bool // all was read
	over bool // nobody wants more
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	over := b.over
	b.mu.Unlock()
	if over {
		return 0, io.ErrClosedPipe
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.mu.Lock()
		b.done = true
		b.mu.Unlock()
	}
	return n, err
}

func (*body) Close() error { return nil }

// complete says that what comes next from the client is another request.
func (b *body) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done || b.ReadCloser == http.NoBody
}

func (b *body) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}

// headWriter writes the head of an answer at once, and the rest as it comes.
type headWriter struct {
	w    io.Writer
	head []byte
	past bool
}

func (h *headWriter) Write(b []byte) (int, error) {
	if h.past {
		return h.w.Write(b)
	}
	h.head = append(h.head, b...)
	if bytes.HasSuffix(h.head, []byte("\r\n\r\n")) {
		h.past = true
		if _, err := h.w.Write(h.head); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
