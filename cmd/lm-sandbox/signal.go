package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// interrupted is the cause of a context that a signal cancelled.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return fmt.Sprintf("ended by signal: %v", i.signal) }
func (i interrupted) exitCode() int { return exitSignal + int(i.signal) }

// withInterrupt returns a context that the first SIGINT or SIGTERM cancels, with
// the signal as its cause. The second one meets the default action again, so a
// command that does not come to its end can still be stopped from the keyboard.
// A SIGINT that catchInterrupts takes does not count.
func withInterrupt(parent context.Context) (context.Context, context.CancelFunc) {
	var c catcher
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, catcherKey{}, &c))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGINT && c.take() {
					continue
				}
				cancel(interrupted{s.(syscall.Signal)})
			case <-ctx.Done():
			}
			return
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// catcher holds where the SIGINTs go that do not end the program; nil is nowhere.
type catcher struct{ to atomic.Pointer[chan struct{}] }

type catcherKey struct{}

// take reports whether somebody wanted the SIGINT.
func (c *catcher) take() bool {
	to := c.to.Load()
	if to == nil {
		return false
	}
	select {
	case *to <- struct{}{}:
	default: // one that was not looked at yet says as much as two
	}
	return true
}

// catchInterrupts makes SIGINT readable from a channel, until release, where it would
// have cancelled ctx, a context of withInterrupt.
func catchInterrupts(ctx context.Context) (caught <-chan struct{}, release func()) {
	c, ok := ctx.Value(catcherKey{}).(*catcher)
	if !ok {
		return nil, func() {}
	}
	to := make(chan struct{}, 1)
	c.to.Store(&to)
	return to, func() { c.to.Store(nil) }
}
