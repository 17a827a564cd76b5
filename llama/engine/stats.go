package engine

import "time"

// Stats describes an engine at one moment. Counters count from New on.
type Stats struct {
	MaxSequences, MaxQueue int           // as in Params
	Running, Waiting       int           // requests; those being prepared wait
	OldestWait             time.Duration // of the requests that have not begun, the longest wait so far
	Callers                int           // Request.Caller of those that run or wait

	Kept        int   // requests that have ended and are still in the KV cache
	Parked      int   // pieces of requests that are kept in main memory
	ParkedBytes int64 // of Params.Cache.HostBytes

	Cells         int // of the KV cache
	CellsReserved int // by running requests, which reserve them before they need them
	CellsKept     int // by what has ended alone

	Finished, Cancelled, Failed uint64 // requests that ended
	Rejected                    uint64 // requests that got ErrBusy, at once or after Params.MaxWait
	Preempted                   uint64 // times that a request had to give up its cells and was computed again
	Shifted                     uint64 // times that a full context lost a half
	Steps                       uint64 // batches computed
	PromptTokens, OutputTokens  uint64 // computed, sampled
	CachedTokens                uint64 // of prompts, taken from the cache instead
	Drafted, Accepted           uint64 // tokens guessed and computed (Params.Speculative), and those of them that were right

	// Busy is the time with a request to run; Decode and Sample of it are llama_decode's and the samplers', while the engine is
	// open. The rest is what the engine itself costs.
	Busy, Decode, Sample time.Duration

	Restarts uint64 // of the worker process (Params.Isolated), with which the other counters begin anew
}

// Stats may be called at any time, also after Close.
func (e *Engine) Stats() Stats {
	if e.worker != nil {
		return e.worker.stats()
	}
	e.mu.Lock()
	s := Stats{MaxSequences: e.params.MaxSequences, MaxQueue: e.params.MaxQueue, Waiting: e.requests, Rejected: e.rejected}
	e.mu.Unlock()

	l := e.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Decode, s.Sample = e.ctx.Times()
	if s.Busy = l.busy; !l.busySince.IsZero() {
		s.Busy += time.Since(l.busySince)
	}
	s.Running = len(l.sched.running)
	s.Waiting = max(0, s.Waiting-s.Running)
	s.Kept = len(l.sched.kept)
	if p := l.sched.parking; p != nil {
		s.Parked, s.ParkedBytes = p.count, p.bytes
	}
	s.Cells, s.CellsReserved = l.sched.capacity, l.sched.inUse()
	s.CellsKept = l.sched.tree.cells - s.CellsReserved
	s.CachedTokens = l.counts.cached
	s.Finished, s.Cancelled, s.Failed = l.counts.finished, l.counts.cancelled, l.counts.failed
	s.Rejected += l.counts.rejected
	s.OldestWait, s.Callers = l.sched.oldestWait(time.Now()), len(l.sched.callers)
	s.Shifted = l.sched.shifted
	s.Preempted, s.Steps = l.sched.preempted, l.counts.steps
	s.Drafted, s.Accepted = l.counts.drafted, l.counts.accepted
	s.PromptTokens, s.OutputTokens = l.counts.prompt, l.counts.output
	return s
}
