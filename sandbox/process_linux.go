package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proxy"
	"golang.org/x/sys/unix"
)

// killPatience is how long the helper has to end the tree before it is killed
// itself, which its pid 1 does not survive either.
const killPatience = 5 * time.Second

// writerPatience is how long a writer of the caller's may block once the command
// has been stopped.
const writerPatience = 2 * time.Second

// cause is why a command was stopped from outside.
type cause int

const (
	causeNone cause = iota
	causeContext
	causeTimeout
	causeOutput
	causeKill
	causeGrowth
)

// process is a running helper and what is connected to it.
type process struct {
	ctx     context.Context
	begin   time.Time
	limits  Limits
	policy  string // its hash, where there is an audit
	session bool   // its streams are a terminal, and Wall is not its own
	whole   bool   // the end of the command is not enough: the helper must be gone
	cmd     *exec.Cmd
	control *os.File
	files   receiver // reads control
	lent    map[proto.Files]*os.File
	level   Level
	lacks   []string
	guard   *guard
	private string        // directory on the host that ends with the sandbox, or ""
	group   *cgroup.Group // or nil
	proxy   *proxy.Server // or nil
	growth  *growth       // of the workspace, or nil
	stdin   *os.File      // write end, or nil
	outputs [2]*os.File
	streams [2]*capture
	release func() // stops the timer and the watch of ctx
	orders  orders
	finish  sync.Once

	mu       sync.Mutex
	stopped  cause
	stopping chan struct{} // closed once stopped is set
	ended    bool
	force    *time.Timer
	stdinErr error

	result Result // valid once finish is done
	err    error
	grown  bool // the workspace, too much
}

func newProcess() *process {
	return &process{stopping: make(chan struct{}), orders: orders{done: make(chan struct{})}}
}

// execute runs a program at the level that the host has and c accepts.
func execute(ctx context.Context, c Config, path string, argv []string, session bool) (*process, error) {
	level, err := c.chooseLevel(ctx)
	if err != nil {
		return nil, err
	}
	p, err := executeAt(ctx, c, level, path, argv, session)
	return p, c.explainLevel(ctx, err)
}

// executeAt runs it at one level, LevelNamespaces or LevelLandlock.
func executeAt(ctx context.Context, c Config, level Level, path string, argv []string, session bool) (*process, error) {
	begin := time.Now()
	request, limits, err := c.request(path, argv)
	if err != nil {
		return nil, err
	}
	if session {
		forSession(&request.Run)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("sandbox: %w", ctx.Err())
	}
	growth, err := newGrowth(c.grows(), limits)
	if err != nil {
		return nil, err
	}
	p := newProcess()
	p.level = level
	if p.guard, err = c.guard(ctx); err != nil {
		growth.close()
		return nil, err
	}
	if level == LevelLandlock {
		if p.private, err = c.bare(request, session); err != nil {
			growth.close()
			p.guard.end()
			return nil, err
		}
	}
	policy := c.policyHash(request, limits)
	rest, err := p.launch(&c, func() ([]byte, error) {
		err := p.join(&c, limits, request)
		return request.Encode(), err
	}, !session, c.Stdin != nil)
	if err != nil {
		growth.close()
		p.guard.end()
		p.removePrivate()
		if p.group != nil {
			p.group.Remove()
		}
		return nil, err
	}
	return p.start(ctx, &job{c, request, policy, limits, session, begin, growth}, func() (any, error) { return p.ask(rest) })
}

// forSession: no sum of processor time for a shell that may live for days.
func forSession(r *proto.Run) {
	r.Flags = proto.FlagSession
	r.MaxCPU = math.MaxInt64 / uint64(time.Millisecond)
}

// job is a command for a sandbox.
type job struct {
	config  Config
	request *proto.Request
	policy  string
	limits  Limits
	session bool
	begin   time.Time
	growth  *growth // of the workspace, from before the command, or nil
}

// start returns once the command is executing; ask gives it to the helper.
func (p *process) start(ctx context.Context, j *job, ask func() (any, error)) (*process, error) {
	p.ctx, p.begin, p.limits, p.policy, p.session = ctx, j.begin, j.limits, j.policy, j.session
	// Without a pid namespace pid 1 cannot end the tree; an overlay must be free for the next.
	p.whole = p.level < LevelNamespaces || j.config.Overlay != nil
	p.copy(&j.config)
	if p.growth = j.growth; p.growth != nil {
		go p.growth.watch(func() { p.stop(causeGrowth) })
	}
	stopContext := context.AfterFunc(ctx, func() { p.stop(causeContext) })
	p.release = func() { stopContext() }
	if !p.session {
		stopTimer := time.AfterFunc(p.limits.Wall-time.Since(p.begin), func() { p.stop(causeTimeout) })
		p.release = func() {
			stopTimer.Stop()
			stopContext()
		}
	}
	first, err := ask()
	if started, ok := first.(proto.Started); ok {
		p.lacks = append(lacking(p.level, started.Lacks), j.config.netLacks(started.Lacks)...)
		if p.lent, ok = p.files.lend(started.Files); !ok {
			err = errors.New("open files were lost: this process may have no room for more")
		} else if err = p.serveProxy(&j.config); err == nil {
			p.feed(j.config.Stdin)
			return p, nil
		}
	}
	p.shutdown() // whatever the helper is, it is not to be waited for
	p.finish.Do(p.end)
	if failure, ok := first.(proto.Failure); ok {
		return nil, explain(failure, j.request, &j.config)
	}
	if p.err == nil && p.stopped != causeNone { // the wall time was over before the start
		return p, nil
	}
	if p.stopped == causeContext {
		return nil, p.err
	}
	return nil, errors.Join(p.err, err)
}

// copy begins to read the output.
func (p *process) copy(c *Config) {
	full := func() {
		if c.StopAtOutput {
			p.stop(causeOutput)
		}
	}
	p.streams[0] = newCapture("Stdout", p.limits.Output, c.Stdout, full)
	p.streams[1] = newCapture("Stderr", p.limits.Output, c.Stderr, full)
	for i, f := range p.outputs {
		if f == nil {
			close(p.streams[i].done)
			continue
		}
		go p.streams[i].drain(f)
	}
}

// feed gives the command its input, of which nothing is read before there is one.
func (p *process) feed(input io.Reader) {
	if p.stdin == nil {
		return
	}
	if input == nil {
		p.stdin.Close()
		return
	}
	// Not waited for: it may sit in a Read that nobody can interrupt.
	go func() {
		source := &source{Reader: input}
		_, _ = io.Copy(p.stdin, source) // the command may well stop reading
		if source.err != nil {
			p.mu.Lock()
			p.stdinErr = &ErrStream{"Stdin", source.err}
			p.mu.Unlock()
		}
		p.stdin.Close()
	}()
}

// stop ends the tree; the first cause counts.
func (p *process) stop(why cause) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended || p.stopped != causeNone {
		return
	}
	p.stopped = why
	close(p.stopping)
	p.force = time.AfterFunc(killPatience, func() { _ = p.cmd.Process.Kill() })
	p.shutdown()
}

// shutdown tells the helper, in a way that needs no room in the socket and that
// the end of this process would tell as well.
func (p *process) shutdown() {
	raw, err := p.control.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// end waits for the end of the tree, frees everything and sets the result.
func (p *process) end() {
	p.listen()
	helper := p.reap()
	<-p.orders.done
	if p.orders.exit == nil || p.whole {
		p.shutdown()
		<-helper.gone
	}
	p.result.ProtectViolations = p.guard.violations()
	p.guard.end()
	p.closeProxy()
	for _, c := range p.streams {
		c.await(p.stopping)
	}
	p.result.Duration = time.Since(p.begin)
	whole := p.orders.exit == nil || p.whole
	if !whole {
		helper.queue(p.stopping)
	}
	p.release()
	p.grown = p.growth.stop()
	p.removePrivate()
	p.mu.Lock()
	p.ended = true
	if p.force != nil {
		p.force.Stop()
	}
	p.mu.Unlock()
	if p.stdin != nil {
		p.stdin.Close()
	}
	p.conclude(p.orders.exit, helper)
	p.control.Close() // which pid 1 waits for
	helper.leave(whole)
}

func (p *process) wait() (Result, error) {
	p.finish.Do(p.end)
	return p.result, p.err
}

func (p *process) terms() terms {
	return terms{policy: p.policy, limits: p.limits, level: p.level}
}

func (p *process) kill() { p.stop(causeKill) }

func (p *process) signal(sig syscall.Signal) error { return p.signalTo(sig, proto.TargetPayload) }

func (p *process) signalTo(sig syscall.Signal, target proto.Target) error {
	if sig <= 0 || sig > maxSignal {
		return &ErrConfig{"signal", fmt.Sprintf("no signal %d", int(sig))}
	}
	p.mu.Lock()
	over := p.ended || p.stopped != causeNone
	p.mu.Unlock()
	if over {
		return os.ErrProcessDone
	}
	if _, err := p.control.Write(proto.EncodeSignal(uint32(sig), target)); err != nil {
		return os.ErrProcessDone
	}
	return nil
}
