package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	v1Mounts = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	// A container that sees its own part of the hierarchy only.
	partMounts = `35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
41 31 0:38 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw
`
)

func TestDirectories(t *testing.T) {
	tests := map[string]struct {
		paths, mounts string
		want          map[string]string
	}{
		"v1": {"4:memory:/api/x\n1:cpu,cpuacct:/\n0::/\n", v1Mounts, map[string]string{
			"memory": "/sys/fs/cgroup/memory/api/x", "cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
			"": "/sys/fs/cgroup/unified",
		}},
		"part":          {"4:memory:/docker/abc\n0::/docker/abc/sub\n", partMounts, map[string]string{"memory": "/sys/fs/cgroup/memory", "": "/sys/fs/cgroup/sub"}},
		"another part":  {"4:memory:/docker/abcd\n0::/other\n", partMounts, map[string]string{}},
		"above":         {"0::/../..\n", v1Mounts, map[string]string{}},
		"a named one":   {"1:name=systemd:/\n", v1Mounts, map[string]string{}},
		"nothing":       {"", "", map[string]string{}},
		"not a mount":   {"4:memory:/\n", "garbage\n", map[string]string{}},
		"not a process": {"garbage\n", v1Mounts, map[string]string{}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tc.want, directories(tc.paths, tc.mounts))
		})
	}
}

func TestGaugeRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("low 1\noom 2\noom_kill 3\noom_group_kill 4\n"), 0o644))
	for key, want := range map[string]int64{"low ": 1, "oom ": 2, "oom_kill ": 3, "kill ": 0, "none ": 0, "": 0} {
		require.Equal(t, want, Gauge{file, key}.Read(), key)
	}
	require.NoError(t, os.WriteFile(file, []byte("123\n"), 0o644))
	require.Equal(t, int64(123), Gauge{Path: file}.Read())
	require.Equal(t, int64(0), Gauge{Path: file + "x"}.Read())
}

func TestOrphaned(t *testing.T) {
	ns, me := pidNamespace(), os.Getpid()
	p := &place{}
	for name, want := range map[string]bool{
		p.name(1): false,
		fmt.Sprintf("%s%d.%d.%s.1", prefix, ns, me, "1"):            true, // the pid was used again
		fmt.Sprintf("%s%d.%d.%s.1", prefix, ns, 1<<30, started(me)): true,
		fmt.Sprintf("%s%d.%d.%s.1", prefix, ns+1, 1<<30, "1"):       false, // another pid namespace
		"lm-sandbox": false, leaf: false, prefix: false, prefix + "1.2.3": false, "other.1.2.3.4": false,
		fmt.Sprintf("%s%d.%d..1", prefix, ns, 1<<30):    false,
		fmt.Sprintf("%s%d.x.3.1", prefix, ns):           false,
		fmt.Sprintf("%s%d.%d.3.1.5", prefix, ns, 1<<30): false,
	} {
		require.Equal(t, want, orphaned(name), name)
	}
}

const childVar = "LM_SANDBOX_TEST_CGROUP"

// In cgroup v2 without controllers, which is what the hosts of these tests may
// have: where a group is made, that a process is born in it, that its time is
// counted, that all of it is gone. That memory.max and its kin are kept is not
// shown by this.
func TestV2(t *testing.T) {
	if os.Getenv(childVar) != "" {
		inV2(t)
		return
	}
	paths, err := os.ReadFile("/proc/self/cgroup")
	require.NoError(t, err)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	own := directories(string(paths), string(mounts))[""]
	if own == "" || unix.Access(own, unix.W_OK) != nil {
		t.Skip("needs a cgroup v2 that can be written")
	}
	dir := filepath.Join(own, fmt.Sprintf("lm-sandbox-test-%d", os.Getpid()))
	require.NoError(t, os.Mkdir(dir, 0o755))
	defer os.Remove(dir)
	defer os.Remove(filepath.Join(dir, leaf))
	f, err := os.Open(dir)
	require.NoError(t, err)
	defer f.Close()
	c := exec.Command("/proc/self/exe", "-test.run=^TestV2$", "-test.v")
	c.Env = append(os.Environ(), childVar+"="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestV2")
}

// inV2 is alone in a group.
func inV2(t *testing.T) {
	dir := os.Getenv(childVar)
	_, err := delegated(dir)
	require.ErrorContains(t, err, "are not delegated")
	required = nil
	p, err := look()
	require.NoError(t, err)
	require.Equal(t, dir, p.v2)

	require.NoError(t, moveAway(dir))
	moved, err := look()
	require.NoError(t, err)
	require.Equal(t, dir, moved.v2, "from the leaf too")
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	require.NoError(t, err)
	require.Empty(t, string(procs))

	stranger := exec.Command("sleep", "1000")
	at := filepath.Join(dir, leaf)
	require.NoError(t, stranger.Start())
	require.ErrorContains(t, moveAway(at), "other processes")
	require.NoError(t, stranger.Process.Kill())
	_ = stranger.Wait()

	g, err := moved.make(Limits{})
	require.NoError(t, err)
	require.Len(t, g.dirs, 1)
	made := g.dirs[0]
	c := exec.Command("bash", "-c", "cat /proc/self/cgroup; for i in {1..100000}; do :; done")
	c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(g.Dir.Fd())}
	out, err := c.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), filepath.Base(made)+"\n")
	require.Greater(t, g.Usage().CPU, time.Millisecond)
	require.Less(t, g.Usage().CPU, time.Minute)
	require.NoError(t, write(made, "cgroup.kill", "1"), "which an empty group takes too")
	g.Remove()
	require.NoDirExists(t, made)

	_, err = moved.make(Limits{Memory: 1 << 20})
	require.ErrorIs(t, err, os.ErrNotExist)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		require.False(t, strings.HasPrefix(e.Name(), prefix), "what could not be limited is left: %s", e.Name())
	}
}

func TestQuota(t *testing.T) {
	for cpus, want := range map[float64]int64{0.5: 50_000, 1e-300: 1000, 1e300: 100_000_000_000} {
		require.Equal(t, want, quota(cpus))
	}
}
