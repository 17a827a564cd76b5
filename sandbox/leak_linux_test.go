package sandbox

import (
	"os"
	"os/exec"
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
		"/etc/shadow", "/root", "/home/*/.ssh", "/var/log", "/run/docker.sock", "/etc/machine-id", "/etc/ssl/private",
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
	for _, name := range maskedNames {
		r := run(t, Config{}, "cat /proc/"+name+" | head -c 100; ls -A /proc/"+name+" | grep -v ^/proc/")
		require.Empty(t, r.Stdout, name)
	}
	b, err := os.ReadFile("/proc/cmdline")
	require.NoError(t, err)
	require.NotEmpty(t, b, "the control")
}

var maskedNames = strings.Fields(
	"kcore kallsyms keys timer_list interrupts cmdline config.gz iomem slabinfo bus driver diskstats partitions")

func TestNames(t *testing.T) { // 40
	host, err := os.Hostname()
	require.NoError(t, err)
	r := run(t, Config{}, "uname -n; cat /etc/hostname; cut -d. -f1 /proc/uptime")
	require.Regexp(t, `^sandbox\nsandbox\n\d\n$`, string(r.Stdout))
	require.NotEqual(t, "sandbox", host, "the control")
}

// 45: nothing stays for the next tenant.
func TestNothingStays(t *testing.T) {
	const places = "/tmp/x /dev/shm/x /home/user/x /workspace/x"
	require.Equal(t, 0, run(t, Config{}, "touch "+places).ExitCode)
	require.Empty(t, run(t, Config{}, "ls "+places+" 2>/dev/null").Stdout)
}
