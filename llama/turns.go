package llama

import (
	"sync"
	"time"
)

// turns lets the contexts of a model compute one after the other where their
// threads are more than the cores: two teams of threads on the same cores wait for
// each other at every node of a graph.
type turns struct {
	total   int // threads; below 0: no turns are taken
	mu      sync.Mutex
	free    int           // the rest is taken by holders
	clock   time.Duration // used of who got a turn last
	waiting []*turn
}

// turn is a context's part in turns.
type turn struct {
	threads int
	used    time.Duration // computing time; of one that was idle, as much as the others have
	held    bool
	since   time.Time     // of held, or of the last look at used
	ready   chan struct{} // while waiting; closed by a grant or an interruption
	stopped bool          // an interruption came before the wait
}

// take gives t the turn; it reports false where interrupt came first. Who holds it
// keeps it, unless one waits that has computed for less time.
func (s *turns) take(t *turn) bool {
	s.mu.Lock()
	if t.held {
		s.charge(t)
		if !s.behind(t) {
			s.clock = max(s.clock, t.used)
			s.mu.Unlock()
			return true
		}
		s.release(t)
	}
	if t.stopped {
		t.stopped = false
		s.grant()
		s.mu.Unlock()
		return false
	}
	t.used = max(t.used, s.clock)
	s.waiting = append(s.waiting, t)
	t.ready = make(chan struct{})
	s.grant()
	ready := t.ready
	s.mu.Unlock()
	<-ready
	s.mu.Lock()
	defer s.mu.Unlock()
	return t.held
}

// behind says whether one waits that has computed for less time than t.
func (s *turns) behind(t *turn) bool {
	for _, w := range s.waiting {
		if w.used < t.used {
			return true
		}
	}
	return false
}

// contended says whether another context waits.
func (s *turns) contended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting) > 0
}

// give ends a turn, if t holds one.
func (s *turns) give(t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.held {
		s.charge(t)
		s.release(t)
		s.grant()
	}
}

// interrupt ends the wait of t, or else, unless t has the turn, the next one: who waits
// says so before it gets here.
func (s *turns) interrupt(t *turn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiting {
		if w == t {
			s.leave(i)
			s.grant()
			return
		}
	}
	t.stopped = !t.held
}

func (s *turns) charge(t *turn) {
	now := time.Now()
	t.used, t.since = t.used+now.Sub(t.since), now
}

func (s *turns) release(t *turn) {
	t.held = false
	s.free += t.threads
}

// leave takes one out of the queue.
func (s *turns) leave(i int) *turn {
	t := s.waiting[i]
	s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
	close(t.ready)
	return t
}

// grant hands out free threads to who has computed least. None is overtaken because
// it needs more threads.
func (s *turns) grant() {
	for len(s.waiting) > 0 {
		first := 0
		for i, w := range s.waiting {
			if w.used < s.waiting[first].used {
				first = i
			}
		}
		if s.waiting[first].threads > s.free {
			return
		}
		t := s.leave(first)
		s.free -= t.threads
		t.held, t.since = true, time.Now()
		s.clock = max(s.clock, t.used)
	}
}

// TakeTurn waits until the context may compute: where the contexts of a model have
// more threads than [ModelParams.NThreads], those that call it take turns, and each
// gets as much time as the others. Call it before each Decode, and GiveTurn when no
// Decode follows: who has the turn keeps it until another one has waited for long
// enough. It reports false where InterruptTurn ended the wait. Nothing forces a
// context to take turns; engines do.
func (c *Context) TakeTurn() bool { return c.turn.threads == 0 || c.model.turns.take(&c.turn) }

// GiveTurn lets other contexts compute; nil-safe.
func (c *Context) GiveTurn() {
	if c != nil {
		c.model.turns.give(&c.turn)
	}
}

// InterruptTurn ends a wait in TakeTurn, or the next one where the context neither waits
// nor has the turn. Any goroutine may call it; nil-safe.
func (c *Context) InterruptTurn() {
	if c != nil {
		c.model.turns.interrupt(&c.turn)
	}
}

// Contended says whether another context waits for its turn; nil-safe.
func (c *Context) Contended() bool { return c != nil && c.model.turns.contended() }
