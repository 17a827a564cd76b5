package sandbox

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"golang.org/x/sys/unix"
)

// conclude makes the result from the EXIT frame, or from the cause for which
// there is none.
func (p *process) conclude(frame any, helper *remains) {
	r := &p.result
	r.Level, r.Lacks = p.level, p.lacks
	out, errs := p.streams[0], p.streams[1]
	r.Stdout, r.StdoutTruncated = out.kept, out.truncated
	r.Stderr, r.StderrTruncated = errs.kept, errs.truncated
	r.Net, r.NetTruncated = p.net()
	p.mu.Lock()
	p.err = errors.Join(out.liveErr, errs.liveErr, p.stdinErr)
	p.mu.Unlock()

	e, ok := frame.(proto.Exit)
	r.Usage = p.account(e)
	if ok {
		r.status(syscall.WaitStatus(e.WaitStatus))
		r.Limit = p.limits.hit(r, e.Hit)
		if p.stopped == causeOutput {
			r.Limit = LimitOutput
		}
		if p.grown {
			r.Limit = LimitDisk
		}
		return
	}
	r.killed()
	switch p.stopped {
	case causeTimeout:
		r.Limit = LimitTimeout
	case causeOutput:
		r.Limit = LimitOutput
	case causeGrowth:
		r.Limit = LimitDisk
	case causeKill:
	case causeContext:
		p.err = errors.Join(fmt.Errorf("sandbox: %w", p.ctx.Err()), p.err)
	default:
		if p.group != nil && p.group.Kills.Read() > 0 { // the victim was the sandbox's own pid 1
			r.Limit = LimitMemory
			return
		}
		if p.orders.failed != nil {
			p.err = errors.Join(p.orders.failed, p.err)
			return
		}
		err := helper.err
		if err == nil {
			err = errors.New("it ended without a result")
		}
		p.err = &ErrSetup{"talk to the helper", "it was killed, or is of another release", err}
	}
}

func (r *Result) status(s syscall.WaitStatus) {
	if s.Signaled() {
		r.Signal = signalName(s.Signal())
		r.ExitCode = 128 + int(s.Signal())
		return
	}
	r.ExitCode = s.ExitStatus()
}

// signalName counts real-time signals as the C library and kill(1) do.
func signalName(s syscall.Signal) string {
	const sigRTMin = 34
	if n := int(s) - sigRTMin; n >= 0 {
		return fmt.Sprintf("SIGRTMIN+%d", n)
	}
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return fmt.Sprintf("SIG%d", int(s))
}

func (r *Result) killed() {
	r.Signal = "SIGKILL"
	r.ExitCode = 128 + int(unix.SIGKILL)
}

// hit names the limit behind an end. A shell passes a child's signal on as its
// own exit code, which other programs may use as they like: it counts only
// beside what was used. Ticks of the kernel's clock blur the time.
func (l Limits) hit(r *Result, h proto.Hit) LimitKind {
	by := func(s syscall.Signal) bool { return r.ExitCode == 128+int(s) }
	cpu := time.Duration(l.cpuSeconds()) * time.Second
	switch {
	case h&proto.HitMemory != 0:
		return LimitMemory
	case h&proto.HitCPU != 0:
		return LimitCPU
	case (by(unix.SIGXCPU) || by(unix.SIGKILL)) && r.Usage.CPU >= cpu*3/4:
		return LimitCPU
	case by(unix.SIGXFSZ) && (r.Signal != "" || h&proto.HitDisk != 0):
		return LimitDisk
	case r.ExitCode == 0:
		return LimitNone
	case h&proto.HitTasks != 0:
		return LimitPids
	case h&proto.HitFiles != 0:
		return LimitFiles
	case h&proto.HitDisk != 0:
		return LimitDisk
	}
	return LimitNone
}
