package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Class D: nothing outlives its sandbox, no sandbox its caller.

func TestDaemonsEnd(t *testing.T) { // 69
	for name, command := range map[string]string{
		"setsid and nohup": "setsid nohup sleep %s >/dev/null 2>&1 & disown",
		"double fork":      "(setsid bash -c '(sleep %s & ) &' &)",
		"holds the output": "setsid sleep %s & disown",
		"stopped":          "sleep %s & until grep -qs sleep /proc/$!/comm; do :; done; kill -STOP $!; disown",
		"ignores signals":  "(trap '' TERM HUP INT; exec setsid sleep %s) & disown",
	} {
		t.Run(name, func(t *testing.T) {
			mark := marked(t, 300)
			r := run(t, Config{}, fmt.Sprintf(command, mark)+"\nuntil grep -qs sleep /proc/[0-9]*/comm; do :; done")
			require.Equal(t, 0, r.ExitCode)
			require.Empty(t, holders(t, mark), "Run returns when the last process is gone")
		})
	}
}

func TestGrandchildHoldsOutput(t *testing.T) { // 71
	mark := marked(t, 300)
	r := run(t, Config{}, fmt.Sprintf("(sleep %s; echo late) & echo early", mark))
	require.Equal(t, "early\n", string(r.Stdout))
	require.Equal(t, LimitNone, r.Limit, "it was not the wall time that ended it")
	require.Empty(t, holders(t, mark))
}

func TestOrphansAreReaped(t *testing.T) { // 72
	r := run(t, Config{}, `for i in {1..300}; do (true &) ; done
		for i in {1..100}; do grep -qs '^State:.Z' /proc/[0-9]*/status || { echo none; break; }; sleep 0.05; done`)
	require.Equal(t, "none\n", string(r.Stdout))
}

func init() {
	roles["caller"] = func() {
		r, err := Run(context.Background(), Config{}, os.Getenv("LM_SANDBOX_TEST_COMMAND"))
		fmt.Println(r, err)
	}
}

// again is this test binary in another role.
func again(role string, env ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe")
	c.Env = append(append(os.Environ(), env...), roleVar+"="+role)
	return c
}

func TestCallerKilled(t *testing.T) { // 70
	mark := marked(t, 300)
	c := again("caller", fmt.Sprintf("LM_SANDBOX_TEST_COMMAND=trap '' TERM HUP; setsid sleep %s & sleep %s", mark, mark))
	require.NoError(t, c.Start())
	seen(t, mark)
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
	gone(t, mark)
}

func TestLauncherKilled(t *testing.T) { // 70, the second belt
	mark := marked(t, 300)
	p, err := Start(background(t), Config{}, "sleep", mark)
	require.NoError(t, err)
	seen(t, mark)
	require.NoError(t, p.impl.cmd.Process.Kill())
	_, err = p.Wait()
	var setup *ErrSetup
	require.ErrorAs(t, err, &setup)
	gone(t, mark)
}

// The same at every moment of the start.
func TestLauncherKilledEarly(t *testing.T) {
	for d := time.Duration(0); d < 20*time.Millisecond; d += 500 * time.Microsecond {
		mark := marked(t, 300)
		c := Config{}
		request, limits, err := c.request("/bin/sleep", []string{"sleep", mark})
		require.NoError(t, err)
		p := newProcess()
		p.ctx, p.begin, p.limits, p.release = t.Context(), time.Now(), limits, func() {}
		rest, err := p.launch(&c, ready(request.Encode()), true, false)
		require.NoError(t, err)
		p.copy(&c)
		go func() {
			time.Sleep(d)
			_ = p.cmd.Process.Kill()
		}()
		_, _ = p.control.Write(rest) // it may be dead already
		begin := time.Now()
		_, err = p.wait()
		require.Error(t, err)
		require.Less(t, time.Since(begin), deadline)
		gone(t, mark)
	}
}

func TestContext(t *testing.T) { // 105
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Run(ctx, Config{}, "true")
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("during", func(t *testing.T) {
		mark := marked(t, 300)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			seen(t, mark)
			cancel()
		}()
		r, err := Run(ctx, Config{}, "echo some; sleep "+mark)
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, "some\n", string(r.Stdout))
		require.Equal(t, "SIGKILL", r.Signal)
		require.Empty(t, holders(t, mark))
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		r, err := Run(ctx, Config{}, "sleep 300")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, LimitNone, r.Limit, "it was not the limit of the sandbox")
	})
	t.Run("at any moment", func(t *testing.T) {
		for d := time.Duration(0); d < 30*time.Millisecond; d += 500 * time.Microsecond {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			_, err := Run(ctx, Config{}, "sleep 300")
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NotContains(t, err.Error(), "EOF")
		}
	})
	t.Run("wall at any moment", func(t *testing.T) { // 104: 1 ns too
		for d := time.Nanosecond; d < 20*time.Millisecond; d += time.Millisecond {
			r, err := Run(t.Context(), Config{Limits: Limits{Wall: d}}, "sleep 300")
			require.NoError(t, err)
			require.Equal(t, LimitTimeout, r.Limit)
		}
	})
}

func TestProcess(t *testing.T) { // 105
	ready := await("ready")
	p, err := Start(background(t), Config{Stdout: ready}, "bash", "-c",
		"trap 'echo got USR1; exit 9' USR1; echo ready; while :; do sleep 0.05; done")
	require.NoError(t, err)
	require.Error(t, p.Signal(0))
	require.Error(t, p.Signal(65))
	<-ready.found
	require.NoError(t, p.Signal(syscall.SIGUSR1))
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, 9, r.ExitCode)
	require.Equal(t, "ready\ngot USR1\n", string(r.Stdout))
	again, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.ErrorIs(t, p.Signal(9), os.ErrProcessDone)
	p.Kill()
	p.Kill()
}

// 66: sandboxes of one process know nothing of each other.
func TestConcurrent(t *testing.T) {
	var group sync.WaitGroup
	for i := range 24 {
		group.Go(func() {
			for range 3 {
				r, err := Run(t.Context(), Config{Stdin: strings.NewReader(fmt.Sprint(i))},
					"read n; echo $n > /tmp/n; sleep 0.05; p=(/proc/[0-9]*); echo ${#p[@]}; cat /tmp/n; exit $n")
				if err != nil || r.ExitCode != i || string(r.Stdout) != fmt.Sprintf("2\n%d\n", i) {
					t.Errorf("%d: %v %d %q %q", i, err, r.ExitCode, r.Stdout, r.Stderr)
				}
			}
		})
	}
	group.Wait()
}

// Whatever numbers the caller's open files have, the child's are right.
func TestManyOpenFiles(t *testing.T) {
	for range 100 {
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		defer f.Close()
		require.Equal(t, "x\n", string(run(t, Config{Stdin: strings.NewReader("x\n")}, "cat").Stdout))
	}
}

// 78: after many runs the host is as before.
func TestNoLeaks(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	count := func(pattern string) int {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		return len(files)
	}
	mounts := func() int {
		b, err := os.ReadFile("/proc/self/mountinfo")
		require.NoError(t, err)
		return strings.Count(string(b), "\n")
	}
	children := func() string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
		require.NoError(t, err)
		return string(b)
	}
	ws := t.TempDir()
	runAll := func(n int) {
		for i := range n {
			c := Config{}
			if i%2 == 0 {
				c.Workspace, c.Stdin = ws, strings.NewReader("input")
			}
			r := run(t, c, "sleep 300 & cat")
			require.Equal(t, 0, r.ExitCode)
		}
		// A refused one must leave as little.
		_, err := Start(t.Context(), Config{}, "/no/such/program")
		require.Error(t, err)
		swept(t)
	}
	// Run returns before the launcher and its pidfd are gone.
	gone := func() bool { return children() == "" }
	runAll(2)
	require.Eventually(t, gone, patience, time.Millisecond, "processes")
	fds, before := count("/proc/self/fd/*"), mounts()
	runAll(200)
	require.Eventually(t, gone, patience, time.Millisecond, "processes")
	require.Eventually(t, func() bool { return count("/proc/self/fd/*") <= fds }, patience, time.Millisecond, "open files")
	require.Equal(t, before, mounts(), "mounts")
	require.Equal(t, 0, count(filepath.Join(temp, "*")), "temporary files")
	require.Equal(t, 0, count(filepath.Join(ws, "*")), "files in the workspace")
}

// Launchers that are stuck hold up what comes after them no longer than its context,
// its Limits.Wall or a Kill.
func TestRemainsStuck(t *testing.T) {
	swept(t)
	for range maxRemains {
		remaining <- struct{}{}
	}
	defer func() {
		for range maxRemains {
			<-remaining
		}
	}()
	for name, start := range map[string]func() (*Process, error){
		"context": func() (*Process, error) {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			t.Cleanup(cancel)
			return Start(ctx, Config{}, "true")
		},
		"wall": func() (*Process, error) {
			return Start(t.Context(), Config{Limits: Limits{Wall: deadline}}, "true")
		},
		"kill": func() (*Process, error) {
			p, err := Start(t.Context(), Config{}, "true")
			if err == nil {
				time.AfterFunc(deadline, p.Kill)
			}
			return p, err
		},
	} {
		begin := time.Now()
		p, err := start()
		require.NoError(t, err, name)
		r, err := p.Wait()
		require.NoError(t, err, name)
		require.Equal(t, 0, r.ExitCode, name)
		require.Equal(t, LimitNone, r.Limit, name)
		require.Less(t, time.Since(begin), 2*deadline, name)
	}
}
