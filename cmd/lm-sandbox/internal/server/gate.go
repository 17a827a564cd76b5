package server

import (
	"context"
	"sync/atomic"
)

// gate lets a bounded number of callers run at once and a bounded number wait.
type gate struct {
	running chan struct{}
	present atomic.Int64 // running and waiting
	most    int64
}

func newGate(running, waiting int) *gate {
	return &gate{running: make(chan struct{}, running), most: int64(running) + int64(waiting)}
}

// enter waits for a turn; leave must follow a nil error.
func (g *gate) enter(ctx context.Context) error {
	if g.present.Add(1) > g.most {
		g.present.Add(-1)
		return busy("too many commands are waiting: try again in a second")
	}
	select {
	case g.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		g.present.Add(-1)
		return cancelled(ctx)
	}
}

func (g *gate) leave() {
	<-g.running
	g.present.Add(-1)
}
