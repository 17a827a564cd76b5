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
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
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

// helperInChild is the second of the child's extra files. Only such a number is
// certain: os/exec overwrites others while it arranges the child's files.
const helperInChild = "/proc/self/fd/4"

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

	result          Result // valid once finish is done
	err             error
	killedForMemory bool
	grown           bool // the workspace, too much
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
	if p.guard, err = c.guard(); err != nil {
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

// launch starts the helper with pipes for the streams of a command. The request
// is made, with the control groups of v1, and sent meanwhile; what the socket does
// not take at once is returned.
func (p *process) launch(c *Config, request func() ([]byte, error), outputs, input bool) ([]byte, error) {
	if len(helper.Binary()) == 0 {
		return nil, fmt.Errorf("%w: no helper for this architecture", ErrUnsupported)
	}
	path, extra := c.HelperPath, []*os.File(nil)
	if path == "" {
		path = namedHelper()
	}
	if path == "" {
		file, err := helper.File()
		if err != nil {
			remedy := "memory of the caller"
			if errors.Is(err, helper.ErrMemfd) {
				remedy = "set Config.HelperPath to an installed one"
			}
			return nil, &ErrSetup{"load the helper", remedy, err}
		}
		path, extra = helperInChild, []*os.File{file}
	}
	var ours, theirs []*os.File
	fail := func(err error) ([]byte, error) {
		for _, f := range append(ours, theirs...) {
			f.Close()
		}
		return nil, &ErrSetup{"start the helper", path, err}
	}
	control, child, err := socketPair()
	if err != nil {
		return fail(err)
	}
	ours, theirs = append(ours, control), append(theirs, child)
	p.cmd = &exec.Cmd{
		Path: path, Args: []string{"lm-sandbox-helper"}, Env: []string{}, ExtraFiles: append(theirs[:1:1], extra...),
		// No terminal of the caller's, nor the signals that it sends to its group.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if outputs {
		for i := range p.outputs {
			r, w, err := os.Pipe()
			if err != nil {
				return fail(err)
			}
			p.outputs[i] = r
			ours, theirs = append(ours, r), append(theirs, w)
		}
		p.cmd.Stdout, p.cmd.Stderr = theirs[1], theirs[2]
	}
	if input {
		r, w, err := os.Pipe()
		if err != nil {
			return fail(err)
		}
		ours, theirs = append(ours, w), append(theirs, r)
		p.cmd.Stdin, p.stdin = r, w
	}
	p.control = control
	p.files = receiver{file: control}
	var rest []byte
	asked := make(chan error, 1)
	ask := func() {
		b, err := request()
		if err == nil {
			rest, err = offer(control, b)
		}
		asked <- err
	}
	if !cgroup.AtStart() {
		go ask()
	} else if ask(); p.group != nil && p.group.Dir != nil {
		p.cmd.SysProcAttr.UseCgroupFD, p.cmd.SysProcAttr.CgroupFD = true, int(p.group.Dir.Fd())
	}
	started := p.cmd.Start()
	if err := <-asked; err != nil {
		if started == nil {
			control.Close() // so that it ends
			_ = p.cmd.Wait()
		}
		_, _ = fail(nil)
		return nil, err
	}
	if started != nil {
		return fail(started)
	}
	for _, f := range theirs {
		f.Close()
	}
	return rest, nil
}

// ready is a request that is made already.
func ready(b []byte) func() ([]byte, error) {
	return func() ([]byte, error) { return b, nil }
}

// offer writes what a socket takes without waiting, and returns the rest.
func offer(socket *os.File, b []byte) (rest []byte, err error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, err
	}
	var sent int
	var errno error
	err = raw.Write(func(fd uintptr) bool {
		sent, errno = unix.Write(int(fd), b)
		return true
	})
	if errors.Is(errno, unix.EAGAIN) {
		return b, err
	}
	return b[max(sent, 0):], errors.Join(err, errno)
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

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	// Only this side polls; the helper blocks.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control"), nil
}

// ask sends the rest of the request and reads the first answer.
func (p *process) ask(rest []byte) (any, error) {
	// A helper that gave up has said why before it closed the socket.
	_, werr := p.control.Write(rest)
	frame, err := proto.Read(&p.files)
	if err != nil {
		return nil, errors.Join(werr, err)
	}
	return frame, nil
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
		<-helper.gone
	}
	p.result.ProtectViolations = p.guard.violations()
	p.guard.end()
	p.closeProxy()
	for _, c := range p.streams {
		c.await(p.stopping)
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
	p.control.Close()
	if p.stdin != nil {
		p.stdin.Close()
	}
	p.conclude(p.orders.exit, helper)
	helper.leave(p.orders.exit == nil || p.whole)
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
