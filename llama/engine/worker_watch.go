package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// A grammar that has passed the compiler may still grow until one call into
// llama.cpp does not come back. The sampler's own budget is looked at between calls;
// within one, nothing but the end of the process helps. So a worker watches itself.
const (
	watchEvery = 500 * time.Millisecond
	// stuckAfter is processor time for one token of a grammar: more than twice the
	// sampler's budget, which ends a request alone.
	stuckAfter = 5 * time.Second
)

var errStuck = fmt.Errorf("engine: a grammar needed more than %v for a token, so that the worker process was ended: %w", stuckAfter, llama.ErrGrammarBudget)

// watch ends the process where a grammar holds up everybody. Its request gets the
// reason, the others [*ErrWorkerDied].
func (s *workerServer) watch() {
	for range time.Tick(watchEvery) {
		call, stuck := s.engine.loop.stuck()
		if !stuck {
			continue
		}
		if b, err := encodeWire(callEnd{Err: newWireError(errStuck)}, "end"); err == nil && call > 0 {
			_ = s.wire.send(frame{frameEnd, call, b}) // as good as it can
		}
		s.wire.flush()
		fmt.Fprintln(os.Stderr, errStuck)
		os.Exit(1)
	}
}

// stuck gives the call of a sequence whose grammar does not come back.
func (l *loop) stuck() (call uint64, stuck bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, seq := range l.sched.running {
		if seq.sampler != nil && seq.sampler.Working() > stuckAfter {
			return seq.call, true
		}
	}
	return 0, false
}

// callKey is the key of the id of a worker's call in its context.
type callKey struct{}

func callOf(ctx context.Context) uint64 {
	id, _ := ctx.Value(callKey{}).(uint64)
	return id
}

// pingEvery and pingPatience are about a worker that says nothing while it has calls:
// one that is stopped, or a machine that stands still.
var pingEvery, pingPatience = 10 * time.Second, 30 * time.Second

// ping kills a process that does not answer.
func (s *session) ping() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.dead:
			return
		case <-tick.C:
		}
		s.mu.Lock()
		idle := len(s.calls) == 0
		s.mu.Unlock()
		if idle {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), pingPatience)
		_, err := callWorker[bool](ctx, s, "ping", nil)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			_, _ = fmt.Fprintf(s.log, "level=ERROR the worker process did not answer for %v and was killed\n", pingPatience)
			s.kill()
		}
	}
}
