package proxy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// SOCKS5 is RFC 1928, of which this is CONNECT without authentication.
const (
	socksVersion = 5
	socksNoAuth  = 0
	socksNone    = 0xff
	socksConnect = 1
	socksIPv4    = 1
	socksName    = 3
	socksIPv6    = 4
)

// Replies.
const (
	socksGranted       = 0
	socksFailure       = 1
	socksRefusedByRule = 2
	socksNetwork       = 3
	socksHost          = 4
	socksRefused       = 5
	socksCommand       = 7
	socksAddressType   = 8
)

func (s *Server) serveSOCKS(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(s.patience()))
	in := bufio.NewReader(c)
	if err := readGreeting(in); err != nil {
		s.malformed(err)
		_, _ = c.Write([]byte{socksVersion, socksNone})
		finish(c)
		return
	}
	if _, err := c.Write([]byte{socksVersion, socksNoAuth}); err != nil {
		return
	}
	d, code, err := readSOCKS(in)
	if err != nil {
		s.malformed(err)
		_ = reply(c, code)
		finish(c)
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	f := s.begin(ViaSOCKS, d.host(), d.Port)
	defer f.end()
	up, err := s.connect(f, d)
	if err != nil {
		_ = reply(c, socksCode(err))
		finish(c)
		return
	}
	defer up.Close()
	if reply(c, socksGranted) == nil {
		s.tunnel(c, in, up, d)
	}
}

// malformed records a request that was none, unless the client has just gone.
func (s *Server) malformed(err error) {
	if !gone(err) {
		s.refuse(ViaSOCKS, "", 0, "malformed request: "+err.Error())
	}
}

// gone says that a client has left, or said nothing in time.
func gone(err error) bool {
	var n net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &n)
}

func reply(c net.Conn, code byte) error {
	_, err := c.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err
}

func readGreeting(in io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return err
	}
	if head[0] != socksVersion {
		return fmt.Errorf("version %d of SOCKS, not 5", head[0])
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(in, methods); err != nil {
		return err
	}
	if !slices.Contains(methods, socksNoAuth) {
		return errors.New("SOCKS without the method of no authentication")
	}
	return nil
}

// readSOCKS reads a request; where there is an error, code is the answer.
func readSOCKS(in io.Reader) (d Dest, code byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return d, socksFailure, err
	}
	if head[0] != socksVersion || head[2] != 0 {
		return d, socksFailure, errors.New("no request of SOCKS5")
	}
	if head[1] != socksConnect {
		return d, socksCommand, fmt.Errorf("command %d of SOCKS: only CONNECT", head[1])
	}
	size := map[byte]int{socksIPv4: 4, socksIPv6: 16}[head[3]]
	if head[3] == socksName {
		var n [1]byte
		if _, err := io.ReadFull(in, n[:]); err != nil {
			return d, socksFailure, err
		}
		size = int(n[0])
	} else if size == 0 {
		return d, socksAddressType, errors.New("an unknown type of address")
	}
	rest := make([]byte, size+2)
	if _, err := io.ReadFull(in, rest); err != nil {
		return d, socksFailure, err
	}
	host := rest[:size]
	if head[3] == socksName {
		d.Name, d.Addr, err = parseHost(string(host))
	} else {
		d.Addr, _ = netip.AddrFromSlice(host)
		d.Addr = d.Addr.Unmap()
	}
	d.Port = binary.BigEndian.Uint16(rest[size:])
	if err == nil && d.Port == 0 {
		err = errPort
	}
	return d, socksFailure, err
}

func socksCode(err error) byte {
	var no denied
	switch {
	case errors.As(err, &no):
		return socksRefusedByRule
	case errors.Is(err, syscall.ECONNREFUSED):
		return socksRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return socksNetwork
	}
	return socksHost
}
