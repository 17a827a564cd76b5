package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A view of a directory that a sandbox can change.

func files(t *testing.T, dir string, limits FileLimits) *Files {
	t.Helper()
	f, err := OpenFiles(dir, limits)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func get(f *Files, name string) (string, error) {
	r, _, err := f.GetFile(name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

// owned makes a workspace that belongs to an unprivileged user where the caller is root.
func owned(t *testing.T) string {
	t.Helper()
	ws := t.TempDir()
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(ws, 1234, 1234))
	}
	return ws
}

func TestFiles(t *testing.T) {
	ws := owned(t)
	f := files(t, ws, FileLimits{})
	require.NoError(t, f.PutFile("a/b/c", strings.NewReader("content"), 0o6754))
	require.NoError(t, f.PutFile("a/b/c", strings.NewReader("new"), 0o4640|fs.ModeSetuid))
	got, err := get(f, "a/b/c")
	require.NoError(t, err)
	require.Equal(t, "new", got)
	require.NoError(t, os.Symlink("c", filepath.Join(ws, "a/b/l")))
	require.NoError(t, os.Symlink("/etc", filepath.Join(ws, "out")))
	got, err = get(f, "a/b/l")
	require.NoError(t, err, "a link that stays inside is followed")
	require.Equal(t, "new", got)

	var list []string
	for info, err := range f.Walk(".") {
		require.NoError(t, err)
		list = append(list, fmt.Sprintf("%s %v %d %s", info.Path, info.Mode, info.Size, info.Target))
		st, err := os.Lstat(filepath.Join(ws, info.Path))
		require.NoError(t, err)
		if info.Mode&fs.ModeSymlink == 0 && os.Geteuid() == 0 {
			require.EqualValues(t, 1234, st.Sys().(*syscall.Stat_t).Uid, "%s belongs to the owner of the workspace", info.Path)
			require.EqualValues(t, 1234, st.Sys().(*syscall.Stat_t).Gid)
		}
	}
	require.Equal(t, []string{"a drwxr-xr-x 0 ", "a/b drwxr-xr-x 0 ", "a/b/c -rw-r----- 3 ", "a/b/l Lrwxrwxrwx 0 c", "out Lrwxrwxrwx 0 /etc"}, list)

	// What the sandbox is shown is its own.
	r := run(t, Config{Workspace: ws}, "stat -c %u a a/b a/b/c | sort -u; echo more >> a/b/c && cat a/b/c")
	require.Equal(t, "1000\nnewmore\n", string(r.Stdout))
}

// 106, 25: names and links that lead out, and what is no file.
// "No bound" may be said by the largest number.
func TestFilesWithoutBound(t *testing.T) {
	f := files(t, t.TempDir(), FileLimits{File: math.MaxInt64, Total: math.MaxInt64, Entries: math.MaxInt})
	require.NoError(t, f.PutFile("a", strings.NewReader("whole"), 0o644))
	text, err := get(f, "a")
	require.NoError(t, err)
	require.Equal(t, "whole", text)
	var archive bytes.Buffer
	_, err = f.GetTar(t.Context(), ".", &archive, TarOptions{})
	require.NoError(t, err)
	report, err := f.PutTar(t.Context(), "copy", &archive)
	require.NoError(t, err)
	require.Equal(t, TarReport{Entries: 1, Bytes: 5}, report)
}

func TestFilesRefused(t *testing.T) {
	outside, ws := t.TempDir(), owned(t)
	secret := filepath.Join(outside, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(ws, "abs")))
	rel, err := filepath.Rel(ws, outside)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(rel, filepath.Join(ws, "rel")))
	require.NoError(t, os.Symlink(secret, filepath.Join(ws, "file")))
	require.NoError(t, os.Symlink("loop", filepath.Join(ws, "loop")))
	require.NoError(t, os.Symlink("/proc/self/root", filepath.Join(ws, "magic")))
	require.NoError(t, os.Mkdir(filepath.Join(ws, "dir"), 0o755))
	require.NoError(t, unix.Mkfifo(filepath.Join(ws, "fifo"), 0o666))
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(listener)
	require.NoError(t, unix.Bind(listener, &unix.SockaddrUnix{Name: filepath.Join(ws, "socket")}))
	if os.Geteuid() == 0 {
		require.NoError(t, unix.Mknod(filepath.Join(ws, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	}
	b, err := os.ReadFile(filepath.Join(ws, "abs", "secret"))
	require.NoError(t, err, "the control: a plain open is led out")
	require.Equal(t, "secret", string(b))

	f := files(t, ws, FileLimits{})
	long := strings.Repeat("x", 256)
	for _, name := range []string{
		"", ".", "/", "..", "/etc/passwd", "../../x", "a/b/../../..", "dir/../file", "dir//x", "dir/./x", "a\x00b", long, strings.Repeat("d/", 2100),
		"abs/secret", "rel/secret", "magic/etc/passwd", "loop/x", "abs/new/er", "dir", "fifo/x",
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			before := ownership(t, outside)
			err := f.PutFile(name, strings.NewReader("evil"), 0o644)
			refusedFile(t, err)
			_, err = get(f, name)
			refusedFile(t, err)
			require.Equal(t, before, ownership(t, outside))
			require.NotContains(t, err.Error(), ws, "no path of the host in it")
		})
	}
	for _, name := range []string{"file", "fifo", "socket", "loop", "device", "absent"} {
		_, err := get(f, name)
		refusedFile(t, err)
	}
	_, err = get(f, "absent")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"file", "fifo", "socket"} { // replaced, never opened
		require.NoError(t, f.PutFile(name, strings.NewReader("mine"), 0o644))
		got, err := get(f, name)
		require.NoError(t, err)
		require.Equal(t, "mine", got)
	}
	b, err = os.ReadFile(secret)
	require.NoError(t, err)
	require.Equal(t, "secret", string(b))
	require.NotContains(t, ownership(t, ws), ".lm-sandbox-", "no temporary file is left")
}

func refusedFile(t *testing.T, err error) {
	t.Helper()
	var file *ErrFile
	var large *ErrTooLarge
	require.True(t, errors.As(err, &file) || errors.As(err, &large), "%v", err)
}

// 64: bounds count logical bytes.
func TestFileLimits(t *testing.T) {
	ws := owned(t)
	f := files(t, ws, FileLimits{File: 1 << 20, Total: 2 << 20, Entries: 20})
	tooLarge := func(err error, what string) {
		t.Helper()
		var e *ErrTooLarge
		require.ErrorAs(t, err, &e)
		require.Equal(t, what, e.What)
	}
	require.NoError(t, f.PutFile("full", bytes.NewReader(make([]byte, 1<<20)), 0o644))
	tooLarge(f.PutFile("new", bytes.NewReader(make([]byte, 1<<20+1)), 0o644), "file")
	require.NoFileExists(t, filepath.Join(ws, "new"))
	_, err := get(f, "full")
	require.NoError(t, err)

	r := run(t, Config{Workspace: ws}, "truncate -s 100G sparse")
	require.Equal(t, 153, r.ExitCode, "RLIMIT_FSIZE bounds it inside")
	require.NoError(t, os.WriteFile(filepath.Join(ws, "sparse"), nil, 0o644))
	require.NoError(t, os.Truncate(filepath.Join(ws, "sparse"), 100<<30))
	_, err = get(f, "sparse")
	tooLarge(err, "file")
	_, err = f.GetTar(t.Context(), ".", io.Discard, TarOptions{})
	tooLarge(err, "file")
	require.NoError(t, os.Remove(filepath.Join(ws, "sparse")))

	growing, _, err := f.GetFile("full")
	require.NoError(t, err)
	defer growing.Close()
	require.NoError(t, os.Truncate(filepath.Join(ws, "full"), 1<<20+1))
	_, err = io.Copy(io.Discard, growing)
	tooLarge(err, "file")
	require.NoError(t, os.Truncate(filepath.Join(ws, "full"), 1<<20))

	for _, n := range []string{"b", "c"} {
		require.NoError(t, f.PutFile(n, bytes.NewReader(make([]byte, 1<<20)), 0o644))
	}
	_, err = f.GetTar(t.Context(), ".", io.Discard, TarOptions{})
	tooLarge(err, "total")

	for i := range 20 {
		require.NoError(t, f.PutFile(fmt.Sprintf("many/%d", i), strings.NewReader(""), 0o644))
	}
	tooLarge(walked(f, "."), "entries")

	deep := owned(t)
	require.NoError(t, os.MkdirAll(filepath.Join(deep, strings.Repeat("d/", 300)), 0o755))
	tooLarge(walked(files(t, deep, FileLimits{}), "."), "depth")
}

func walked(f *Files, dir string) (err error) {
	for _, e := range f.Walk(dir) {
		err = e
	}
	return err
}

// What the sandbox has made unreadable is told, and does not end a walk or an archive.
func TestFilesUnreadable(t *testing.T) {
	ws := owned(t)
	run(t, Config{Workspace: ws}, "mkdir closed; echo x > closed/x; echo y > open; echo z > shut; chmod 0 closed shut; mkfifo pipe; mkdir zz; echo > zz/f")
	f := files(t, ws, FileLimits{})
	report, err := f.GetTar(t.Context(), ".", io.Discard, TarOptions{})
	require.NoError(t, err)
	var skipped []string
	for _, s := range report.Skipped {
		skipped = append(skipped, s.Path+": "+s.Reason)
	}
	require.Equal(t, []string{"closed: permission denied", "pipe: a named pipe", "shut: permission denied"}, skipped)
	require.Equal(t, 3, report.Entries)
	require.NoError(t, os.Chmod(filepath.Join(ws, "closed"), 0o700))
}

// 25: a sandbox that swaps a directory for a link while the host works there.
func TestFilesSwappedLinks(t *testing.T) {
	outside := t.TempDir()
	canary := filepath.Join(outside, "f")
	require.NoError(t, os.WriteFile(canary, []byte("canary"), 0o644))
	require.NoError(t, os.Chmod(outside, 0o777))
	ws := owned(t)
	rel, err := filepath.Rel(ws, outside)
	require.NoError(t, err)
	setup := fmt.Sprintf("mkdir d e; echo inside > d/f; echo inside > e/f; ln -s %s l; ln -s %s m; ln -s %s/f x; echo inside > y", outside, rel, outside)
	require.Equal(t, 0, run(t, Config{Workspace: ws}, setup).ExitCode)
	out := &firstLine{seen: make(chan struct{})}
	c := probed(Config{Workspace: ws})
	c.Stdout = out
	p, err := Start(t.Context(), c, "/opt/probe", "swap", "d", "l", "e", "m", "x", "y")
	require.NoError(t, err)
	defer func() {
		p.Kill()
		_, err := p.Wait()
		require.NoError(t, err)
	}()
	<-out.seen

	led := false // the control: a plain path is led out
	for i := 0; i < 100_000 && !led; i++ {
		b, err := os.ReadFile(filepath.Join(ws, "d", "f"))
		led = err == nil && string(b) == "canary"
	}
	require.True(t, led, "the control")

	f := files(t, ws, FileLimits{})
	before := ownership(t, outside)
	succeeded := 0
	for i := range 1000 {
		for _, name := range []string{"d/f", "e/f", "y", "d/n/f"} {
			if f.PutFile(name, strings.NewReader("evil"), 0o644) == nil {
				succeeded++
			}
			if got, err := get(f, name); err == nil {
				require.NotEqual(t, "canary", got)
			}
		}
		if i%10 == 0 {
			for info := range f.Walk(".") {
				require.NotContains(t, info.Path, "secret")
			}
			var b bytes.Buffer
			_, _ = f.GetTar(t.Context(), ".", &b, TarOptions{})
			require.NotContains(t, b.String(), "canary")
			_, _ = f.PutTar(t.Context(), "d", archive(t, entry{name: "f", body: "evil"}, entry{name: "sub/f", body: "evil"}))
		}
	}
	require.NotZero(t, succeeded)
	b, err := os.ReadFile(canary)
	require.NoError(t, err)
	require.Equal(t, "canary", string(b))
	require.Equal(t, before, ownership(t, outside))
}

// firstLine tells when something was written.
type firstLine struct{ seen chan struct{} }

func (f *firstLine) Write(b []byte) (int, error) {
	select {
	case <-f.seen:
	default:
		close(f.seen)
	}
	return len(b), nil
}
