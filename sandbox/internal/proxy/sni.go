package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxHello is more than a ClientHello needs, those with post-quantum keys too.
const maxHello = 64 << 10

var errHello = errors.New("parsed")

// verifySNI reads the client's TLS hello and checks that it names the same
// host. It returns all that it has read.
func verifySNI(c net.Conn, from io.Reader, d Dest, patience time.Duration) ([]byte, error) {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	l := &tap{Conn: c, from: io.LimitReader(from, maxHello)}
	var name string
	err := tls.Server(l, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name = h.ServerName
		return nil, errHello
	}}).HandshakeContext(context.Background())
	if !errors.Is(err, errHello) {
		return nil, errors.New("no TLS handshake, which VerifySNI demands")
	}
	want := d.Name // an address has no name in TLS
	if got, _, err := parseHost(name); name != "" && err != nil || got != want {
		return nil, fmt.Errorf("the TLS handshake names %.253q", name)
	}
	return l.seen.Bytes(), nil
}

// tap lets crypto/tls read a hello and answers nothing.
type tap struct {
	net.Conn
	from io.Reader
	seen bytes.Buffer
}

func (l *tap) Read(b []byte) (int, error) {
	n, err := l.from.Read(b)
	l.seen.Write(b[:n])
	return n, err
}

func (*tap) Write(b []byte) (int, error) { return len(b), nil }
