package sandbox

import (
	"context"
	"net"
	"syscall"
)

// Process is a program in a sandbox of its own. Its methods may be called from
// any number of goroutines.
type Process struct {
	impl  *process
	audit *audit
}

// Wait returns when the last process of the sandbox is gone, and frees what this
// one holds. It may be called more than once. The errors are those of [Run].
func (p *Process) Wait() (Result, error) {
	r, err := p.impl.wait()
	return r, p.audit.end(r, err)
}

// Dial connects to a server that the program has started, as [Session.Dial] does. After
// the end the error is os.ErrProcessDone.
func (p *Process) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.impl.dial(ctx, network, address)
}

// Signal sends a signal to the program itself and not to what it has started. After
// the end it returns os.ErrProcessDone.
func (p *Process) Signal(sig syscall.Signal) error { return p.impl.signal(sig) }

// Kill ends the whole tree; the Result of Wait then says SIGKILL. After the end
// it does nothing.
func (p *Process) Kill() { p.impl.kill() }
