package sandbox

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSessionFiles(t *testing.T) {
	ws := owned(t)
	for name, c := range map[string]Config{"its own workspace": {}, "of the host": {Workspace: ws}, "an overlay": {Overlay: overlayOn(t, project(t, os.Getuid(), os.Getgid()))}} {
		t.Run(name, func(t *testing.T) {
			s, err := NewSession(t.Context(), c)
			require.NoError(t, err)
			defer s.Close()
			require.NoError(t, s.PutFile(t.Context(), "in/put", strings.NewReader("from the host\n"), 0o600))
			r, err := s.Exec(t.Context(), "cat in/put; stat -c '%u %a' in/put; echo from inside > made; chmod 600 made; mkdir ~/h; echo home > ~/h/f")
			require.NoError(t, err)
			require.Equal(t, "from the host\n1000 600\n", string(r.Stdout), "%s", r.Stderr)
			f, info, err := s.GetFile(t.Context(), "made")
			require.NoError(t, err)
			b, err := io.ReadAll(f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.Equal(t, "from inside\n", string(b))
			require.EqualValues(t, 12, info.Size)

			home, err := s.Files(t.Context(), "/home/user", FileLimits{})
			require.NoError(t, err)
			defer home.Close()
			var archived bytes.Buffer
			_, err = home.GetTar(t.Context(), "h", &archived, TarOptions{})
			require.NoError(t, err)
			report, err := home.PutTar(t.Context(), "copy", &archived)
			require.NoError(t, err)
			require.Equal(t, TarReport{Entries: 1, Bytes: 5}, report)
			r, err = s.Exec(t.Context(), "cat ~/copy/f")
			require.NoError(t, err)
			require.Equal(t, "home\n", string(r.Stdout))

			require.NoError(t, s.Close())
			got, err := get(home, "copy/f")
			require.NoError(t, err, "until its own Close")
			require.Equal(t, "home\n", got)
			_, _, err = s.GetFile(t.Context(), "made")
			require.ErrorIs(t, err, ErrClosed)
		})
	}
}

// 25: names inside mean the sandbox's files, whatever it makes of them.
func TestSessionFilesConfined(t *testing.T) {
	data := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(data, "f"), []byte("lent"), 0o644))
	require.NoError(t, os.Chmod(data, 0o755))
	s, err := NewSession(t.Context(), Config{Binds: []Bind{{Source: data, Target: "/data"}}, Workspace: repository(t), Protect: DefaultProtect()})
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Exec(t.Context(), "ln -s / top; ln -s /proc proc; ln -s /etc etc; ln -s /proc/1/root r; mkfifo pipe; ln -s loop loop; mkdir /tmp/d; ln -s /tmp/d d")
	require.NoError(t, err)
	var config *ErrConfig
	for _, dir := range []string{"", ".", "workspace", "/", "/..", "/workspace/../etc", "/workspace/", "/proc", "/proc/self/fd", "/workspace/top", "/workspace/proc", "/workspace/proc/1"} {
		_, err := s.Files(t.Context(), dir, FileLimits{})
		require.ErrorAs(t, err, &config, dir)
	}
	for _, dir := range []string{"/none", "/workspace/r", "/workspace/pipe", "/workspace/loop", "/workspace/.bashrc"} {
		_, err := s.Files(t.Context(), dir, FileLimits{})
		refusedFile(t, err)
	}
	for _, name := range []string{"etc/passwd", "top/etc/passwd", "proc/1/environ", "pipe", "d/x", ".bashrc", ".git/config"} {
		refusedFile(t, s.PutFile(t.Context(), "x/../"+name, strings.NewReader("evil"), 0o644))
		if name != "pipe" { // a name that is replaced
			refusedFile(t, s.PutFile(t.Context(), name, strings.NewReader("evil"), 0o644))
		}
	}
	lent, err := s.Files(t.Context(), "/data", FileLimits{})
	require.NoError(t, err)
	defer lent.Close()
	got, err := get(lent, "f")
	require.NoError(t, err)
	require.Equal(t, "lent", got)
	refusedFile(t, lent.PutFile("f", strings.NewReader("evil"), 0o644))
	d, err := s.Files(t.Context(), "/workspace/d", FileLimits{})
	require.NoError(t, err, "a link inside means what it means there")
	require.NoError(t, d.PutFile("x", strings.NewReader("y"), 0o644))
	require.NoError(t, d.Close())
	r, err := s.Exec(t.Context(), "cat /tmp/d/x")
	require.NoError(t, err)
	require.Equal(t, "y", string(r.Stdout))
}
