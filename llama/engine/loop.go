package engine

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// decoder is what the loop needs of a llama.Context. Only abort and hold may be
// called while another call runs.
type decoder interface {
	// decode computes a step, and further ones whose tokens are those that were
	// sampled, up to steps in all; it sets tokens and err of each feed that samples.
	decode(feeds []feed, steps int) error
	memory
	posMax(llama.SeqID) llama.Pos
	abort()
	hold()       // no further step after the one in flight
	resetAbort() // and hold

	// Contexts that compute on the same cores take turns (llama.Context.TakeTurn).
	takeTurn() bool // false where it was interrupted
	giveTurn()
	interruptTurn()
	contended() bool
}

// together is the time for which steps are computed without coming back to Go.
// Coming back, handing tokens over and starting the next step wakes threads
// beside those that compute, which costs about a fifth of a millisecond: twenty
// times a second is often enough. What arrives meanwhile waits for one step.
const (
	together     = 48 * time.Millisecond
	mostTogether = 16
)

// loop runs the steps. One goroutine is the only one that touches the decoder.
// It also turns tokens into text and finds stop strings: that takes a
// microsecond, where waking another goroutine beside the computing threads takes
// fifty.
type loop struct {
	dec      decoder
	isEOG    func(llama.Token) bool
	log      *slog.Logger
	done     chan struct{} // closed when the goroutine has ended
	together time.Duration
	maxWait  time.Duration // in the queue; 0: any
	guesser  *guesser      // nil: no speculation

	mu        sync.Mutex
	wake      *sync.Cond // work arrived, or closing
	sched     *scheduler
	closing   bool
	flying    bool // a step is being computed
	turning   bool // the goroutine waits for its turn
	live      int  // sequences of that step that are not cancelled
	feeds     []feed
	counts    counters
	busy      time.Duration // with work to do, until busySince, if that is set
	busySince time.Time
	stepTime  time.Duration // of the last steps; one with prompts is a long one, and is not repeated
}

type counters struct {
	steps, prompt, cached, output, failed, cancelled, rejected, finished, drafted, accepted uint64
}

func newLoop(dec decoder, sched *scheduler, isEOG func(llama.Token) bool, log *slog.Logger) *loop {
	l := &loop{dec: dec, sched: sched, isEOG: isEOG, log: log, done: make(chan struct{}), together: together}
	l.wake = sync.NewCond(&l.mu)
	return l
}

// submit queues a sequence. It ends by closing retired, whatever happens.
func (l *loop) submit(seq *sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seq.submitted = time.Now()
	l.sched.submit(seq)
	if l.closing {
		l.end(seq, "", ErrClosed)
		return
	}
	l.interrupt()
}

// interrupt makes the goroutine look at what has changed.
func (l *loop) interrupt() {
	if l.flying {
		l.dec.hold()
	}
	if l.turning {
		l.dec.interruptTurn()
	}
	l.wake.Signal()
}

// cancel asks a sequence to end: at once while it waits, else with the step in
// flight. A step that nobody wants any more is aborted; one that others share
// is not, because an abort throws their work away as well.
func (l *loop) cancel(seq *sequence) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq.state == ended || seq.cancelled {
		return
	}
	seq.cancelled = true
	if seq.state == waiting {
		l.end(seq, FinishCancelled, nil)
		return
	}
	if seq.inStep {
		if l.live--; l.live == 0 {
			l.dec.abort()
		}
	}
	l.interrupt()
}

// close ends every sequence with ErrClosed and the goroutine after that.
func (l *loop) close() {
	l.mu.Lock()
	l.closing = true
	if l.flying {
		l.dec.abort()
	}
	l.interrupt()
	l.mu.Unlock()
	<-l.done
}

// run is the body of the goroutine.
func (l *loop) run() {
	defer close(l.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for !l.closing && l.sched.idle() {
			if !l.busySince.IsZero() {
				l.busy, l.busySince = l.busy+time.Since(l.busySince), time.Time{}
			}
			l.dec.giveTurn()
			l.wake.Wait()
		}
		if l.busySince.IsZero() {
			l.busySince = time.Now()
		}
		if l.closing {
			for _, seq := range slices.Concat(l.sched.running, l.sched.queue) {
				l.end(seq, "", ErrClosed)
			}
			l.dec.giveTurn()
			l.flush()
			return
		}
		turn := l.takeTurn()
		l.sweep()
		l.expire()
		if turn && !l.closing {
			l.step()
		}
	}
}

// flush writes to disk, where there is one, what the context has. It gives up the mutex while the disk works: what was kept
// before is to be on disk before it could be in the way of what follows.
func (l *loop) flush() {
	if l.sched.parking == nil || l.sched.parking.disk == nil {
		return
	}
	for len(l.sched.kept) > 0 {
		l.mu.Unlock()
		l.sched.parking.disk.writer.drain()
		l.mu.Lock()
		l.sched.evict(nil)
	}
}

// takeTurn waits for the turn of this engine, without the mutex.
func (l *loop) takeTurn() bool {
	l.turning = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.turning = false
	}()
	return l.dec.takeTurn()
}

// step computes one batch, or several in a row, without the mutex.
func (l *loop) step() {
	now := time.Now()
	l.sched.contended = l.dec.contended()
	l.feeds = l.sched.plan(l.feeds[:0], now)
	if len(l.feeds) == 0 {
		return
	}
	for _, f := range l.feeds {
		f.seq.inStep = true
		if f.seq.started.IsZero() {
			f.seq.started = now
		}
	}
	if l.guesser != nil {
		l.guesser.plan(l.feeds)
	}
	steps := 1
	if l.stepTime > 0 {
		steps = l.sched.steps(l.feeds, min(mostTogether, int(l.together/l.stepTime)))
	}
	l.flying, l.live = true, len(l.feeds)
	l.dec.resetAbort()
	l.mu.Unlock()

	if l.guesser != nil {
		l.guesser.ask(l.feeds)
	}
	begin := time.Now()
	err := l.dec.decode(l.feeds, steps)

	l.mu.Lock()
	l.flying = false
	l.counts.steps++
	for _, f := range l.feeds {
		f.seq.inStep = false
	}
	if err != nil {
		l.stepFailed(err)
		return
	}
	end, done, prompt, generated := time.Now(), 1, 0, false
	for i := range l.feeds {
		done = max(done, len(l.feeds[i].tokens)-l.feeds[i].draft)
		if n := l.feeds[i].n; n > 1 {
			prompt += n
		} else {
			generated = true
		}
	}
	if l.guesser != nil {
		l.guesser.observe(l.feeds, end.Sub(begin)/time.Duration(done))
		drafted, accepted := drafted(l.feeds)
		l.counts.drafted, l.counts.accepted = l.counts.drafted+drafted, l.counts.accepted+accepted
	}
	for i := range l.feeds {
		l.advance(&l.feeds[i], end)
	}
	l.counts.steps += uint64(done - 1)
	l.stepTime = end.Sub(now) / time.Duration(done)
	l.sched.observe(l.stepTime, prompt, generated)
}

// advance books what the step did for one sequence.
func (l *loop) advance(f *feed, now time.Time) {
	seq := f.seq
	l.counts.prompt += uint64(seq.computes(f.n))
	seq.ahead = max(0, len(f.tokens)-1)
	if seq.cancelled || !f.sample {
		return
	}
	for i, token := range f.tokens {
		if i > 0 {
			seq.computes(1) // the token before
			seq.ahead--
		}
		var probs []llama.TokenProb
		if n := seq.nProbs; n > 0 {
			probs = f.probs[i*n : (i+1)*n]
		}
		if l.output(seq, token, probs, now); seq.state == ended {
			return
		}
	}
	if f.err != nil {
		l.end(seq, "", f.err)
	}
}

// output books a token, and ends the sequence where it was the last one.
func (l *loop) output(seq *sequence, token llama.Token, probs []llama.TokenProb, now time.Time) {
	seq.tokens = append(seq.tokens, token)
	l.counts.output++
	if seq.first.IsZero() {
		seq.first = now
	}
	seq.last = now
	var stopped bool
	var err error
	seq.out.put(func(o *output) bool {
		o.tokens = append(o.tokens, token)
		o.probs = append(o.probs, probs...)
		o.text, stopped, err = seq.text.push(o.text, token)
		return true
	})
	switch {
	case err != nil:
		l.end(seq, "", err)
	case stopped, l.isEOG(token):
		l.end(seq, FinishStop, nil)
	case seq.length() == seq.limit:
		l.end(seq, seq.limitReason, nil)
	}
}

// stepFailed deals with a step that failed as a whole. Its sequences cannot be
// trusted any more and end with the error; the others go on, recomputed where
// the memory does not hold what they think it holds.
func (l *loop) stepFailed(err error) {
	swept := l.sweep()
	if errors.Is(err, llama.ErrNoKVSlot) && (swept || len(l.sched.running) > 1) {
		// Nothing was computed. The reservations exclude this for a plain
		// cache; one with rules of its own gets the same remedy.
		if !swept {
			l.sched.shrink()
		}
		return
	}
	for _, f := range l.feeds {
		// Nobody is left here after an abort, unless by Close.
		if f.seq.state == running && !l.closing {
			l.log.Error("engine: a step failed", "error", err, "sequence", f.seq.leaf.id)
			l.end(f.seq, "", err)
		}
	}
	l.sched.check(l.dec.posMax)
}

// sweep ends the sequences that are cancelled, if any.
func (l *loop) sweep() (swept bool) {
	for i := len(l.sched.running) - 1; i >= 0; i-- {
		if seq := l.sched.running[i]; seq.cancelled {
			l.end(seq, FinishCancelled, nil)
			swept = true
		}
	}
	return swept
}

// expire ends the sequences that have waited for too long, if there is a limit.
func (l *loop) expire() {
	if l.maxWait == 0 {
		return
	}
	for _, seq := range l.sched.late(time.Now().Add(-l.maxWait)) {
		l.end(seq, "", ErrBusy)
	}
}

// end retires a sequence: what it held is released, and the loop does not touch
// it any more.
func (l *loop) end(seq *sequence, reason FinishReason, err error) {
	l.sched.retire(seq, err == nil)
	if reason != FinishCancelled {
		var stopped bool
		seq.out.put(func(o *output) bool {
			before := len(o.text)
			o.text, stopped = seq.text.flush(o.text)
			return len(o.text) > before
		})
		if stopped && err == nil {
			reason = FinishStop
		}
	}
	seq.reason, seq.err = reason, err
	l.counts.cached += uint64(seq.cached)
	switch {
	case errors.Is(err, ErrBusy):
		l.counts.rejected++
	case err != nil:
		l.counts.failed++
	case reason == FinishCancelled:
		l.counts.cancelled++
	default:
		l.counts.finished++
	}
	if err := seq.sampler.Close(); err != nil {
		l.log.Error("engine: a sampler was not released", "error", err)
	}
	seq.release()
	seq.out.close()
	close(seq.retired)
}
