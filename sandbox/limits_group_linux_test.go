package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/cgroup"
	"github.com/stretchr/testify/require"
)

// needGroup skips a test of what only a control group does.
func needGroup(t *testing.T) {
	t.Helper()
	if _, err := cgroup.Probe(); err != nil {
		t.Skip("needs a control group: it is about what only one of them counts")
	}
}

// withoutGroups is a host that has none.
func withoutGroups(t *testing.T) {
	t.Helper()
	newGroup = func(cgroup.Limits) (*cgroup.Group, error) { return nil, cgroup.ErrNone }
	t.Cleanup(func() { newGroup = cgroup.New })
}

func TestGroupLevel(t *testing.T) {
	needGroup(t)
	r := run(t, Config{MinLevel: LevelCgroup, Limits: Limits{Memory: 64 << 20}}, "cat /proc/self/cgroup; ls /sys; head -c 20M /dev/zero > /tmp/x; for i in 1 2 3; do sleep 0.1 & done; wait")
	t.Logf("%+v %s", r.Usage, r.Stdout)
	require.Equal(t, LevelCgroup, r.Level)
	require.Greater(t, r.Usage.MemoryPeak, int64(20<<20))
	require.Less(t, r.Usage.MemoryPeak, int64(64<<20+overhead))
	require.GreaterOrEqual(t, r.Usage.PidsPeak, int64(4))
	require.Positive(t, r.Usage.CPU)
	require.Less(t, r.Usage.CPU, 5*time.Second)
	withoutGroups(t)
	_, err := Run(t.Context(), Config{MinLevel: LevelCgroup}, "true")
	var level *ErrLevel
	require.ErrorAs(t, err, &level)
	require.Equal(t, LevelNamespaces, level.Have)
	require.NotEmpty(t, level.Remedy)
	require.Equal(t, LevelNamespaces, run(t, Config{}, "true").Level)
}

// 51, 52, 62: what pid 1 could not see, or only late, counts in a group.
func TestGroupMemory(t *testing.T) {
	needGroup(t)
	const little, more = 24 << 20, 48 << 20
	tests := map[string]struct {
		memory  int64
		command string
	}{
		"tmpfs":         {little, "head -c 100M /dev/zero > /tmp/f"},
		"shared memory": {little, "head -c 100M /dev/zero > /dev/shm/f"},
		"pipes":         {little, until(fillPipe, "fill()") + " & " + until(fillPipe, "fill()")},
		"sockets":       {little, until(fillSocket, "fill()")},
		"many small":    {little, "for i in {1..60}; do /opt/probe memory 2 20000 & done; wait"},
		"one":           {more, "python3 -c 'b\"x\" * (72 << 20)'"},
		"of a child":    {more, "python3 -c 'b\"x\" * (72 << 20)'; echo survived"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := probed(Config{Limits: Limits{Memory: tc.memory, Wall: 20 * time.Second}})
			r := run(t, c, tc.command)
			require.Equal(t, LimitMemory, r.Limit, "%s%s", r.Stdout, r.Stderr)
			require.Equal(t, "SIGKILL", r.Signal)
			const batch = 1 << 20 // the kernel charges ahead
			require.LessOrEqual(t, r.Usage.MemoryPeak, tc.memory+overhead+batch)
			c.Limits.Memory, c.Limits.Wall = DefaultMemory, time.Second
			require.NotEqual(t, LimitMemory, run(t, c, tc.command).Limit, "the control")
		})
	}
}

// What is reserved and not used is no memory to the group.
func TestGroupReserves(t *testing.T) {
	needGroup(t)
	const reserve = "python3 -c 'import mmap; m = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); m[1 << 39] = 7; print(m[1 << 39])'"
	r := run(t, Config{Limits: Limits{Memory: 64 << 20}}, reserve)
	require.Equal(t, "7\n", string(r.Stdout), "%s", r.Stderr)
	require.Less(t, r.Usage.MemoryPeak, int64(64<<20))
	withoutGroups(t)
	require.Contains(t, string(run(t, Config{}, reserve).Stderr), "Cannot allocate memory", "the control")
}

func TestGroupCPUs(t *testing.T) {
	needGroup(t)
	const spin = "for i in 1 2 3 4; do (while :; do :; done) & done; sleep 1; exit 0"
	slow := run(t, Config{Limits: Limits{CPUs: 0.1}}, spin)
	require.Equal(t, LimitNone, slow.Limit)
	require.Less(t, slow.Usage.CPU, 500*time.Millisecond)
	require.Greater(t, run(t, Config{}, spin).Usage.CPU, slow.Usage.CPU, "the control")
}

// 68
func TestGroupRates(t *testing.T) {
	needGroup(t)
	ws := t.TempDir()
	for flag, l := range map[string]Limits{
		"if=/dev/zero of=f oflag=direct": {WriteRate: 2 << 20}, "if=f of=/dev/null iflag=direct": {ReadRate: 2 << 20},
	} {
		require.NoError(t, os.WriteFile(filepath.Join(ws, "f"), make([]byte, 3<<20), 0o666))
		require.NoError(t, os.Chmod(filepath.Join(ws, "f"), 0o666))
		command := "dd bs=256k count=12 " + flag
		free := run(t, Config{Workspace: ws}, command)
		require.Equal(t, 0, free.ExitCode, "%s", free.Stderr)
		bound := run(t, Config{Workspace: ws, Limits: l}, command)
		require.Equal(t, 0, bound.ExitCode, "%s", bound.Stderr)
		require.Greater(t, bound.Duration, 750*time.Millisecond, flag)
		require.Less(t, free.Duration, bound.Duration, "the control")
		require.GreaterOrEqual(t, bound.Usage.ReadBytes+bound.Usage.WriteBytes, int64(3<<20))
	}
}

func TestGroupNeeded(t *testing.T) {
	withoutGroups(t)
	for _, l := range []Limits{{CPUs: 1}, {ReadRate: 1}, {WriteRate: 1}} {
		_, err := Run(t.Context(), Config{Limits: l}, "true")
		var level *ErrLevel
		require.ErrorAs(t, err, &level)
		require.Equal(t, LevelCgroup, level.Want)
	}
}

func init() {
	roles["orphan"] = func() {
		_, err := Start(context.Background(), Config{MinLevel: LevelCgroup}, "sleep", "1000")
		fmt.Println("started", err)
		select {}
	}
	roles["sweeper"] = func() {
		_, err := Run(context.Background(), Config{MinLevel: LevelCgroup}, "sleep 0.2")
		fmt.Println("ended", err)
	}
}

// 78: the groups of a killed caller are removed by a later one, those of others are not.
func TestGroupSwept(t *testing.T) {
	needGroup(t)
	alive, err := Start(background(t), Config{}, "sleep", "1000")
	require.NoError(t, err)
	c := again("orphan")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "started <nil>\n", line)
	require.NotEmpty(t, ownGroups(t, c.Process.Pid))
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
	require.NotEmpty(t, ownGroups(t, c.Process.Pid), "the control")
	require.Eventually(t, func() bool {
		out, err := again("sweeper").CombinedOutput()
		require.NoError(t, err)
		require.Equal(t, "ended <nil>\n", string(out))
		return len(ownGroups(t, c.Process.Pid)) == 0
	}, patience, time.Millisecond)
	require.NotEmpty(t, ownGroups(t, os.Getpid()), "of a living process")
	alive.Kill()
	_, err = alive.Wait()
	require.NoError(t, err)
	groupsGo(t)
}
