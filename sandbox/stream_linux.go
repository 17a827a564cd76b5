package sandbox

import "io"

// capture reads one stream of a command to its end. It keeps the first limit
// bytes, drops the rest, and passes everything on to live while that takes it.
type capture struct {
	name      string
	limit     int64
	live      io.Writer // or nil
	full      func()    // called once, when the stream is longer than limit
	kept      []byte
	truncated bool
	liveErr   error
}

func (c *capture) drain(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			c.take(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (c *capture) take(b []byte) {
	if c.live != nil {
		if _, err := c.live.Write(b); err != nil {
			c.liveErr = &ErrStream{c.name, err}
			c.live = nil
		}
	}
	room := c.limit - int64(len(c.kept))
	if int64(len(b)) <= room {
		c.kept = append(c.kept, b...)
		return
	}
	c.kept = append(c.kept, b[:room]...)
	if !c.truncated {
		c.truncated = true
		c.full()
	}
}
