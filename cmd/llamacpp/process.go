package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// grace is how long a child may take to end its own children once told to stop.
const grace = 10 * time.Second

// child is a program that llamacpp runs.
type child struct {
	dir    string
	env    []string  // nil = the environment
	lock   *os.File  // kept open in the child, nil = none
	stdout io.Writer // nil = as stderr, into the error
	onLine func(string)
	args   []string
}

// run runs c to its end. When ctx ends, c and all it started are told to stop,
// then killed. A failure carries the last lines of output.
func (c child) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = c.env
	if c.lock != nil {
		cmd.ExtraFiles = []*os.File{c.lock}
	}
	cmd.SysProcAttr = childAttr()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	out := &lines{each: c.onLine}
	cmd.Stdout, cmd.Stderr = out, out
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}

	// The parent-death signal of childAttr is tied to this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if cmd.Process != nil && ctx.Err() != nil {
		// What ignored the request: the group is gone otherwise.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out.flush()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &childError{filepath.Base(c.args[0]), err, out.last}
	}
	return nil
}

// childError is a program that failed, with the last lines it printed.
type childError struct {
	program string
	err     error
	last    []string
}

func (e *childError) Error() string {
	s := e.program + ": " + e.err.Error()
	for _, line := range e.last {
		s += "\n  " + line
	}
	return s
}

func (e *childError) Unwrap() error { return e.err }

// reason picks the line that says why: git's and npm's own mark, else the last.
func (e *childError) reason() string {
	for _, line := range e.last {
		if rest, ok := strings.CutPrefix(line, "fatal: "); ok {
			return rest
		}
		for _, mark := range []string{"npm error ", "npm ERR! "} {
			if rest, ok := strings.CutPrefix(line, mark); ok && !strings.HasPrefix(rest, "code ") {
				return rest
			}
		}
	}
	if len(e.last) == 0 {
		return "it says nothing"
	}
	return e.last[len(e.last)-1]
}

// output runs c and returns what it printed, trimmed.
func (c child) output(ctx context.Context) (string, error) {
	var b strings.Builder
	c.stdout = &b
	err := c.run(ctx)
	return strings.TrimSpace(b.String()), err
}

// lines splits what is written to it into lines and keeps the last ones.
type lines struct {
	each func(string)
	part []byte
	last []string
}

const keptLines = 40

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for {
		// git ends the lines of its progress with a carriage return.
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.part = append(l.part, p...)
			return n, nil
		}
		l.part = append(l.part, p[:i]...)
		l.flush()
		p = p[i+1:]
	}
}

func (l *lines) flush() {
	if len(l.part) == 0 {
		return
	}
	s := string(l.part)
	l.part = l.part[:0]
	if len(l.last) == keptLines {
		l.last = append(l.last[:0], l.last[1:]...)
	}
	l.last = append(l.last, s)
	if l.each != nil {
		l.each(s)
	}
}
