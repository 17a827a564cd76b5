package sandbox

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
)

// orders are what pid 1 has been asked for; it answers in order.
type orders struct {
	sending sync.Mutex // held while one is put into line and written

	mu      sync.Mutex
	waiting []chan reply // each has room for its reply
	over    bool         // nobody will answer

	follow sync.Once
	exit   any           // the EXIT frame, or nil; valid once done is closed
	failed error         // what pid 1 said of its own end, if it did; as exit
	done   chan struct{} // closed when pid 1 has said its last word
}

type reply struct {
	files []*os.File
	err   error
}

// listen reads what pid 1 says from now on, until it is gone.
func (p *process) listen() {
	p.orders.follow.Do(func() { go p.orders.read(&p.files) })
}

func (o *orders) read(from *receiver) {
	defer close(o.done)
	for o.exit == nil {
		frame, err := proto.Read(from)
		if err != nil {
			break
		}
		switch f := frame.(type) {
		case proto.Reply:
			o.answer(f, from)
		case proto.Exit:
			o.exit = f
		case proto.Failure:
			o.failed = &ErrSetup{f.Stage.String(), f.Detail, syscall.Errno(f.Errno)}
		}
	}
	_, _ = from.take(0)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	for _, w := range o.waiting {
		w <- reply{err: os.ErrProcessDone}
	}
	o.waiting = nil
}

func (o *orders) answer(f proto.Reply, from *receiver) {
	files, whole := from.take(int(f.Files))
	r := reply{files: files}
	switch {
	case f.Errno != 0:
		r.err = syscall.Errno(f.Errno)
	case !whole: // this process has too many open files
		r.err = syscall.EMFILE
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) == 0 {
		r.close()
		return
	}
	o.waiting[0] <- r
	o.waiting = o.waiting[1:]
}

func (r reply) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// order has pid 1 do something, and returns the open files that come of it, so many,
// which are the caller's. Any number of goroutines may call it once the payload runs.
// The error is the errno of pid 1, [os.ErrProcessDone], or ctx's.
func (p *process) order(ctx context.Context, frame []byte, files int) ([]*os.File, error) {
	p.listen()
	mine, err := p.enqueue(frame)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-mine:
		if r.err == nil && len(r.files) != files {
			r.close()
			r.err = syscall.EBADMSG
		}
		return r.files, r.err
	case <-ctx.Done():
		go func() { (<-mine).close() }()
		return nil, fmt.Errorf("sandbox: %w", ctx.Err())
	}
}

// enqueue puts an order into line.
func (p *process) enqueue(frame []byte) (chan reply, error) {
	o := &p.orders
	o.sending.Lock()
	defer o.sending.Unlock()
	mine := make(chan reply, 1)
	o.mu.Lock()
	over := o.over
	if !over {
		o.waiting = append(o.waiting, mine)
	}
	o.mu.Unlock()
	if over {
		return nil, os.ErrProcessDone
	}
	if _, err := p.control.Write(frame); err != nil {
		p.kill() // if it is not gone already: there will be no reply
	}
	return mine, nil
}
