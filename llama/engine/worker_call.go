package engine

import (
	"context"
	"sync"
	"time"
)

// workerCall is a request to the worker. One goroutine uses it, beside cancel.
type workerCall struct {
	id      uint64
	session *session
	in      chan frame
	taken   int    // deltas since the last credit
	last    []byte // delta
	end     *frame
	once    sync.Once
}

// call sends a request. Its frames are taken with next, to the end or to finish.
func (s *session) call(ctx context.Context, method string, request []byte) (*workerCall, error) {
	r := callRequest{Method: method, Request: request}
	if deadline, ok := ctx.Deadline(); ok {
		r.Timeout = max(1, time.Until(deadline))
	}
	b, err := encodeWire(r, "call")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil, s.err
	}
	c := &workerCall{id: s.next, session: s, in: make(chan frame, wireWindow+2)} // an ask and the end beside the deltas
	s.next++
	if err := s.wire.send(frame{frameCall, c.id, b}); err != nil {
		return nil, err
	}
	s.calls[c.id] = c
	return c, nil
}

// next gives the next frame of the call. What came before the worker died is given
// before its death.
func (c *workerCall) next(ctx context.Context) (frame, error) {
	select {
	case f := <-c.in:
		return c.took(f), nil
	default:
	}
	select {
	case f := <-c.in:
		return c.took(f), nil
	case <-ctx.Done():
		return frame{}, ctx.Err()
	case <-c.session.dead:
	}
	select {
	case f := <-c.in:
		return c.took(f), nil
	default:
		c.end = &frame{}
		return frame{}, c.session.err
	}
}

func (c *workerCall) took(f frame) frame {
	switch f.kind {
	case frameEnd:
		c.end = &f
	case frameDelta:
		c.last = f.payload
		if c.taken++; c.taken == wireWindow/2 {
			c.taken = 0
			_ = c.session.wire.send(frame{kind: frameCredit, id: c.id}) // without payload it cannot fail
		}
	}
	return f
}

// cancel asks the worker to end the call.
func (c *workerCall) cancel() {
	c.once.Do(func() { _ = c.session.wire.send(frame{kind: frameCancel, id: c.id}) })
}

// finish cancels the call unless it has ended, waits for the end and gives its frame.
func (c *workerCall) finish() frame {
	if c.end == nil {
		c.cancel()
	}
	for c.end == nil {
		_, _ = c.next(context.Background()) // its failure is the end, too
	}
	return *c.end
}

// answer replies to a frameAsk.
func (c *workerCall) answer(v any) error {
	b, err := encodeWire(v, "answer")
	if err != nil {
		return err
	}
	return c.session.wire.send(frame{frameAnswer, c.id, b})
}

// endOf reads the end of a call.
func endOf[A any](f frame) (answer A, err error) {
	if f.kind != frameEnd {
		return answer, errWire
	}
	end, err := decodeWire[callEnd](f.payload)
	if err != nil {
		return answer, err
	}
	if len(end.Reply) > 0 {
		if answer, err = decodeWire[A](end.Reply); err != nil {
			return answer, err
		}
	}
	return answer, end.Err.err()
}

// callWorker is a call with one answer.
func callWorker[A any](ctx context.Context, s *session, method string, request []byte) (answer A, err error) {
	c, err := s.call(ctx, method, request)
	if err != nil {
		return answer, err
	}
	f, err := c.next(ctx)
	if err != nil {
		c.cancel() // what hangs holds up nobody who has gone
		return answer, err
	}
	return endOf[A](f)
}
