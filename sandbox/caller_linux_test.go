package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Who calls, and hosts that refuse.

const ordinaryID = 1000

// All tests again as an ordinary user, from a copy that it can read.
func TestAsOrdinaryUser(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	for name, from := range map[string]string{"sandbox.test": "/proc/self/exe", "probe": probePath} {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o755))
	}
	home := filepath.Join(dir, "home")
	require.NoError(t, os.Mkdir(home, 0o700))
	require.NoError(t, os.Chown(home, ordinaryID, ordinaryID))
	c := exec.CommandContext(t.Context(), filepath.Join(dir, "sandbox.test"), "-test.timeout=10m", fmt.Sprintf("-test.short=%v", testing.Short()))
	c.Dir = home
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, probeVar + "=" + filepath.Join(dir, "probe")}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID}}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func init() {
	// In a user namespace of its own, which it forbids to have others.
	roles["refused"] = func() {
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
			fmt.Println("set the limit:", err)
			return
		}
		explainRefusal()
	}
	roles["lonely"] = explainRefusal
}

func explainRefusal() {
	_, err := Run(context.Background(), Config{}, "true")
	var refused *ErrUserNamespace
	if !errors.As(err, &refused) {
		fmt.Println("not refused:", err)
		return
	}
	fmt.Printf("%s; %v\n", refused.Remedy, refused.Err)
	if report, err := Probe(context.Background()); err == nil || report.Level >= LevelNamespaces || report.Features[0].Remedy == "" {
		fmt.Println("the probe does not say so:", report, err)
	}
}

func TestUserNamespacesRefused(t *testing.T) { // 108
	one := func(inside, outside int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: inside, HostID: outside, Size: 1}}
	}
	t.Run("by their number", func(t *testing.T) {
		c := again("refused")
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one(ordinaryID, os.Getuid()), GidMappings: one(ordinaryID, os.Getgid()),
			Credential: &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID, NoSetGroups: true}, AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
		}
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, "set sysctl user.max_user_namespaces to a larger number, 15000 for example; no space left on device\n", string(out))
	})
	t.Run("a caller without a gid", func(t *testing.T) {
		c := again("lonely")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one(ordinaryID, os.Getuid())}
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "map both")
	})
	t.Run("root alone in its namespace", func(t *testing.T) {
		c := again("lonely")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one(0, os.Getuid()), GidMappings: one(0, os.Getgid())}
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "run as an ordinary user")
	})
}

func init() {
	// In a mount namespace of its own, with a workspace of root on a filesystem without idmapped mounts.
	roles["ramfs"] = func() {
		dir := os.Getenv("LM_SANDBOX_TEST_DIR")
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Mount("ramfs", dir, "ramfs", 0, "mode=0755")
		}
		if err != nil {
			fmt.Println("mount:", err)
			return
		}
		_, err = Run(context.Background(), Config{Workspace: dir}, "true")
		var owner *ErrOwner
		if !errors.As(err, &owner) || owner.Path != dir || owner.Remedy == "" {
			fmt.Println("not refused:", err)
		}
		err = os.Chown(dir, ordinaryID, ordinaryID) // which needs no idmapped mount
		if err == nil {
			_, err = Run(context.Background(), Config{Workspace: dir}, "touch file")
		}
		if err != nil {
			fmt.Println("of a user:", err)
		}
	}
}

func TestFilesystemWithoutIDMap(t *testing.T) { // 108
	needRoot(t)
	c := again("ramfs", "LM_SANDBOX_TEST_DIR="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

func init() {
	// In a mount namespace of its own, with mounts below a workspace of root.
	roles["submounts"] = func() {
		ws := os.Getenv("LM_SANDBOX_TEST_DIR")
		private, shown := filepath.Join(ws, "private"), filepath.Join(ws, "shown")
		err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), os.Mkdir(private, 0o755), os.Mkdir(shown, 0o755),
			unix.Mount("tmpfs", private, "tmpfs", 0, "mode=0700"))
		if err != nil {
			fmt.Println("mount:", err)
			return
		}
		r, err := Run(context.Background(), Config{Workspace: ws}, "touch mine || exit 2; ls private || touch private/x")
		if err != nil || r.ExitCode != 1 {
			fmt.Println("what is private below is lent:", r.ExitCode, err)
		}
		if err := unix.Mount("/proc", shown, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			fmt.Println("mount:", err)
		}
		for field, c := range map[string]Config{"Root": {Root: ws}, "Workspace": {Workspace: ws}, "Binds[0].Source": {Binds: []Bind{{Source: shown, Target: "/data"}}}} {
			_, err = Run(context.Background(), c, "true")
			var config *ErrConfig
			if !errors.As(err, &config) || config.Field != field {
				fmt.Println("not refused:", field, err)
			}
		}
	}
}

func TestMountsBelow(t *testing.T) {
	needRoot(t)
	c := again("submounts", "LM_SANDBOX_TEST_DIR="+t.TempDir())
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

func TestHelperPath(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "helper"), filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(good, helper.Binary(), 0o755))
	require.NoError(t, os.WriteFile(bad, []byte("#!/bin/false\n"), 0o755))
	require.Equal(t, 0, run(t, Config{HelperPath: good}, "true").ExitCode)
	for _, path := range []string{"/dev/zero", bad, filepath.Join(dir, "none"), dir, "/bin/cat"} {
		_, err := Run(t.Context(), Config{HelperPath: path}, "true")
		var config *ErrConfig
		require.ErrorAs(t, err, &config, path)
		require.Equal(t, "HelperPath", config.Field)
	}
}

func TestInstallHelper(t *testing.T) {
	path := filepath.Join(t.TempDir(), "helper")
	for range 2 { // the second replaces the first
		require.NoError(t, InstallHelper(path))
		require.Equal(t, 0, run(t, Config{HelperPath: path}, "true").ExitCode)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Error(t, InstallHelper(filepath.Join(path, "below")))
	require.Error(t, InstallHelper("helper"))
	require.Contains(t, AppArmorProfile("/opt/helper"), "profile lm-sandbox-helper /opt/helper flags=(unconfined) {\n  userns,\n")
	require.NotContains(t, AppArmorProfile("/opt/helper"), DefaultHelperPath)

	// On a host with AppArmor's restriction the usual place is used by itself.
	policy := filepath.Join(t.TempDir(), "policy")
	require.NoError(t, os.WriteFile(policy, []byte("1\n"), 0o644))
	require.Equal(t, path, installedHelper(policy, path))
	require.Empty(t, installedHelper(policy, "/bin/cat"))
	require.NoError(t, os.WriteFile(policy, []byte("0\n"), 0o644))
	require.Empty(t, installedHelper(policy, path))
	require.Empty(t, installedHelper(policy+".none", path))
}

func TestProbe(t *testing.T) {
	r, err := Probe(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Level, LevelNamespaces)
	require.Len(t, r.Levels, 3)
	for i, want := range []Level{LevelCgroup, LevelNamespaces, LevelLandlock} {
		l := r.Levels[i]
		require.Equal(t, want, l.Level)
		require.NotEmpty(t, l.Detail)
		require.Equal(t, l.OK, l.Remedy == "", l.Detail)
		require.Equal(t, want == LevelCgroup, len(l.Lacks) == 0)
	}
	require.True(t, r.Levels[1].OK && r.Levels[2].OK)
	for _, f := range r.Features {
		require.NotEmpty(t, f.Detail, f.Name)
		if f.Name != "landlock" && f.Name != "cgroup" {
			require.True(t, f.OK, "%s: %s", f.Name, f.Detail)
		}
		require.Equal(t, f.OK, f.Remedy == "", f.Name)
	}
}

func TestForeignABI(t *testing.T) { // int 0x80 and x32
	attempt(t, foreignABI)
}
