package sandbox

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Class B: what of the host can be read.

func TestEnvironment(t *testing.T) { // 34
	t.Setenv("API_SECRET", "hunter2")
	const look = "env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"
	out, err := exec.Command("bash", "-c", "env").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "hunter2", "the control")

	r := run(t, Config{Env: map[string]string{"WANTED": "yes"}}, look)
	require.NotContains(t, string(r.Stdout), "hunter2")
	require.Contains(t, string(r.Stdout), "WANTED=yes\n")
	allowed := map[string]bool{}
	for _, k := range strings.Fields("PATH HOME USER LOGNAME SHELL LANG TERM WANTED PWD SHLVL OLDPWD _") {
		allowed[k] = true
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if k, _, ok := strings.Cut(line, "="); ok {
			require.True(t, allowed[k], line)
		}
	}
}

func TestFilesOfTheHost(t *testing.T) { // 35
	for _, path := range []string{
		"/etc/shadow", "/root", "/home/*/.ssh", "/var/log", "/run/docker.sock", "/etc/ssl/private",
		"/proc/1/root/etc/shadow", "/proc/1/cwd", "/boot", "/srv", "/mnt", "/opt", "/sys",
	} {
		t.Run(strings.ReplaceAll(path, "/", "|"), func(t *testing.T) {
			require.NotEqual(t, 0, run(t, Config{}, "ls "+path).ExitCode)
		})
	}
	r := run(t, Config{}, "ls /home; ls -A ~ /tmp /var; ls -A /run; echo $?; cat /etc/passwd")
	require.Equal(t, "user\n/home/user:\n\n/tmp:\n\n/var:\ntmp\n0\n", strings.SplitAfter(string(r.Stdout), "\n0\n")[0])
	require.Equal(t, 3, strings.Count(string(r.Stdout), ":x:"), "the password file is the sandbox's own")
}

func TestProcesses(t *testing.T) { // 36
	r := run(t, Config{}, "cd /proc; echo [0-9]*; cat 1/comm; cat 1/cmdline; cat 1/environ; cat 1/maps")
	require.Equal(t, "1 2\nsandbox-init\nlm-sandbox-helper\x00", string(r.Stdout))
	require.Contains(t, string(r.Stderr), "1/environ: Permission denied")
	require.Contains(t, string(r.Stderr), "1/maps: Permission denied")
}

func TestProcOfTheHost(t *testing.T) { // 37
	const look = `for name in %s; do
		[ -d /proc/$name ] && ls -A /proc/$name
		[ -f /proc/$name ] && head -c 100 /proc/$name
	done 2>/dev/null; true`
	command := fmt.Sprintf(look, strings.Join(maskedNames, " "))
	out, err := exec.Command("bash", "-c", command).Output()
	require.NoError(t, err)
	require.NotEmpty(t, out, "the control")
	require.Empty(t, run(t, Config{}, command).Stdout)
}

var maskedNames = strings.Fields(
	"kcore kallsyms keys timer_list interrupts cmdline config.gz iomem ioports slabinfo bus driver diskstats partitions " +
		"acpi asound fs latency_stats mdstat mtrr sched_debug scsi softirqs swaps timer_stats key-users modules vmallocinfo kpagecount")

func TestNames(t *testing.T) { // 40
	host, err := os.Hostname()
	require.NoError(t, err)
	require.NotEqual(t, "sandbox", host, "the control")
	r := run(t, Config{}, "uname -n; cat /etc/hostname; cut -d. -f1 /proc/uptime; cat /proc/sys/kernel/domainname")
	require.Regexp(t, `^sandbox\nsandbox\n\d\n\n$`, string(r.Stdout))
}

// 40: no number tells one host from another, or when it was started.
func TestIdentifiersOfTheHost(t *testing.T) {
	const look = "cat /etc/machine-id /proc/sys/kernel/random/boot_id"
	first, second := run(t, Config{}, look), run(t, Config{}, look)
	require.Regexp(t, "^[0-9a-f]{32}\n[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n$", string(first.Stdout), "%s", first.Stderr)
	require.Equal(t, first.Stdout, second.Stdout, "the same everywhere")
	for _, name := range []string{"/etc/machine-id", "/proc/sys/kernel/random/boot_id"} {
		b, err := os.ReadFile(name)
		if err == nil && len(b) > 0 {
			require.NotContains(t, string(first.Stdout), string(b), name)
		}
	}
	r := run(t, Config{}, `echo $(( $(date +%s) - $(grep -w btime /proc/stat | cut -d" " -f2) ))`)
	seconds, err := strconv.Atoi(strings.TrimSpace(string(r.Stdout)))
	require.NoError(t, err)
	require.Less(t, seconds, 60, "it was started just now")
}

func TestNetworkOfTheHost(t *testing.T) { // 39
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	defer l.Close()
	const look = "tail -q -n +2 /proc/net/unix /proc/net/tcp /proc/net/udp /proc/net/arp; ls /sys/class/net"
	out, _ := exec.Command("sh", "-c", look).Output()
	require.Contains(t, string(out), l.Addr().String(), "the control")
	require.Empty(t, run(t, Config{}, look).Stdout)
}

// 46: what has never been written reads as zeros.
func TestUnwrittenFiles(t *testing.T) {
	for name, c := range map[string]Config{"of the host": {Workspace: t.TempDir()}, "empty": {}} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c, `truncate -s 8M sparse; fallocate -l 8M reserved; cat sparse reserved | wc -c; cat sparse reserved | tr -d '\0' | wc -c`)
			require.Equal(t, "16777216\n0\n", string(r.Stdout), "%s", r.Stderr)
		})
	}
}

// 48: a crash leaves no core, neither here nor with the host's handler.
func TestNoCore(t *testing.T) {
	const crash = "ulimit -S -c unlimited; bash -c 'kill -SEGV $$'; echo $?; ls -A"
	if pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern"); err == nil && string(pattern) == "core\n" {
		c := exec.Command("bash", "-c", "ulimit -H -c unlimited 2>/dev/null; "+crash)
		c.Dir = t.TempDir()
		out, err := c.Output()
		require.NoError(t, err)
		require.Contains(t, string(out), "139\ncore", "the control")
	}
	ws := t.TempDir()
	require.Equal(t, "139\n", string(run(t, Config{Workspace: ws}, crash).Stdout))
	require.Equal(t, "0\n", string(run(t, Config{}, "ulimit -H -c").Stdout))
}

// 49: what the command, or its author, gets to read names no path of the host.
func TestErrorsNameNoHostPath(t *testing.T) {
	ws := t.TempDir()
	r := run(t, Config{Workspace: ws}, "cd none; ./none; cat none; bash none; cd /; rmdir workspace; exit 3")
	require.NotContains(t, string(r.Stdout)+string(r.Stderr), ws)
	require.NotEmpty(t, r.Stderr)
	for _, c := range []Config{
		{Workspace: ws, Dir: "/workspace/none"}, {Workspace: ws, Env: map[string]string{"A=": "b"}}, {Workspace: ws, Dir: "none/.."},
	} {
		_, err := Run(t.Context(), c, "true")
		require.Error(t, err)
		require.NotContains(t, err.Error(), ws)
	}
	_, err := Start(t.Context(), Config{Workspace: ws}, "none")
	require.Error(t, err)
	require.NotContains(t, err.Error(), ws)
}

// 45: nothing stays for the next tenant.
func TestNothingStays(t *testing.T) {
	const places = "/tmp/x /dev/shm/x /home/user/x /workspace/x"
	require.Equal(t, 0, run(t, Config{}, "touch "+places).ExitCode)
	require.Empty(t, run(t, Config{}, "ls "+places+" 2>/dev/null").Stdout)
}
