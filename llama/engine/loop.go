package engine

import (
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/llama"
)

// decoder is what the loop needs of a llama.Context. Only abort may be called
// while another call runs.
type decoder interface {
	decode([]feed) error // one step; sets token or err of each feed that samples
	remove(llama.SeqID)
	posMax(llama.SeqID) llama.Pos
	abort()
	resetAbort()
}

// loop runs the steps. One goroutine, locked to its thread (the thread pool of
// the CPU backend belongs to it), is the only one that touches the decoder.
type loop struct {
	dec   decoder
	isEOG func(llama.Token) bool
	log   *slog.Logger
	done  chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	wake    *sync.Cond // work arrived, or closing
	sched   *scheduler
	closing bool
	flying  bool // a step is being computed
	live    int  // sequences of that step that nobody has asked to end
	feeds   []feed
	counts  counters
}

type counters struct {
	steps, prompt, output, failed, cancelled, finished uint64
}

func newLoop(dec decoder, sched *scheduler, isEOG func(llama.Token) bool, log *slog.Logger) *loop {
	l := &loop{dec: dec, sched: sched, isEOG: isEOG, log: log, done: make(chan struct{})}
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
	l.wake.Signal()
}

// finish asks a sequence to end: at once while it waits, else with the step in
// flight. A step that nobody wants any more is aborted; one that others share
// is not, because an abort throws their work away as well.
func (l *loop) finish(seq *sequence, wish FinishReason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq.state == ended || seq.wish != "" {
		return
	}
	seq.wish = wish
	if seq.state == waiting {
		l.end(seq, wish, nil)
		return
	}
	if seq.inStep {
		if l.live--; l.live == 0 {
			l.dec.abort()
		}
	}
	l.wake.Signal()
}

// close ends every sequence with ErrClosed and the goroutine after that.
func (l *loop) close() {
	l.mu.Lock()
	l.closing = true
	if l.flying {
		l.dec.abort()
	}
	l.wake.Signal()
	l.mu.Unlock()
	<-l.done
}

// run is the body of the goroutine.
func (l *loop) run() {
	runtime.LockOSThread()
	defer close(l.done)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for !l.closing && l.sched.idle() {
			l.wake.Wait()
		}
		if l.closing {
			for _, seq := range slices.Concat(l.sched.running, l.sched.queue) {
				l.end(seq, "", ErrClosed)
			}
			return
		}
		l.sweep()
		l.step()
	}
}

// step computes one batch, without the mutex.
func (l *loop) step() {
	l.feeds = l.sched.plan(l.feeds[:0])
	if len(l.feeds) == 0 {
		return
	}
	now := time.Now()
	for _, f := range l.feeds {
		f.seq.inStep = true
		if f.seq.started.IsZero() {
			f.seq.started = now
		}
	}
	l.flying, l.live = true, len(l.feeds)
	l.dec.resetAbort()
	l.mu.Unlock()

	err := l.dec.decode(l.feeds)

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
	now = time.Now()
	for i := range l.feeds {
		l.advance(&l.feeds[i], now)
	}
}

// advance books what the step did for one sequence.
func (l *loop) advance(f *feed, now time.Time) {
	seq := f.seq
	if n := min(f.n, seq.prompt-seq.past); n > 0 {
		seq.computed += n
		l.counts.prompt += uint64(n)
	}
	seq.past += f.n
	switch {
	case seq.wish != "" || !f.sample:
		return
	case f.err != nil:
		l.end(seq, "", f.err)
		return
	}
	seq.tokens = append(seq.tokens, f.token)
	seq.out.put(func(t *[]llama.Token) bool { *t = append(*t, f.token); return true })
	l.counts.output++
	if seq.first.IsZero() {
		seq.first = now
	}
	seq.last = now
	switch {
	case l.isEOG(f.token):
		l.end(seq, FinishStop, nil)
	case len(seq.tokens) == seq.limit:
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
			l.log.Error("engine: a step failed", "error", err, "sequence", f.seq.id)
			l.end(f.seq, "", err)
		}
	}
	for _, seq := range l.sched.running {
		if l.dec.posMax(seq.id)+1 != llama.Pos(seq.past) {
			l.dec.remove(seq.id)
			seq.past = 0
		}
	}
}

// sweep ends the sequences that were asked to, if any.
func (l *loop) sweep() (swept bool) {
	for i := len(l.sched.running) - 1; i >= 0; i-- {
		if seq := l.sched.running[i]; seq.wish != "" {
			l.end(seq, seq.wish, nil)
			swept = true
		}
	}
	return swept
}

// end retires a sequence: afterwards the loop does not touch it any more.
func (l *loop) end(seq *sequence, reason FinishReason, err error) {
	l.sched.retire(seq)
	seq.reason, seq.err = reason, err
	switch {
	case err != nil:
		l.counts.failed++
	case reason == FinishCancelled:
		l.counts.cancelled++
	default:
		l.counts.finished++
	}
	seq.out.close()
	close(seq.retired)
}
