package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The storm: runs at random, each disturbed at a random moment, in a process that
// inherits all orphans of its descendants. After each batch nothing may be left.

const (
	stormVar   = "LM_SANDBOX_TEST_STORM" // "RUNS SEED"
	stormBatch = 50
	workers    = 4
)

func TestStorm(t *testing.T) { // 78
	seed := rand.Uint64()
	dir := t.TempDir()
	c := again("storm", fmt.Sprintf("%s=%d %d", stormVar, stormRuns, seed), "TMPDIR="+dir)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	require.NoError(t, err, "seed %d: %s%s", seed, out, stderr.String())
	t.Logf("seed %d: %s", seed, out)
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "temporary files")
}

func init() {
	roles["storm"] = func() {
		var runs int
		var seed uint64
		if _, err := fmt.Sscan(os.Getenv(stormVar), &runs, &seed); err != nil {
			stormFailed(err)
		}
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			stormFailed(err)
		}
		s := &storm{ws: filepath.Join(os.TempDir(), "workspace")}
		if err := os.Mkdir(s.ws, 0o755); err != nil {
			stormFailed(err)
		}
		for range 2 { // what is opened once for all
			_, err := Run(context.Background(), Config{Workspace: s.ws}, "true")
			if err != nil {
				stormFailed(err)
			}
		}
		for len(remaining) > 0 { // of earlier runs
			time.Sleep(time.Millisecond)
		}
		before := s.look()
		for n := 0; n < runs; n += stormBatch {
			s.batch(min(stormBatch, runs-n), rand.New(rand.NewPCG(seed, uint64(n))))
			if err := s.calm(before); err != nil {
				stormFailed(fmt.Errorf("after %d runs: %w", n+stormBatch, err))
			}
		}
		if err := os.RemoveAll(s.ws); err != nil {
			stormFailed(err)
		}
		fmt.Printf("%d runs: %d ended as they should, %d were cut short, %d kills\n", runs, s.whole.Load(), s.cut.Load(), s.kills.Load())
	}
	// Any new caller removes the control groups of dead ones.
	roles["storm-next"] = func() {
		_, _ = Run(context.Background(), Config{}, "true")
		time.Sleep(50 * time.Millisecond)
	}
	// Runs commands until it is killed.
	roles["storm-caller"] = func() {
		fmt.Println("ready")
		for {
			s, err := NewSession(context.Background(), Config{})
			if err == nil {
				_, _ = s.Exec(context.Background(), "setsid sleep 300 & true")
			}
			_, _ = Run(context.Background(), Config{}, "setsid sleep 300 & true")
			if err == nil {
				_ = s.Close()
			}
		}
	}
}

func stormFailed(err error) {
	fmt.Println(err)
	os.Exit(1)
}

type storm struct {
	ws                string
	whole, cut, kills atomic.Int64
	dead              sync.Map // callers that were killed, by the text of their pid
}

func (s *storm) batch(n int, r *rand.Rand) {
	jobs := make(chan uint64)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for seed := range jobs {
				begin := time.Now()
				if err := s.one(rand.New(rand.NewPCG(seed, 1))); err != nil {
					stormFailed(fmt.Errorf("job %d: %w", seed, err))
				}
				if took := time.Since(begin); took > 6*deadline {
					stormFailed(fmt.Errorf("job %d took %v", seed, took))
				}
			}
		})
	}
	for range n {
		jobs <- r.Uint64()
	}
	close(jobs)
	group.Wait()
}

// one is one run and what disturbs it.
func (s *storm) one(r *rand.Rand) error {
	moment, whom := time.Duration(r.IntN(25_000))*time.Microsecond, r.Uint64()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := Config{Limits: Limits{Wall: 20 * time.Second}}
	if r.IntN(2) == 0 {
		c.Workspace = s.ws
	}
	switch r.IntN(10) {
	case 0, 1: // the context ends
		defer time.AfterFunc(moment, cancel).Stop()
	case 2, 3, 4: // somebody of the tree is killed: launcher, pid 1, command, or a child of it
		defer time.AfterFunc(moment, func() { s.strike(whom, unix.SIGKILL) }).Stop()
	case 5: // stopped for a while, in which the context ends
		defer time.AfterFunc(moment, func() {
			s.strike(whom, unix.SIGSTOP)
			cancel()
		}).Stop()
	case 6:
		return s.cutRequest(r)
	case 7:
		return s.killCaller(r)
	case 8:
		c.Limits.Wall = max(moment, 1)
	}
	if r.IntN(3) == 0 {
		return s.session(ctx, c)
	}
	result, err := Run(ctx, c, "setsid sleep 300 & (sleep 0.00$((RANDOM%10))); echo done; exit 3")
	if result.ExitCode == 3 && err == nil {
		s.whole.Add(1)
		if string(result.Stdout) != "done\n" {
			return fmt.Errorf("a whole run has the output %q", result.Stdout)
		}
		return nil
	}
	s.cut.Add(1)
	return expected(err)
}

func (s *storm) session(ctx context.Context, c Config) error {
	session, err := NewSession(ctx, c)
	if err != nil {
		s.cut.Add(1)
		return expected(err)
	}
	_, err = session.Exec(ctx, "setsid sleep 300 & echo $$; sleep 0.00$((RANDOM%10))")
	s.cut.Add(1)
	return errors.Join(expected(err), session.Close())
}

// expected passes the errors of a tree that was killed or a call that was stopped.
func expected(err error) error {
	var setup *ErrSetup
	var exited *ErrShellExited
	if err == nil || errors.As(err, &setup) || errors.As(err, &exited) || errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
		return nil
	}
	return fmt.Errorf("%T %w", err, err)
}

// strike sends a signal to a descendant that is no copy of this program.
func (s *storm) strike(pick uint64, signal unix.Signal) {
	list := descendants(os.Getpid())
	if len(list) == 0 {
		return
	}
	pid := list[pick%uint64(len(list))]
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// It is what the descriptor is of, if it is still there.
	if !slices.Contains(descendants(os.Getpid()), pid) || unix.PidfdSendSignal(fd, signal, nil, 0) != nil {
		return
	}
	s.kills.Add(1)
	if signal == unix.SIGSTOP {
		time.Sleep(time.Duration(pick%30) * time.Millisecond)
		_ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
	}
}

// cutRequest tells a helper the beginning of a request and is gone.
func (s *storm) cutRequest(r *rand.Rand) error {
	c := Config{Workspace: s.ws}
	request, _, err := c.request("/bin/sleep", []string{"sleep", "300"})
	if err != nil {
		return err
	}
	whole := request.Encode()
	file, err := helper.File()
	if err != nil {
		return err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: helperInChild, Args: []string{"helper"}, Env: []string{}, ExtraFiles: []*os.File{theirs, file}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return err
	}
	_, _ = ours.Write(whole[:r.IntN(len(whole)+1)])
	time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond) // it may be anywhere in its work
	ours.Close()
	hangs := time.AfterFunc(deadline, func() { stormFailed(errors.New("a helper without a caller does not end")) })
	defer hangs.Stop()
	_ = cmd.Wait()
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() != unix.SIGKILL { // somebody else's strike
		return fmt.Errorf("the helper was ended by %v", status.Signal())
	}
	s.cut.Add(1)
	return nil
}

// killCaller kills a Go process that has sandboxes.
func (s *storm) killCaller(r *rand.Rand) error {
	c := again("storm-caller")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return err
	}
	_, _ = bufio.NewReader(out).ReadString('\n')
	time.Sleep(time.Duration(r.IntN(40)) * time.Millisecond)
	_ = c.Process.Kill()
	_ = c.Wait()
	s.dead.Store(strconv.Itoa(c.Process.Pid), true)
	s.cut.Add(1)
	return nil
}

// stormState is what must be the same afterwards.
type stormState struct{ Files, Mounts, Groups, Workspace, Temporary, Children int }

func (s *storm) look() stormState {
	count := func(pattern string) int { names, _ := filepath.Glob(pattern); return len(names) }
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	return stormState{
		Files: count("/proc/self/fd/*"), Mounts: strings.Count(string(mounts), "\n"), Workspace: count(os.TempDir() + "/workspace/*"),
		Temporary: count(os.TempDir() + "/*"), Groups: len(s.groups()), Children: len(descendants(os.Getpid())),
	}
}

// calm waits until all is as before.
func (s *storm) calm(before stormState) error {
	var now stormState
	for begin := time.Now(); time.Since(begin) < 2*deadline; time.Sleep(5 * time.Millisecond) {
		for { // all runs are over: what is left to be reaped are orphans
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if now = s.look(); now == before {
			return nil
		}
		if now.Groups > before.Groups {
			_ = again("storm-next").Run()
		}
	}
	return fmt.Errorf("%+v, and before it was %+v; processes %q, groups %q", now, before, childStats(), s.groups())
}

// groups are the control groups made by this process or by callers that were killed.
func (s *storm) groups() []string {
	var groups []string
	for _, pattern := range []string{"/sys/fs/cgroup/*lm-sandbox*", "/sys/fs/cgroup/*/*lm-sandbox*", "/sys/fs/cgroup/*/*/*lm-sandbox*"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			f := strings.Split(filepath.Base(name), ".")
			if len(f) < 2 {
				continue
			}
			if _, dead := s.dead.Load(f[1]); dead || f[1] == strconv.Itoa(os.Getpid()) {
				groups = append(groups, name)
			}
		}
	}
	return groups
}

// descendants are all processes below one, but not copies of this program.
func descendants(pid int) []int {
	var all []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child)); err != nil || exe != stormExe {
				all = append(all, child)
			}
			all = append(all, descendants(child)...)
		}
	}
	return all
}

// childStats are the lines of /proc/PID/stat of all descendants.
func childStats() []string {
	var stats []string
	for _, pid := range descendants(os.Getpid()) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		stats = append(stats, string(b))
	}
	return stats
}

var stormExe, _ = os.Readlink("/proc/self/exe")
