package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestDiskTooSmall(t *testing.T) {
	const huge = int64(1) << 60
	says := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(huge, 10))
		_, _ = w.Write(fakeModel(1000, 1))
		_ = http.NewResponseController(w).Flush()
	}
	want := func(t *testing.T, err error) {
		t.Helper()
		var de *DiskFullError
		require.ErrorAs(t, err, &de)
		require.ErrorIs(t, err, ErrDiskFull)
		require.Equal(t, huge, de.Need)
		require.Positive(t, de.Free)
		require.ErrorContains(t, err, "1152921504606.8 MB more are needed")
	}
	t.Run("as the file server says", func(t *testing.T) {
		dir := t.TempDir()
		o := newOrigin(t, nil, says)
		_, err := pullFast(t.Context(), t, o.url(), Options{Dir: dir})
		want(t, err)
		require.Len(t, o.requests(), 1)
		require.Empty(t, leftIn(t, dir))
	})
	t.Run("as the hub says", func(t *testing.T) {
		h := newFakeHub(t, "o/r", nil)
		h.handle("/api/models/o/r/tree/main", raw(200, fmt.Appendf(nil, `[{"type":"file","path":"m.gguf","size":%d}]`, huge)))
		_, err := pullFast(t.Context(), t, "hf:o/r", Options{Dir: t.TempDir(), Endpoint: h.URL})
		want(t, err)
		require.Len(t, h.requests(), 1) // the file was not asked for
	})
	t.Run("for the wheels", func(t *testing.T) {
		x := newTiny(t)
		x.script(t, "pip", x.works())
		x.known.size = huge - 100_000
		_, err := x.pull(t.Context(), t, Options{Dir: t.TempDir(), Endpoint: nowhere})
		want(t, err)
	})
}

const noSmallDisk = "this host refuses a mount in a user namespace, so no small disk can be made"

const smallDisk = "HUB_TEST_SMALL_DISK"

// TestDiskFillsUp pulls to a real disk of 256 kB, so that the space runs out in mid-write: the length is not told beforehand.
// The disk is a tmpfs in a mount namespace of a process of its own.
func TestDiskFillsUp(t *testing.T) {
	if dir := os.Getenv(smallDisk); dir != "" {
		fillDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFillsUp$", "-test.v")
	cmd.Env = append(os.Environ(), smallDisk+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || bytes.Contains(out, []byte("--- SKIP")) {
		t.Skip(noSmallDisk)
	}
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestDiskFillsUp")
}

func fillDisk(t *testing.T, dir string) {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		t.Skip(noSmallDisk)
	}
	require.NoError(t, err)
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"))
	body := fakeModel(modelSize, 1)
	o := newOrigin(t, body, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"one"`)
		for i := 0; i < len(body); i += 50_000 { // chunked: more than the server buffers
			_, _ = w.Write(body[i : i+50_000])
			_ = http.NewResponseController(w).Flush()
		}
	})
	_, err = pullFast(context.Background(), t, o.url(), Options{Dir: dir})
	require.ErrorIs(t, err, ErrDiskFull)
	var de *DiskFullError
	require.ErrorAs(t, err, &de)
	require.Equal(t, int64(0), de.Free)

	// Room is made; the pull goes on where it stopped.
	parts, err := filepath.Glob(filepath.Join(dir, "*", "model.gguf.part"))
	require.NoError(t, err)
	require.Len(t, parts, 1)
	st, err := os.Stat(parts[0])
	require.NoError(t, err)
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=2m"))
	m, err := pullFast(context.Background(), t, o.url(), Options{Dir: dir})
	require.NoError(t, err)
	requireModel(t, dir, m, body)
	require.Equal(t, fmt.Sprintf("bytes=%d-", st.Size()), o.ranges()[1])
}
