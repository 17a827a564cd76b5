package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

const (
	roleVar  = "LM_SANDBOX_TEST_ROLE"  // this binary is to be something else than the tests
	probeVar = "LM_SANDBOX_TEST_PROBE" // the probe, built already
	// deadline is five times what the contract gives a tree to be gone.
	deadline = 5 * time.Second
	// patience is for what comes about sooner or later, on a machine that is busy with something else too.
	patience = time.Minute
)

// roles are what this binary does when a test starts it again.
var roles = map[string]func(){}

var probePath = os.Getenv(probeVar)

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv(roleVar)]; ok {
		role()
		return
	}
	if words := os.Getenv(refuseVar); words != "" {
		if err := refuseCalls(words, false); err != nil {
			fmt.Fprintln(os.Stderr, "knob:", err)
			os.Exit(1)
		}
	}
	dir, err := os.MkdirTemp("", "lm-sandbox-test-")
	if err == nil && probePath == "" {
		probePath = filepath.Join(dir, "probe")
		build := exec.Command("go", "build", "-o", probePath, "./internal/probe")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build of the probe:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// needRoot skips a test of what only a root caller can do.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs a root caller: it is about dropping root and about directories of root")
	}
}

// run runs a command that is expected to be run.
func run(t *testing.T, c Config, command string) Result {
	t.Helper()
	r, err := Run(t.Context(), c, command)
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Level, LevelNamespaces)
	return r
}

// probed adds the probe to a sandbox, as /opt/probe.
func probed(c Config) Config {
	c.Binds = append(c.Binds, Bind{Source: probePath, Target: "/opt/probe"})
	return c
}

func inside(t *testing.T, c Config, args string) string {
	t.Helper()
	r := run(t, probed(c), "/opt/probe "+args)
	if r.Signal != "" {
		return r.Signal
	}
	require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
	return strings.TrimSpace(string(r.Stdout))
}

// outside runs the probe without a sandbox: to show that it can succeed.
func outside(t *testing.T, args string, attr *syscall.SysProcAttr) string {
	t.Helper()
	c := exec.Command(probePath, strings.Fields(args)...)
	c.SysProcAttr = attr
	out, err := c.Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// namespaced is root in namespaces of its own, where changing mounts is harmless.
func namespaced() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// where a control runs.
type where int

const (
	nowhere      where = iota // it would not be harmless, or not possible
	onHost                    // as the caller
	onHostAsRoot              // as the caller, if that is root
	inNamespace
)

// attack is a row of a table: one thing that must fail.
type attack struct {
	number  int    // of the case in the list of cases
	probe   string // and its arguments
	want    string // outcome inside; several with |
	where   where  // of the control
	control string // outcome there, which must differ; several with |, or * for any other
}

func attempt(t *testing.T, rows []attack) {
	for _, a := range rows {
		t.Run(fmt.Sprintf("%s%d %s", class(a.number), a.number, strings.ReplaceAll(a.probe, "/", "|")), func(t *testing.T) {
			want, control := strings.Split(a.want, "|"), strings.Split(a.control, "|")
			for _, w := range want {
				require.NotContains(t, control, w, "a probe that cannot fail")
			}
			switch {
			case a.where == onHost, a.where == onHostAsRoot && os.Geteuid() == 0:
				a.check(t, control, outside(t, a.probe, nil))
			case a.where == inNamespace:
				a.check(t, control, outside(t, a.probe, namespaced()))
			}
			require.Contains(t, want, inside(t, Config{}, a.probe))
		})
	}
}

// check compares what happened outside.
func (a attack) check(t *testing.T, control []string, got string) {
	t.Helper()
	if a.control == "*" {
		require.NotContains(t, strings.Split(a.want, "|"), got, "the control")
		return
	}
	require.Contains(t, control, got, "the control")
}

// marked returns an argument for sleep that no other process has.
func marked(t *testing.T, seconds int) string {
	t.Helper()
	return fmt.Sprintf("%d.%09d%d", seconds, os.Getpid(), time.Now().UnixNano())
}

// holders are the processes of the host that have mark in their arguments.
func holders(t *testing.T, mark string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var pids []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, []byte(mark)) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits for the end of every process with mark.
func gone(t *testing.T, mark string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(holders(t, mark)) == 0 }, deadline, 10*time.Millisecond,
		"processes are left: %v", holders(t, mark))
}

func seen(t *testing.T, mark string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(holders(t, mark)) > 0 }, patience, 5*time.Millisecond,
		"the process never appeared")
}

// swept waits until nothing of earlier sandboxes is left to be taken down.
func swept(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return len(remaining) == 0 }, patience, time.Millisecond)
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
