package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cli is a running lm-sandbox.
type cli struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  *os.File // our end of the pipe
	stdout io.ReadCloser
	stderr bytes.Buffer
}

// start runs this test binary as lm-sandbox. It is killed when the test ends.
func start(t *testing.T, args ...string) *cli {
	t.Helper()
	stdin, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c := &cli{t: t, cmd: exec.Command("lm-sandbox", args...), stdin: ours}
	c.cmd.Stdin, c.cmd.Stderr = stdin, &c.stderr
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = stdin.Close()
	t.Cleanup(func() {
		_ = ours.Close()
		c.kill()
	})
	return c
}

// kill ends the CLI if it was not waited for.
func (c *cli) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// read returns stdout up to and including the first until.
func (c *cli) read(until string) string {
	c.t.Helper()
	var got []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(got), until) {
		if _, err := c.stdout.Read(one); err != nil {
			c.t.Fatalf("stdout ended with %q before %q: %v; stderr: %s", got, until, err, &c.stderr)
		}
		got = append(got, one[0])
	}
	return string(got)
}

// signal sends s to the CLI.
func (c *cli) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// wait returns the exit code, 128+n for death by signal n, as a shell has it.
func (c *cli) wait() int {
	c.t.Helper()
	_ = c.cmd.Wait() // the state says it all
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		c.t.Fatalf("no wait status: %v", c.cmd.ProcessState)
	}
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// process names one process for good: pids are used again, with another start time.
type process struct {
	pid     int
	started string // field 22 of /proc/PID/stat, in clock ticks since boot
	name    string
}

func (p process) String() string { return fmt.Sprintf("%s (pid %d)", p.name, p.pid) }

// statOf reads /proc/PID/stat. A zombie counts as dead: it runs nothing, and whoever
// adopted it may take its time to bury it.
func statOf(pid int) (p process, parent int, alive bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, 0, false
	}
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:]) // field 3 of the line is the first
	parent, err = strconv.Atoi(fields[1])
	return process{pid, fields[19], text[open+1 : end]}, parent, err == nil && fields[0] != "Z" && fields[0] != "X"
}

func (p process) alive() bool {
	now, _, alive := statOf(p.pid)
	return alive && now.started == p.started
}

// descendants are the processes that c started, and theirs, at this moment.
func (c *cli) descendants() []process {
	c.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Fatal(err)
	}
	children := map[int][]process{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if p, parent, alive := statOf(pid); alive {
				children[parent] = append(children[parent], p)
			}
		}
	}
	all := children[c.cmd.Process.Pid]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// wantDead fails the test unless all of these are dead in the end; the kernel may take its time on a busy machine.
func wantDead(t *testing.T, processes []process) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, p := range processes {
		for p.alive() {
			if time.Now().After(deadline) {
				t.Errorf("%v is still alive", p)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// awaitDescendant returns the descendants of c once one of them has the name: what is to
// be found dead must have lived.
func (c *cli) awaitDescendant(name string) []process {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		processes := c.descendants()
		for _, p := range processes {
			if p.name == name {
				return processes
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no process %q among %v", name, processes)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
