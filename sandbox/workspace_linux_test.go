package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ownership of what the sandbox is lent.

// ownership lists every file below dir with its owner and mode.
func ownership(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		sys := st.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %d:%d %o\n", path, sys.Uid, sys.Gid, sys.Mode)
		return nil
	}))
	return b.String()
}

// lent makes a workspace below a directory with the given mode.
func lent(t *testing.T, uid, gid int, parent os.FileMode) (dir, ws string) {
	t.Helper()
	dir = t.TempDir()
	ws = filepath.Join(dir, "ws")
	require.NoError(t, os.MkdirAll(filepath.Join(ws, "sub"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(ws, "private"), []byte("mine\n"), 0o600))
	for _, p := range []string{ws, filepath.Join(ws, "sub"), filepath.Join(ws, "private")} {
		if os.Geteuid() == 0 {
			require.NoError(t, os.Chown(p, uid, gid))
		}
	}
	require.NoError(t, os.Chmod(dir, parent))
	return dir, ws
}

func TestWorkspaceOwners(t *testing.T) {
	self := os.Getuid()
	tests := []struct {
		name     string
		root     bool
		uid, gid int
		parent   os.FileMode
		hostUID  int // of the payload, as the host sees it
	}{
		{"the caller's", false, self, os.Getgid(), 0o755, self},
		{"of root", true, 0, 0, 0o755, dedicatedID},
		{"of root, below a private directory", true, 0, 0, 0o700, dedicatedID},
		{"of a user", true, 1234, 1234, 0o755, 1234},
		{"of a user, below a private directory", true, 1234, 1234, 0o700, 1234},
		{"of a user and a system group", true, 1234, 42, 0o755, 1234},
		{"of nobody", true, 65534, 65534, 0o755, dedicatedID},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.root {
				needRoot(t)
			} else if self == 0 {
				return // the rows of root are those of this caller
			}
			dir, ws := lent(t, tc.uid, tc.gid, tc.parent)
			before := ownership(t, dir)
			r := run(t, Config{Workspace: ws}, "id -u && cat private && stat -c %u:%a . private && cat /proc/1/uid_map")
			require.Equal(t, 0, r.ExitCode, "%s", r.Stderr)
			require.Equal(t, "1000\nmine\n1000:755\n1000:600\n", strings.SplitAfterN(string(r.Stdout), "1000:600\n", 2)[0])
			require.Equal(t, before, ownership(t, dir), "nothing is chowned or chmodded")

			mark := marked(t, 60)
			p, err := Start(t.Context(), Config{Workspace: ws}, "bash", "-c", "mkdir made && echo x > made/file && sleep "+mark)
			require.NoError(t, err)
			file := filepath.Join(ws, "made", "file")
			require.Eventually(t, func() bool { _, err := os.Stat(file); return err == nil }, patience, 5*time.Millisecond)
			for _, pid := range holders(t, mark) {
				st, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
				if err == nil && st.Sys().(*syscall.Stat_t).Uid != 0 { // pid 1 and the launcher hide
					require.EqualValues(t, tc.hostUID, st.Sys().(*syscall.Stat_t).Uid)
				}
			}
			p.Kill()
			_, err = p.Wait()
			require.NoError(t, err)
			st, err := os.Stat(file)
			require.NoError(t, err)
			require.EqualValues(t, tc.uid, st.Sys().(*syscall.Stat_t).Uid, "on disk it belongs to the owner of the directory")
		})
	}
}

// Group 6 is a system's: disk, for example.
func TestSystemGroupIsNotTaken(t *testing.T) {
	needRoot(t)
	_, ws := lent(t, 6, 0, 0o755)
	r := run(t, Config{Workspace: ws}, "cat /proc/self/gid_map")
	require.Equal(t, []string{"1000", fmt.Sprint(dedicatedID), "1"}, strings.Fields(string(r.Stdout)))
}

// A set-user-id file made through an idmapped mount would be root's on the host.
func TestSetUserID(t *testing.T) { // 13
	forms := []attack{
		{13, "setid fchmod %s", "EPERM", onHost, "ok"},
		{13, "setid fchmod-high %s", "EPERM", onHost, "ok"},
		{13, "setid fchmodat %s", "EPERM", onHost, "ok"},
		{13, "setid fchmodat-setgid %s", "EPERM", onHost, "ok"},
		{13, "setid fchmodat2 %s", "EPERM", nowhere, ""}, // from Linux 6.6
		{13, "setid openat %s-new", "EPERM", onHost, "ok"},
		{13, "setid openat2 %s-new", "ENOSYS", onHost, "ok"},
		{13, "setid mknodat %s-new", "EPERM", onHost, "ok"},
		{13, "setid openat-tmpfile .", "EPERM", nowhere, ""},
		{13, "setid chmod %s", "EPERM|ENOSYS", nowhere, ""}, // amd64 only, as those below
		{13, "setid creat %s-new", "EPERM|ENOSYS", nowhere, ""},
		{13, "setid open %s-new", "EPERM|ENOSYS", nowhere, ""},
		{13, "setid mknod %s-new", "EPERM|ENOSYS", nowhere, ""},
	}
	for _, a := range forms {
		t.Run(a.probe, func(t *testing.T) {
			ws, host := t.TempDir(), t.TempDir()
			for _, d := range []string{ws, host} {
				require.NoError(t, os.WriteFile(filepath.Join(d, "f"), []byte("#!/bin/true\n"), 0o755))
			}
			fill := func(name string) string { return strings.Replace(a.probe, "%s", name, 1) }
			if a.where == onHost {
				require.Equal(t, a.control, outside(t, fill(filepath.Join(host, "f")), nil), "the control")
				require.Regexp(t, ` [0-9]*[246]755\n`, modes(t, host), "the control")
			}
			require.Contains(t, strings.Split(a.want, "|"), inside(t, Config{Workspace: ws}, fill("f")))
			require.NotRegexp(t, ` [0-9]*[2-7][0-7]{3}\n`, modes(t, ws))
		})
	}
	ws := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(ws, "f"), nil, 0o755))
	require.Equal(t, "ok", inside(t, Config{Workspace: ws}, "setid openat-existing-garbage f"), "an open that makes nothing")
	r := run(t, Config{Workspace: ws}, "chmod 4755 f; chmod g+s .; install -m 4755 /bin/true g; mkdir -m 2755 d; chmod 755 f; stat -c %a f")
	require.Equal(t, "755\n", string(r.Stdout))
	require.NotRegexp(t, ` [0-9]*[2-7][0-7]{3}\n`, modes(t, ws))
}

// modes are the permission bits of the files in dir, each " mode" and a new line.
func modes(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	var b strings.Builder
	for _, e := range list {
		st, err := e.Info()
		require.NoError(t, err)
		fmt.Fprintf(&b, " %04o\n", st.Sys().(*syscall.Stat_t).Mode&0o7777)
	}
	return b.String()
}

func TestBinds(t *testing.T) {
	data := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(data, "file"), []byte("content\n"), 0o644))
	require.NoError(t, os.Chmod(data, 0o755))
	c := Config{Binds: []Bind{
		{Source: data, Target: "/data/ro"}, {Source: data, Target: "/home/user/rw", Writable: true},
		{Source: filepath.Join(data, "file"), Target: "/tmp/deep/er/file"},
	}}
	r := run(t, c, `cat /data/ro/file /tmp/deep/er/file; touch /data/ro/x && echo bad; touch ~/rw/new; ls ~/rw; cd /tmp/deep && echo x > er/file && echo bad`)
	require.Equal(t, "content\ncontent\nfile\nnew\n", string(r.Stdout))
	require.Contains(t, string(r.Stderr), "Read-only file system")
	st, err := os.Stat(filepath.Join(data, "new"))
	require.NoError(t, err)
	require.EqualValues(t, os.Getuid(), st.Sys().(*syscall.Stat_t).Uid)
}

// A root caller's read-only bind shows what others may read, not what root may.
func TestReadOnlyBindKeepsPermissions(t *testing.T) {
	needRoot(t)
	data := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(data, "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.Chmod(data, 0o755))
	r := run(t, Config{Binds: []Bind{{Source: data, Target: "/data"}}}, "cat /data/secret")
	require.Equal(t, 1, r.ExitCode)
	require.Empty(t, r.Stdout)
}

// 27: nothing can be linked or moved out of where it is.
func TestLinksAcrossMounts(t *testing.T) {
	ws := t.TempDir()
	r := run(t, Config{Workspace: ws}, "ln /usr/bin/env . ; ln /etc/passwd /tmp; ls . /tmp; mv /etc/hosts /tmp; ls /etc/hosts")
	require.Equal(t, ".:\n\n/tmp:\n/etc/hosts\n", string(r.Stdout))
}

func TestRoot(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	for _, d := range []string{"usr/bin", "etc/conf.d", "proc", "dev", "tmp", "home/other", "srv", "var/tmp"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	require.NoError(t, os.Symlink("usr/bin", filepath.Join(root, "bin")))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/os-release"), []byte("ID=test\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("evil:x:0:0::/:/bin/sh\n"), 0o644))
	b, err := os.ReadFile(probePath)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "usr/bin/probe"), b, 0o755))

	p, err := Start(t.Context(), Config{Root: root}, "probe", "threads")
	require.NoError(t, err)
	r, err := p.Wait()
	require.NoError(t, err)
	require.Equal(t, "ok\n", string(r.Stdout), "%s", r.Stderr)
	no := map[bool]string{true: "EACCES", false: "EROFS"}[os.Geteuid() == 0] // whose files they are
	for path, want := range map[string]string{
		"/etc/os-release": no, "/etc/passwd": "EROFS", "/usr/bin/env": "ENOENT", "/tmp/x": "ENOENT", "/home/other": "ENOENT",
	} {
		p, err := Start(t.Context(), Config{Root: root}, "/bin/probe", "open-write", path)
		require.NoError(t, err)
		r, err := p.Wait()
		require.NoError(t, err)
		require.Equal(t, want+"\n", string(r.Stdout), path)
	}
	_, err = Run(t.Context(), Config{Root: root}, "true") // 107: no bash
	var exec *ErrExec
	require.ErrorAs(t, err, &exec)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
