package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/rootfs"
)

// How long a builder rests after a failure, and while others wait.
const (
	courtesy   = 5 * time.Millisecond
	firstPause = 50 * time.Millisecond
	maxPause   = 5 * time.Second
)

// pool builds ahead. Each of its places is a token in missing, or with a builder, or
// a sandbox in ready.
type pool struct {
	config  Config
	id      proto.Ready // who all its sandboxes are on the host
	owners  owners
	missing chan struct{}
	open    context.Context
	shut    context.CancelFunc
	running sync.WaitGroup // builders, and those who watch or end a waiting sandbox

	mu    sync.Mutex
	ready []*spare // the oldest first
	count PoolStats
}

func newPool(c Config, size int) (*pool, error) {
	l := &pool{config: c, owners: owners{helper: c.HelperPath}, missing: make(chan struct{}, size)}
	l.open, l.shut = context.WithCancel(context.Background())
	if err := l.begin(); err != nil {
		l.shut()
		return nil, err
	}
	return l, nil
}

// begin checks the whole of the Config and builds the first sandbox.
func (l *pool) begin() error {
	if _, _, err := l.config.request("/bin/bash", []string{"bash"}); err != nil {
		return err
	}
	level, err := l.config.chooseLevel(l.open)
	if level == LevelLandlock {
		return nil // of which nothing can be built ahead
	}
	var first *spare
	if err == nil {
		first, err = newSpare(l.open, l.config)
	}
	if err != nil {
		return l.config.explainLevel(l.open, err)
	}
	l.id = first.id
	l.add(first)
	size := cap(l.missing)
	for range size - 1 {
		l.missing <- struct{}{}
	}
	for range min(size, runtime.GOMAXPROCS(0)) {
		l.running.Go(l.build)
	}
	return nil
}

// build fills places until the pool is closed.
func (l *pool) build() {
	pause := firstPause
	for {
		select {
		case <-l.open.Done():
			return
		case <-l.missing:
		}
		l.yield()
		s, err := newSpare(l.open, l.config)
		if err == nil {
			l.add(s)
			pause = firstPause
			continue
		}
		l.missing <- struct{}{}
		if l.open.Err() != nil {
			return
		}
		l.mu.Lock()
		l.count.Failed++
		l.count.LastError = err
		l.mu.Unlock()
		select {
		case <-l.open.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

// yield lets the command that was just started go first, unless the next one would find
// nothing.
func (l *pool) yield() {
	if l.stats().Ready == 0 {
		return
	}
	select {
	case <-l.open.Done():
	case <-time.After(courtesy):
	}
}

func (l *pool) add(s *spare) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open.Err() != nil {
		l.running.Go(s.discard)
		return
	}
	l.ready = append(l.ready, s)
	l.running.Go(func() { l.watch(s) })
}

// watch waits for what a sandbox says next: the answer to its lease, or its end.
func (l *pool) watch(s *spare) {
	frame, err := proto.Read(&s.process.files)
	l.mu.Lock()
	at := slices.Index(l.ready, s)
	if at >= 0 {
		l.ready = slices.Delete(l.ready, at, at+1)
		if l.open.Err() == nil {
			l.count.Died++
		}
	}
	l.mu.Unlock()
	if at < 0 {
		s.answer <- answer{frame, err}
		return
	}
	s.discard()
	l.missing <- struct{}{}
}

// take returns a sandbox that waits, or nil.
func (l *pool) take() *spare {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ready) == 0 {
		return nil
	}
	s := l.ready[0]
	l.ready = slices.Delete(l.ready, 0, 1)
	l.missing <- struct{}{}
	return s
}

// execute is the executor of a pool.
func (l *pool) execute(ctx context.Context, c Config, path string, argv []string, session bool) (*process, error) {
	begin := time.Now()
	if l.open.Err() != nil {
		return nil, ErrPoolClosed
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("sandbox: %w", ctx.Err())
	}
	p, err := l.lease(ctx, &job{config: c, session: session, begin: begin}, path, argv)
	if !errors.Is(err, errCold) {
		return p, err
	}
	l.mu.Lock()
	l.count.Cold++
	l.mu.Unlock()
	return execute(ctx, c, path, argv, session)
}

// errCold is a lease that a waiting sandbox cannot serve; nothing of the command has run.
var errCold = errors.New("no waiting sandbox")

func (l *pool) lease(ctx context.Context, j *job, path string, argv []string) (*process, error) {
	var err error
	if j.limits, err = j.config.Limits.withDefaults(); err != nil {
		return nil, err
	}
	j.request = &proto.Request{}
	if j.request.Run, err = j.config.run(j.limits, path, argv); err != nil {
		return nil, err
	}
	if j.session {
		forSession(&j.request.Run)
	}
	if j.config.Audit != nil {
		whole, _, err := j.config.request(path, argv)
		if err != nil {
			return nil, err
		}
		j.policy = j.config.policyHash(whole, j.limits)
	}
	dir, err := j.config.workspace()
	if err != nil {
		return nil, err
	}
	mounts, err := j.config.mountsOf(dir)
	if err != nil {
		return nil, err
	}
	if l.stats().Ready == 0 {
		return nil, errCold
	}
	file, err := l.owners.attach(&j.request.Run, dir, l.id)
	if err != nil {
		return nil, errCold
	}
	if file != nil {
		defer file.Close()
	}
	j.request.Late = append(j.request.Late, rootfs.Protect(mounts)...)
	guard, err := j.config.guard(ctx)
	if err != nil {
		return nil, err
	}
	if j.growth, err = newGrowth(j.config.Workspace, j.limits); err != nil {
		return nil, err
	}
	s := l.take()
	if s == nil {
		j.growth.close()
		return nil, errCold
	}
	s.process.guard = guard
	p, err := s.start(ctx, j, file)
	if err == nil {
		l.mu.Lock()
		l.count.Warm++
		l.mu.Unlock()
	}
	return p, err
}

func (l *pool) stats() PoolStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.count
	n.Ready = len(l.ready)
	return n
}

func (l *pool) close() error {
	l.shut()
	l.mu.Lock()
	for _, s := range l.ready {
		s.process.shutdown() // its watch does the rest
	}
	l.mu.Unlock()
	l.running.Wait()
	l.owners.close()
	return nil
}
