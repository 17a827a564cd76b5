package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Class A: escape.

func TestNamespacesAndMounts(t *testing.T) {
	attempt(t, []attack{
		{1, "clone-user", "EPERM", onHost, "ok"},
		{1, "clone-user-net", "EPERM", onHost, "ok"},
		{1, "unshare-uts", "EPERM", inNamespace, "ok"},
		{1, "unshare-time", "EPERM", inNamespace, "ok"},
		{1, "setns", "EPERM", onHost, "EINVAL"},
		{2, "clone3", "ENOSYS", onHost, "EINVAL"},
		{4, "mount-tmpfs", "EPERM", inNamespace, "ok"},
		{4, "mount-bind", "EPERM", inNamespace, "ok"},
		{4, "mount-remount", "EPERM", inNamespace, "EINVAL"},
		{4, "umount", "EPERM", inNamespace, "EINVAL"},
		{5, "open_tree", "EPERM", inNamespace, "ok"},
		{5, "move_mount", "EPERM", inNamespace, "ENOENT"},
		{5, "fsopen", "EPERM", inNamespace, "ok"},
		{5, "mount_setattr", "EPERM", inNamespace, "ok"},
		{5, "call fspick", "EPERM", inNamespace, "*"},
		{5, "call fsconfig", "EPERM", onHost, "*"},
		{6, "pivot_root", "EPERM", inNamespace, "EINVAL"},
		{6, "chroot", "EPERM", inNamespace, "ok"},
		{6, "chroot-escape", "EPERM", inNamespace, "ok"},
	})
}

func TestThreadsFallBackFromClone3(t *testing.T) { // 2
	require.Equal(t, "ok", inside(t, Config{}, "threads"))
	// glibc's pthread_create: sort uses threads from 131072 lines on.
	r := run(t, Config{}, "seq 300000 | sort -rn --parallel=2 | head -n 1; exit ${PIPESTATUS[1]}")
	require.Contains(t, []int{0, 128 + int(unix.SIGPIPE)}, r.ExitCode, "%s", r.Stderr)
	require.Equal(t, "300000\n", string(r.Stdout))
}

func TestUnshareCommand(t *testing.T) { // 1, 4, 6, by the tools
	for _, command := range []string{
		"unshare -Ur true", "mount -t tmpfs x /tmp", "mount --bind / /tmp", "mount -o remount,rw /", "chroot /tmp /bin/true",
	} {
		t.Run(command, func(t *testing.T) {
			require.NotEqual(t, 0, run(t, Config{}, command).ExitCode)
		})
	}
}

func TestKernelSettings(t *testing.T) {
	const no = "EROFS|EACCES|ENOENT|EPERM"
	attempt(t, []attack{
		{7, "open-write /proc/sys/kernel/core_pattern", no, onHostAsRoot, "ok"},
		{8, "open-write /proc/sys/kernel/modprobe", no, nowhere, ""},
		{8, "open-write /proc/sys/kernel/hostname", no, onHostAsRoot, "ok"},
		{8, "open-write /proc/sys/vm/drop_caches", no, onHostAsRoot, "ok"},
		{8, "open-write /proc/sys/user/max_user_namespaces", no, nowhere, ""},
		{8, "open-write /proc/sys/net/ipv4/ip_forward", no, onHostAsRoot, "ok"},
		{8, "open-write /proc/sys/fs/binfmt_misc/register", no, nowhere, ""},
		{8, "open-write /proc/sysrq-trigger", no, nowhere, ""},
		{8, "open-write /sys/kernel/uevent_helper", no, nowhere, ""},
		{8, "open-write /sys/fs/cgroup/release_agent", no, nowhere, ""},
		{32, "open-write /sys/fs/cgroup/cgroup.procs", no, nowhere, ""},
		{32, "open-write /sys/fs/cgroup/memory/cgroup.procs", no, nowhere, ""},
		{8, "open-write /proc/self/uid_map", no + "|ok", nowhere, ""}, // opened, but written once already
	})
	r := run(t, Config{}, "cat /proc/sys/user/max_user_namespaces; echo '0 0 1' > /proc/self/uid_map")
	require.NotEqual(t, 0, r.ExitCode)
	require.Equal(t, "0\n", string(r.Stdout), "the second belt against nested namespaces")
}

// 66: the host's user has one count for all its sandboxes.
func TestCountsOfTheUser(t *testing.T) {
	r := run(t, Config{}, "cat /proc/sys/user/max_inotify_instances /proc/sys/user/max_inotify_watches; ulimit -i")
	require.Equal(t, "32\n8192\n1024\n", string(r.Stdout))
}

func TestOpenFiles(t *testing.T) { // 10
	const list = `for f in /proc/self/fd/*; do [ -e $f ] && echo ${f##*/}; done`
	// A descriptor that every child of this process inherits.
	leaked, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	require.NoError(t, err)
	defer unix.Close(leaked)
	out, err := exec.Command("bash", "-c", list).Output()
	require.NoError(t, err)
	require.Contains(t, strings.Fields(string(out)), fmt.Sprint(leaked), "the control")

	r := run(t, Config{}, list)
	require.Equal(t, []string{"0", "1", "2"}, strings.Fields(string(r.Stdout)))
	// They are pipes and the sandbox's own /dev/null, which can be opened again.
	r = run(t, Config{}, "readlink /proc/self/fd/0; echo again > /dev/stdout; echo e > /dev/stderr")
	require.Equal(t, "/dev/null\nagain\n", string(r.Stdout))
	require.Equal(t, "e\n", string(r.Stderr))
}

func TestPrivileges(t *testing.T) { // 13, 14
	r := run(t, Config{}, `grep -h -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; bash -c 'grep ^Cap /proc/self/status'
		grep ^Cap /proc/1/status; id; su -c id </dev/null; cp /bin/bash /tmp/b && chmod u+s /tmp/b || stat -c %a /tmp/b`)
	out := string(r.Stdout)
	for _, line := range strings.Split(out, "\n") {
		if set, ok := strings.CutPrefix(line, "Cap"); ok {
			require.Equal(t, "0000000000000000", strings.Fields(set)[1], line)
		}
	}
	require.Equal(t, 3, strings.Count(out, "CapBnd"))
	require.Contains(t, out, "NoNewPrivs:\t1")
	require.Contains(t, out, "Seccomp:\t2")
	require.Contains(t, out, "uid=1000(user) gid=1000(user) groups=1000(user)\n755\n")
	require.Equal(t, "EINVAL", inside(t, Config{}, "setuid"))
}

func TestMountFlags(t *testing.T) { // 13, 15, 16: whatever is mounted
	r := run(t, probed(Config{}), "cat /proc/self/mounts")
	for line := range strings.Lines(string(r.Stdout)) {
		f := strings.Fields(line)
		options := strings.Split(f[3], ",")
		require.Contains(t, options, "nosuid", line)
		if strings.HasPrefix(f[1], "/dev/") && f[1] != "/dev/shm" || f[0] == "devtmpfs" || f[0] == "udev" {
			require.Contains(t, options, "noexec", line)
			continue
		}
		if f[2] != "devtmpfs" {
			require.Contains(t, options, "nodev", line)
		}
		if f[1] == "/" || strings.HasPrefix(f[1], "/usr") || strings.HasPrefix(f[1], "/etc") || f[1] == "/opt/probe" {
			require.Contains(t, options, "ro", line)
		}
	}
	require.Contains(t, string(r.Stdout), " /opt/probe ")
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	attempt(t, []attack{
		{16, "mknod-block /tmp/lm-sandbox-block", "EPERM", nowhere, ""},
		{16, "mknod-char /workspace/lm-sandbox-char", "EPERM", nowhere, ""},
	})
	require.Equal(t, "ok", inside(t, Config{}, "mknod-fifo /tmp/fifo"))
	if os.Geteuid() == 0 {
		require.Equal(t, "ok", outside(t, "mknod-block "+filepath.Join(dir, "b"), nil), "the control")
	}
	r := run(t, Config{}, "ls /dev; ls -A /dev/shm; ls /dev/pts") // 17
	require.Equal(t, "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\nptmx\n", string(r.Stdout))
}

func TestOtherProcesses(t *testing.T) {
	host := fmt.Sprint(os.Getpid())
	attempt(t, []attack{
		{19, "process_vm_readv", "EPERM", onHost, "ok"},
		{19, "process_vm_readv 1", "EPERM", nowhere, ""},
		{19, "pidfd_getfd", "EPERM", onHost, "ok"},
		{19, "pidfd_getfd 1", "EPERM", nowhere, ""},
		{19, "open-mem 1", "EACCES", nowhere, ""},
		{19, "ptrace", "EPERM", onHost, "ok"},
		{24, "kill " + host, "ESRCH", onHost, "ok"},
	})
}

// 12: the helper, of which each sandbox runs the same bytes, cannot be changed
// from inside, not even by a script that makes it its interpreter.
func TestHelperStaysAsItIs(t *testing.T) {
	attempt(t, []attack{
		{12, "open-readwrite /proc/1/exe", "EACCES", nowhere, ""},
		{12, "open-read /proc/1/exe", "EACCES", nowhere, ""},
		{12, "open-readwrite /proc/self/exe", "ETXTBSY|EROFS|EACCES", nowhere, ""},
	})
	ws := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ws, "script"), []byte("#!/proc/self/exe\n"), 0o755))
	p, err := Start(background(t), Config{Workspace: ws}, "/workspace/script")
	require.NoError(t, err)
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, "0 \"\" \"\"", fmt.Sprintf("%d %q %q", r.ExitCode, r.Stdout, r.Stderr), "the helper finds nobody to talk to and ends")
	require.NotEqual(t, 0, run(t, Config{Workspace: ws}, ": > /proc/1/exe; exit $?").ExitCode)

	file, err := helper.File()
	require.NoError(t, err)
	now, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	require.NoError(t, err)
	require.True(t, bytes.Equal(helper.Binary(), now))
	_, err = file.WriteAt([]byte{0}, 0)
	require.ErrorIs(t, err, unix.EPERM, "not even by its owner")
}

func TestControlGroups(t *testing.T) { // 32
	r := run(t, Config{}, "cut -d: -f3- /proc/self/cgroup | sort -u; ls -A /sys")
	require.NotEqual(t, 0, r.ExitCode, "there is no /sys")
	for line := range strings.Lines(string(r.Stdout)) {
		require.NotContains(t, line, "..", "the sandbox's own is the root of what it sees")
	}
}

func TestKillEverything(t *testing.T) { // 24
	sentinel := exec.Command("sleep", marked(t, 60))
	require.NoError(t, sentinel.Start())
	defer func() {
		require.NoError(t, sentinel.Process.Kill(), "it must be alive")
		_ = sentinel.Wait()
	}()
	r := run(t, Config{}, "kill -STOP $PPID; kill -9 1; kill -9 -1; echo still here; exit 5")
	require.Equal(t, 5, r.ExitCode)
	require.Equal(t, "still here\n", string(r.Stdout))
}

func TestEnvironmentAffectsInsideOnly(t *testing.T) { // 31
	ws := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ws, "env.sh"), []byte("echo from BASH_ENV"), 0o644))
	c := Config{Workspace: ws, Env: map[string]string{
		"BASH_ENV": "/workspace/env.sh", "LD_PRELOAD": "/workspace/none.so", "LD_LIBRARY_PATH": "/workspace",
		"PROMPT_COMMAND": "touch /workspace/prompt", "BASH_FUNC_ls%%": "() { echo replaced; }", "ENV": "/workspace/env.sh",
		"GCONV_PATH": "/workspace", "MALLOC_TRACE": "/workspace/trace",
	}}
	r := run(t, c, "ls; echo $LD_LIBRARY_PATH; readlink /proc/1/exe")
	require.Equal(t, "from BASH_ENV\nreplaced\n/workspace\n", string(r.Stdout))
	require.Contains(t, string(r.Stderr), "none.so", "the loader inside saw LD_PRELOAD")
	_, err := os.Stat(filepath.Join(ws, "prompt"))
	require.ErrorIs(t, err, os.ErrNotExist)

	p, err := Start(background(t), c, "sleep", "60")
	require.NoError(t, err)
	require.Empty(t, p.impl.cmd.Env)
	p.Kill()
	_, err = p.Wait()
	require.NoError(t, err)
}
