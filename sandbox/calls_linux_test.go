package sandbox

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Class A: what the filter keeps from the kernel.

func TestYoungKernelParts(t *testing.T) {
	attempt(t, []attack{
		{20, "io_uring", "EPERM", nowhere, ""}, // not every kernel has it enabled
		{20, "call io_uring_enter", "EPERM", onHost, "*"},
		{20, "call io_uring_register", "EPERM", onHost, "*"},
		{21, "bpf", "EPERM", nowhere, ""},
		{21, "perf_event_open", "EPERM", nowhere, ""},
		{21, "userfaultfd", "EPERM", nowhere, ""},
		{23, "add_key", "EPERM", onHost, "ok"},
		{23, "keyctl", "EPERM", onHost, "ok"},
		{23, "call request_key", "EPERM", onHost, "*"},
		{33, "memfd", "ENOSYS", onHost, "ok"},
		{33, "execute-memory", "ENOSYS", onHost, "ENOEXEC"},
		{51, "shmget", "ENOSYS", onHost, "ok"},
		{51, "semget", "ENOSYS", onHost, "ok"},
		{51, "msgget", "ENOSYS", onHost, "ok"},
		{29, "personality", "EPERM", onHost, "ok"},
	})
}

// 21: with arguments that a kernel which looks at them finds wrong.
func TestCallsOfTheMachine(t *testing.T) {
	rows := []attack{}
	for _, name := range strings.Fields("name_to_handle_at open_by_handle_at quotactl swapon settimeofday clock_settime adjtimex fanotify_mark " +
		"kcmp process_madvise move_pages migrate_pages unshare fsconfig kexec_load init_module finit_module delete_module") {
		rows = append(rows, attack{21, "call " + name, "EPERM", onHost, "*"})
	}
	for _, name := range strings.Fields("acct swapoff reboot sethostname setdomainname syslog fanotify_init fspick") {
		rows = append(rows, attack{21, "call " + name, "EPERM", onHostAsRoot, "*"})
	}
	for _, name := range oldCalls {
		rows = append(rows, attack{21, "call " + name, "EPERM", onHost, "*"})
	}
	attempt(t, rows)
}

func TestKernelLog(t *testing.T) { // 47
	attempt(t, []attack{
		{47, "call syslog", "EPERM", onHostAsRoot, "ok"},
		{47, "open-read /dev/kmsg", "ENOENT", onHostAsRoot, "ok"},
		{47, "open-read /proc/kmsg", "EACCES|EPERM", onHostAsRoot, "ok"},
	})
	require.NotEqual(t, 0, run(t, Config{}, "dmesg").ExitCode)
}

// 15, 16: what a root caller's files carry does not work inside.
func TestPrivilegesOfFiles(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, line := range []string{
		"cp /bin/cat capable && setcap cap_dac_override=ep capable", "cp /bin/cat setid && chmod 4755 setid", "mknod -m 666 zero c 1 5",
	} {
		c := exec.Command("sh", "-c", line)
		c.Dir = dir
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, out)
	}
	const look = "./capable /proc/self/status | grep CapEff; ./setid /proc/self/status | grep Uid; head -c 1 zero | wc -c"
	outside := exec.Command("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "sh", "-c", look)
	outside.Dir = dir
	out, err := outside.Output()
	require.NoError(t, err)
	require.Equal(t, "CapEff:\t0000000000000002\nUid:\t1000\t0\t0\t0\n1\n", string(out), "the control")

	for name, c := range map[string]Config{
		"workspace": {Workspace: dir}, "bind": {Binds: []Bind{{Source: dir, Target: "/data"}}, Dir: "/data"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c, look)
			require.Equal(t, "CapEff:\t0000000000000000\nUid:\t1000\t1000\t1000\t1000\n0\n", string(r.Stdout), "%s", r.Stderr)
		})
	}
}
