package sandbox

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Trees of other systems.

// system is an archive of one whose only program is the probe.
func system(t *testing.T, more ...entry) *bytes.Buffer {
	t.Helper()
	b, err := os.ReadFile(probePath)
	require.NoError(t, err)
	return archive(t, append([]entry{
		{name: "./", kind: tar.TypeDir, mode: 0o755}, {name: "usr/", kind: tar.TypeDir, mode: 0o755}, {name: "usr/bin/", kind: tar.TypeDir, mode: 0o755},
		{name: "usr/bin/probe", body: string(b), mode: 0o4755}, {name: "usr/bin/again", kind: tar.TypeLink, link: "usr/bin/probe"},
		{name: "bin", kind: tar.TypeSymlink, link: "/usr/bin"}, {name: "etc/alternatives/it", kind: tar.TypeSymlink, link: "/usr/bin/probe"},
		{name: "etc/passwd", body: "evil:x:0:0::/:/bin/sh\n"}, {name: "etc/shadow", body: "x", mode: 0o600}, {name: "dev/console", kind: tar.TypeChar},
		{name: "run/initctl", kind: tar.TypeFifo}, {name: "made/by/name", body: "x"}, {name: "usr/up", kind: tar.TypeSymlink, link: "../../../../etc"},
	}, more...)...)
}

func TestRootFromTar(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "root")
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := io.Copy(z, system(t))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	report, err := RootFromTar(t.Context(), &packed, dir, FileLimits{})
	require.NoError(t, err)
	require.Equal(t, 10, report.Entries)
	require.Len(t, report.Skipped, 2)
	st, err := os.Stat(filepath.Join(dir, "usr/bin/probe"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), st.Mode(), "no set-id bit")
	for _, program := range []string{"probe", "/usr/bin/again", "/etc/alternatives/it"} {
		p, err := Start(t.Context(), Config{Root: dir}, program, "open-write", "/made/by/name")
		require.NoError(t, err, program)
		r, err := p.Wait()
		require.NoError(t, err)
		require.Contains(t, []string{"EROFS\n", "EACCES\n"}, string(r.Stdout), "%s", r.Stderr)
	}
	var config *ErrConfig
	_, err = RootFromTar(t.Context(), system(t), dir, FileLimits{})
	require.ErrorAs(t, err, &config, "it is not empty")
	empty := t.TempDir()
	_, err = RootFromTar(t.Context(), system(t), empty, FileLimits{})
	require.NoError(t, err)
}

func TestRootFromTarRefused(t *testing.T) {
	place := t.TempDir()
	for _, e := range map[string][]entry{
		"upwards": {{name: "../x"}}, "absolute": {{name: "/x"}}, "through a link": {{name: "bin/x"}}, "a layer": {{name: "etc/.wh.hosts"}},
		"hard link out": {{name: "h", kind: tar.TypeLink, link: "../../etc/passwd"}}, "twice": {{name: "etc/passwd"}},
		"below a device": {{name: "dev/console/x"}, {name: "dev/console", kind: tar.TypeChar}},
		"shut":           {{name: "d", kind: tar.TypeDir, mode: 0o7000}, {name: "d/e/f"}, {name: "../y"}},
	} {
		_, err := RootFromTar(t.Context(), system(t, e...), filepath.Join(place, "new"), FileLimits{})
		refusedFile(t, err)
	}
	var large *ErrTooLarge
	_, err := RootFromTar(t.Context(), system(t), filepath.Join(place, "new"), FileLimits{Entries: 5})
	require.ErrorAs(t, err, &large)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err = io.Copy(z, archive(t, entry{name: "bomb", body: strings.Repeat("\x00", 8<<20)}))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	_, err = RootFromTar(t.Context(), &bomb, filepath.Join(place, "new"), FileLimits{Total: 1 << 20})
	require.ErrorAs(t, err, &large)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = RootFromTar(ctx, system(t), filepath.Join(place, "new"), FileLimits{})
	require.ErrorIs(t, err, context.Canceled)
	var config *ErrConfig
	for _, dir := range []string{"", "/", filepath.Join(place, "none", "x"), "..", probePath} {
		_, err = RootFromTar(t.Context(), system(t), dir, FileLimits{})
		require.ErrorAs(t, err, &config, dir)
	}
	list, err := os.ReadDir(place)
	require.NoError(t, err)
	require.Empty(t, list, "nothing is left")
}

// A tree made to show the host.
func TestRootHostile(t *testing.T) {
	tree := func() string {
		root := t.TempDir()
		require.NoError(t, os.Chmod(root, 0o755))
		require.NoError(t, os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755))
		b, err := os.ReadFile(probePath)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(root, "usr/bin/probe"), b, 0o755))
		return root
	}
	var config *ErrConfig
	etc := tree()
	require.NoError(t, os.Symlink("/etc", filepath.Join(etc, "etc")))
	_, err := Start(t.Context(), Config{Root: etc}, "/usr/bin/probe", "threads")
	require.ErrorAs(t, err, &config)
	require.Equal(t, "Root", config.Field)
	_, err = Start(t.Context(), Config{Root: "/"}, "/usr/bin/true")
	require.ErrorAs(t, err, &config)
	links := tree()
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("x"), 0o666))
	for name, target := range map[string]string{"lib": "/proc/1/root", "opt": filepath.Dir(secret), "srv": "../../../../../.." + filepath.Dir(secret), "usr/out": filepath.Dir(secret)} {
		require.NoError(t, os.Symlink(target, filepath.Join(links, name)))
	}
	require.NoError(t, unix.Mkfifo(filepath.Join(links, "pipe"), 0o666))
	for _, path := range []string{"/opt/secret", "/srv/secret", "/usr/out/secret", "/pipe"} {
		p, err := Start(t.Context(), Config{Root: links}, "/usr/bin/probe", "open-write", path)
		require.NoError(t, err)
		r, err := p.Wait()
		require.NoError(t, err)
		require.Equal(t, "ENOENT\n", string(r.Stdout), path)
	}
}
