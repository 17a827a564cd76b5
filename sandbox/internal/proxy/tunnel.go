package proxy

import (
	"io"
	"net"
)

// tunnel passes bytes both ways until both ends are done. What the client has
// sent already is in from.
func (s *Server) tunnel(c net.Conn, from io.Reader, up *meter, d Dest) {
	up.f.watch(c, up)
	if s.VerifySNI {
		hello, err := verifySNI(c, from, d, s.patience())
		if err != nil {
			up.f.because(err.Error())
			return
		}
		if _, err := up.Write(hello); err != nil {
			return
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pass(up, from, c, up)
	}()
	pass(c, up, c, up)
	<-done
}

// pass copies until the end of one direction; after an error both are over.
func pass(to net.Conn, from io.Reader, ends ...net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		for _, c := range ends {
			c.Close()
		}
		return
	}
	closeWrite(to)
}

func closeWrite(c net.Conn) {
	if m, ok := c.(*meter); ok {
		c = m.Conn
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
