package sandbox

import (
	"context"
	"fmt"
	"net"
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

// LevelLandlock, on a host that has namespaces: by asking for it inside this package.

func startBare(t *testing.T, c Config, command string) *process {
	t.Helper()
	p, err := executeAt(t.Context(), c, LevelLandlock, "/bin/bash", []string{"bash", "-c", command}, false)
	require.NoError(t, err)
	return p
}

func runBare(t *testing.T, c Config, command string) Result {
	t.Helper()
	p := startBare(t, c, command)
	r, err := p.wait()
	require.NoError(t, err)
	require.Equal(t, LevelLandlock, r.Level)
	require.NotEmpty(t, r.Lacks)
	require.NotEmpty(t, p.private)
	require.NoDirExists(t, p.private)
	return r
}

// bareUser is who a bare sandbox is on the host.
func bareUser() int {
	if os.Geteuid() == 0 {
		return dedicatedID
	}
	return os.Getuid()
}

// bareOwned is a directory that this user can reach, and has.
func bareOwned(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() != 0 {
		return dir
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	require.NoError(t, os.Chown(dir, dedicatedID, dedicatedID))
	return dir
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, b, 0o755))
}

// asBare is a command outside as the same user.
func asBare(t *testing.T, dir string, argv ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Dir = dir
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: dedicatedID, Gid: dedicatedID}}
	}
	return c
}

// Each succeeds outside as the same user, and fails inside.
func TestBareAttacks(t *testing.T) {
	ws, secret := bareOwned(t), bareOwned(t)
	copied(t, probePath, filepath.Join(ws, "probe"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	mailbox, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(secret, "mailbox"), Net: "unixgram"})
	require.NoError(t, err)
	defer mailbox.Close()
	require.NoError(t, os.Chmod(filepath.Join(secret, "mailbox"), 0o777))
	victim := asBare(t, "/", "sleep", marked(t, 300))
	require.NoError(t, victim.Start())
	defer func() { _ = victim.Wait() }()
	defer func() { _ = victim.Process.Kill() }()

	replace := strings.NewReplacer("SECRET", secret, "VICTIM", fmt.Sprint(victim.Process.Pid), "PORT", fmt.Sprint(port), "PROBE", "./probe").Replace
	for _, command := range []string{
		"cat SECRET/file", "ls SECRET", "echo x > SECRET/file", "echo x > SECRET/new", "rm SECRET/gone", "mkdir SECRET/dir", "mkfifo SECRET/fifo",
		"ln -s / SECRET/link", "ln SECRET/file hard", "mv SECRET/move .", "truncate -s 0 SECRET/file", "cd SECRET && cat file",
		"chmod 777 SECRET/file", "touch -d yesterday SECRET/file", "chgrp $(id -g) SECRET/file", "ls /", "ls /home", "cat /etc/fstab",
		"echo x > /dev/shm/VICTIM && rm /dev/shm/VICTIM", "ls /sys/class", "ls /proc",
		"kill -0 VICTIM", "kill -CONT VICTIM", "cat /proc/VICTIM/environ", "cat /proc/VICTIM/cmdline", "cat /proc/VICTIM/status", "ls /proc/VICTIM/fd",
		"readlink /proc/VICTIM/cwd", "cat /proc/VICTIM/root/etc/fstab", "prlimit --pid VICTIM --nofile=1000:1000", "renice -n 19 VICTIM", "ionice -c 3 -p VICTIM",
		"taskset -p 1 VICTIM",
		"exec 3<>/dev/tcp/127.0.0.1/PORT", "PROBE socket unix | grep ok", "PROBE socket inet | grep ok", "PROBE pair-sendto SECRET/mailbox | grep ok",
		"PROBE clone-user | grep ok", "PROBE shmget | grep ok", "PROBE memfd | grep ok",
	} {
		t.Run(strings.ReplaceAll(command, "/", "|"), func(t *testing.T) {
			for _, name := range []string{"file", "gone", "move"} {
				path := filepath.Join(secret, name)
				_ = os.Remove(path)
				require.NoError(t, os.WriteFile(path, []byte("hunter2\n"), 0o600))
				require.NoError(t, os.Chown(path, bareUser(), -1))
			}
			before := ownership(t, secret)
			r := runBare(t, Config{Workspace: ws}, replace(command))
			require.NotEqual(t, 0, r.ExitCode, "%s", r.Stdout)
			require.NotContains(t, string(r.Stdout), "hunter2")
			require.Equal(t, before, ownership(t, secret))

			out, err := asBare(t, ws, "/bin/bash", "-c", replace(command)).CombinedOutput()
			require.NoError(t, err, "the control: %s", out)
			for _, name := range []string{"new", "dir", "fifo", "link"} {
				_ = os.Remove(filepath.Join(secret, name))
			}
			for _, name := range []string{"hard", "move"} {
				_ = os.Remove(filepath.Join(ws, name))
			}
		})
	}
}

// What programs need goes on.
func TestBareWork(t *testing.T) {
	ws, bind := bareOwned(t), bareOwned(t)
	c := Config{Workspace: ws, Binds: []Bind{{Source: bind, Target: bind, Writable: true}}}
	for _, command := range []string{
		"pwd && test $PWD = " + ws, "echo x > file && cat file && rm file", "mkdir -p a/b c && echo x > a/b/f && mv a/b/f c/ && rm -r a c",
		"cat <(echo x) && echo x > /dev/null && head -c 4 /dev/urandom > /dev/null && echo x > /dev/stdout",
		"test $(cd && pwd) = $HOME && echo x > ~/x && mktemp && test -d $TMPDIR", "echo x > " + bind + "/x",
		"sleep 60 & kill $! && wait; true | cat", "timeout 0.1 sleep 60; test $? = 124", "grep -c processor /proc/cpuinfo && free",
		"echo 'int main(void){return 7;}' > p.c && gcc -c p.c && test -s p.o", "perl -e 'print 1' && sed --version && tar cf - /usr/include/linux | tar tf - > /dev/null",
	} {
		r := runBare(t, c, command)
		require.Equal(t, 0, r.ExitCode, "%s: %s%s", command, r.Stdout, r.Stderr)
	}
	c.Dir = "/workspace/sub"
	require.NoError(t, os.Mkdir(filepath.Join(ws, "sub"), 0o755))
	require.Equal(t, filepath.Join(ws, "sub")+"\n", string(runBare(t, c, "pwd").Stdout))
}

// Nothing of the tree stays, however it tries to. The command ends when it has been seen.
func TestBareTree(t *testing.T) {
	for name, command := range map[string]string{
		"daemon":    "trap '' TERM HUP; setsid sleep MARK & disown; (setsid sleep MARK &) & sleep 0.2; read <gate",
		"hopper":    "setsid perl -e 'while(1){fork and exit}' MARK & sleep 0.3; read <gate",
		"hoppers":   "for i in 1 2 3 4; do setsid perl -e 'while(1){fork and exit}' MARK & done; sleep 0.3; read <gate",
		"bomb":      "setsid perl -e 'fork while 1' MARK 2>/dev/null & sleep 0.3; read <gate",
		"stopped":   "setsid sleep MARK & sleep 0.1; kill -STOP $!; read <gate",
		"subreaper": "setsid bash -c '(sleep MARK; :) & sleep MARK; :' & sleep 0.2; read <gate",
	} {
		t.Run(name, func(t *testing.T) {
			mark, ws := marked(t, 300), bareOwned(t)
			path := filepath.Join(ws, "gate")
			require.NoError(t, unix.Mkfifo(path, 0o600))
			require.NoError(t, os.Chown(path, bareUser(), -1))
			gate, err := os.OpenFile(path, os.O_RDWR, 0) // for both, so that nobody waits for the other end
			require.NoError(t, err)
			defer gate.Close()
			p := startBare(t, Config{Workspace: ws, Limits: Limits{Pids: 64}}, strings.ReplaceAll(command, "MARK", mark))
			seen(t, mark)
			_, err = gate.WriteString("\n")
			require.NoError(t, err)
			_, err = p.wait()
			require.NoError(t, err)
			require.Empty(t, holders(t, mark), "Wait returns when nothing is left")
		})
	}
	t.Run("killed", func(t *testing.T) {
		mark := marked(t, 300)
		p := startBare(t, Config{}, "setsid sleep "+mark+" & sleep "+mark)
		seen(t, mark)
		p.kill()
		r, err := p.wait()
		require.NoError(t, err)
		require.Equal(t, "SIGKILL", r.Signal)
		require.Empty(t, holders(t, mark))
	})
	t.Run("launcher killed", func(t *testing.T) {
		mark := marked(t, 300)
		p := startBare(t, Config{}, "setsid sleep "+mark+" & sleep "+mark)
		seen(t, mark)
		require.NoError(t, p.cmd.Process.Kill())
		_, _ = p.wait()
		gone(t, mark)
	})
}

func init() {
	roles["bare caller"] = func() {
		p, err := executeAt(context.Background(), Config{}, LevelLandlock, "/bin/bash", []string{"bash", "-c", os.Getenv("LM_SANDBOX_TEST_COMMAND")}, false)
		fmt.Println(err)
		fmt.Println(p.wait())
	}
}

func TestBareCallerKilled(t *testing.T) {
	mark := marked(t, 300)
	c := again("bare caller", fmt.Sprintf("LM_SANDBOX_TEST_COMMAND=trap '' TERM HUP; setsid sleep %s & sleep %s", mark, mark), "TMPDIR="+bareOwned(t)) // a killed caller leaves its private directory
	require.NoError(t, c.Start())
	seen(t, mark)
	require.NoError(t, c.Process.Kill())
	_ = c.Wait()
	gone(t, mark)
}

func TestBareLimits(t *testing.T) {
	ws := bareOwned(t)
	copied(t, probePath, filepath.Join(ws, "probe"))
	c := Config{Workspace: ws, Limits: Limits{Wall: time.Second, Memory: 64 << 20, Pids: 20}}
	r := runBare(t, c, "sleep 60")
	require.Equal(t, LimitTimeout, r.Limit)
	r = runBare(t, Config{Workspace: ws, Limits: Limits{Memory: 64 << 20}}, "for i in 1 2 3 4; do ./probe memory 40 3000 & done; wait")
	require.Equal(t, LimitMemory, r.Limit, "%s%s", r.Stdout, r.Stderr)
	r = runBare(t, Config{Workspace: ws, Limits: Limits{Pids: 20}}, "./probe processes")
	require.Contains(t, string(r.Stdout), "EAGAIN")
}

// The private directory goes even if the command has locked it.
func TestBarePrivateDirectory(t *testing.T) {
	r := runBare(t, Config{}, "mkdir -p ~/a/b && : > ~/a/b/c && perl -e 'open(my $d, shift); chmod 0, $d' ~/a; stat -c %a ~/a")
	require.Equal(t, "0\n", string(r.Stdout), "the control: %s", r.Stderr)
}

func TestBareRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"Root":    {Root: "/usr"},
		"Binds":   {Binds: []Bind{{Source: "/usr", Target: "/data"}}},
		"Net":     {Net: NetHost},
		"Protect": {Workspace: t.TempDir(), Protect: []string{".git"}},
	} {
		_, err := executeAt(t.Context(), c, LevelLandlock, "/bin/true", []string{"true"}, false)
		var level *ErrLevel
		require.ErrorAs(t, err, &level, name)
		require.Contains(t, level.Reason, name)
		require.Equal(t, LevelNamespaces, level.Want)
	}
	needRoot(t)
	_, err := executeAt(t.Context(), Config{Workspace: t.TempDir()}, LevelLandlock, "/bin/true", []string{"true"}, false)
	var owner *ErrOwner
	require.ErrorAs(t, err, &owner)
}

// A container that hides parts of its /proc: another one cannot be mounted in a user
// namespace, and what has none says so.
func TestMaskedProc(t *testing.T) { // 108
	o := turned(t, container(), knob{Mask: true, Command: "ls -A /proc; echo out; test ! -e /dev/fd/0"})
	require.Empty(t, o.Err)
	require.Equal(t, "out\n", string(o.Result.Stdout), "%s", o.Result.Stderr)
	require.Equal(t, 0, o.Result.ExitCode)
	require.GreaterOrEqual(t, o.Result.Level, LevelNamespaces)
	require.Len(t, o.Result.Lacks, 1)
	require.Contains(t, o.Result.Lacks[0], "proc: ")
	o = turned(t, container(), knob{Command: "ls /proc/self/status"})
	require.Equal(t, 0, o.Result.ExitCode, "the control: %s", o.Result.Stderr)
	require.Empty(t, o.Result.Lacks)

	// And no user namespaces either.
	o = turned(t, container(), knob{Mask: true, Close: true, Command: "echo out"})
	require.Equal(t, "ErrLevel", o.Type)
	require.Contains(t, o.Remedy, "max_user_namespaces")
	o = turned(t, container(), knob{Mask: true, Close: true, MinLevel: LevelLandlock, Command: "echo out"})
	require.Empty(t, o.Err)
	require.Equal(t, "out\n", string(o.Result.Stdout))
	require.Equal(t, LevelLandlock, o.Result.Level)
}

func TestNoTimeNamespace(t *testing.T) {
	o := turned(t, nil, knob{Refuse: "unshare=EINVAL", Command: "cut -d. -f1 /proc/uptime"})
	require.Empty(t, o.Err)
	require.Len(t, o.Result.Lacks, 1)
	require.Contains(t, o.Result.Lacks[0], "time namespace: ")
	require.NotRegexp(t, `^\d\n$`, string(o.Result.Stdout), "the host's")
}

// A host without user namespaces: the level is stepped down to only where the caller says so.
func TestLadder(t *testing.T) { // 108
	for _, refuse := range []string{
		"clone3=ENOSYS clone&0x10000000=EPERM unshare=EPERM mount=EPERM", // Docker's filter
		"clone3=EPERM clone&0x10000000=EPERM", "clone&0x10000000=EPERM clone3=ENOSYS", "pivot_root=EPERM", "fsopen=EPERM", "mount_setattr=EPERM", "open_tree=EPERM", "move_mount=EPERM",
	} {
		t.Run(refuse, func(t *testing.T) {
			o := turned(t, nil, knob{Refuse: refuse, Command: "echo out"})
			require.Equal(t, "ErrLevel", o.Type, o.Err)
			require.Contains(t, o.Err, "LevelLandlock")
			require.NotEmpty(t, o.Remedy)
			o = turned(t, nil, knob{Refuse: refuse, MinLevel: LevelLandlock, Command: "echo out"})
			require.Empty(t, o.Err)
			require.Equal(t, "out\n", string(o.Result.Stdout))
			require.Equal(t, LevelLandlock, o.Result.Level)
			require.NotEmpty(t, o.Result.Lacks)
		})
	}
	o := turned(t, nil, knob{Refuse: "pivot_root=EPERM " + noLandlock, MinLevel: LevelLandlock, Command: "echo out"})
	require.Equal(t, "ErrLevel", o.Type)
	require.Contains(t, o.Err, "Landlock has ABI 0 here")
	require.GreaterOrEqual(t, run(t, Config{MinLevel: LevelLandlock}, "true").Level, LevelNamespaces, "the control")
}
