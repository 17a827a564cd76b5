package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What payloads do to the caller and to other sandboxes, by what they have in common.

// fewFiles is a limit of open files below that of a payload; a session needs number 253.
const fewFiles = 260

func init() {
	limited := func(hard bool, f func() error) func() {
		return func() {
			var l syscall.Rlimit
			err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
			if l.Cur = fewFiles; hard {
				l.Max = fewFiles
			}
			if err == nil {
				err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
			}
			if err == nil {
				err = f()
			}
			fmt.Println(err)
		}
	}
	roles["files under way"] = limited(false, filesUnderWay)
	roles["files under way, no room"] = limited(true, filesUnderWay)
	roles["deep tree"] = limited(false, deepTree)
}

// sender keeps files of its user under way between processes, as many as it may.
const sender = `
import array, os, socket, time
kept = []
try:
    while True:
        kept.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        kept[-1][0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0] * 250))])
except OSError as e:
    print(e, flush=True)
time.sleep(60)`

// filesUnderWay opens a session while another sandbox of the same uid does that.
func filesUnderWay() error {
	ctx := context.Background()
	out := make(chan string, 1)
	p, err := Start(ctx, Config{Stdout: writerFunc(func(b []byte) (int, error) {
		select {
		case out <- string(b):
		default:
		}
		return len(b), nil
	})}, "python3", "-c", sender)
	if err != nil {
		return err
	}
	if said := <-out; !strings.Contains(said, "Too many references") {
		return errors.New(said)
	}
	s, err := NewSession(ctx, Config{})
	if err == nil {
		_, err = s.Exec(ctx, "true")
		err = errors.Join(err, s.Close())
	}
	p.Kill()
	_, _ = p.Wait()
	return err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// deepTree removes an overlay in which directories are nested more deeply than files can be opened.
func deepTree() error {
	base, err := os.MkdirTemp("", "deep-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(base)
	dir, err := os.MkdirTemp("", "deep-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o, err := NewOverlay(base, OverlayOptions{Dir: dir})
	if err != nil {
		return err
	}
	command := fmt.Sprintf(`python3 -c "
import os
for i in range(%d):
    os.mkdir('d'); os.mkdir('e'); open('e/f', 'w').close(); os.chmod('e', 0); os.chdir('d')
os.chmod('/workspace/d/d', 0)"`, 2*fewFiles)
	r, err := Run(context.Background(), Config{Overlay: o}, command)
	if err != nil || r.ExitCode != 0 {
		return fmt.Errorf("%s %w", r.Stderr, err)
	}
	if err := o.Discard(); err != nil {
		return err
	}
	changes, err := o.Diff(context.Background())
	if err != nil || len(changes) > 0 {
		return fmt.Errorf("%v %w", changes, err)
	}
	if _, err := Run(context.Background(), Config{Overlay: o}, command); err != nil {
		return err
	}
	if err := o.Close(); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) > 0 {
		err = fmt.Errorf("left: %v", left)
	}
	return err
}

// RENAME_WHITEOUT leaves a device where the file was.
func TestNoWhiteout(t *testing.T) {
	whiteout := fmt.Sprintf(`python3 -c "
import ctypes, os, stat
open('a', 'w').close()
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(%d, -100, b'a', -100, b'b', 4), ctypes.get_errno(), stat.S_ISCHR(os.lstat('a').st_mode))"`, unix.SYS_RENAMEAT2)
	require.Equal(t, "-1 1 False\n", string(run(t, Config{Workspace: t.TempDir()}, whiteout).Stdout))
	require.Equal(t, "-1 1 False\n", string(run(t, Config{Dir: "/tmp"}, whiteout).Stdout))
	control := exec.CommandContext(t.Context(), "bash", "-c", whiteout)
	control.Dir = t.TempDir()
	out, err := control.Output()
	require.NoError(t, err)
	require.Equal(t, "0 0 True\n", string(out), "the control")
}

func TestFilesUnderWay(t *testing.T) {
	out, err := again("files under way").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "<nil>\n", string(out))
	out, err = again("files under way, no room").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "cannot hand over open files")
}

func TestRemoveDeepTree(t *testing.T) {
	out, err := again("deep tree").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "<nil>\n", string(out))
}

// Who has the uid of a command cannot put something else where the caller removes its
// private directory.
func TestBarePrivateStays(t *testing.T) {
	needRoot(t)
	mark := marked(t, 300)
	p := startBare(t, Config{}, "sleep "+mark)
	seen(t, mark)
	out, err := asBare(t, "/", "touch", filepath.Join(p.private, "tmp", "control")).CombinedOutput()
	require.NoError(t, err, "the control: %s", out)
	for _, argv := range [][]string{
		{"mv", p.private, p.private + ".moved"}, {"mv", filepath.Join(p.private, "tmp"), filepath.Join(p.private, "moved")}, {"chmod", "777", p.private},
	} {
		require.Error(t, asBare(t, "/", argv...).Run(), argv)
	}
	p.kill()
	_, err = p.wait()
	require.NoError(t, err)
	_, err = os.Lstat(p.private)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
