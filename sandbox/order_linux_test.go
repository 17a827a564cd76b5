package sandbox

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// countFiles counts the open files of this process.
func countFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func inodeOf(t *testing.T, f *os.File) uint64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(f.Fd()), &st))
	return st.Ino
}

// Orders are answered in order, whoever gives them, and leave no files behind.
func TestOrders(t *testing.T) {
	p, err := Start(t.Context(), Config{}, "bash", "-c", "ln -s /proc/self/root /tmp/magic; ln -s ../../../../etc /tmp/up; mkfifo /tmp/fifo; touch /tmp/ready; sleep 300")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	open := func(ctx context.Context, flags uint32, path string) (*os.File, error) {
		files, err := p.impl.order(ctx, proto.EncodeOpen(flags, 0, path), 1)
		if err != nil {
			return nil, err
		}
		return files[0], nil
	}
	require.Eventually(t, func() bool {
		f, err := open(t.Context(), unix.O_PATH, "/tmp/ready")
		if err == nil {
			f.Close()
		}
		return err == nil
	}, patience, 1e6)
	names := []string{"/", "/tmp", "/home/user", "/etc", "/dev", "/proc", "/workspace", "/run"}
	want := map[string]uint64{}
	for _, name := range names {
		f, err := open(t.Context(), unix.O_PATH|unix.O_DIRECTORY, name)
		require.NoError(t, err)
		want[name] = inodeOf(t, f)
		f.Close()
	}
	before := countFiles(t)
	var group sync.WaitGroup
	for i := range 400 {
		group.Go(func() {
			name := names[i%len(names)]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				cancel() // it loses interest, and no reply of another's is taken for its own
			}
			f, err := open(ctx, unix.O_PATH|unix.O_DIRECTORY, name)
			if err != nil {
				require.ErrorIs(t, err, context.Canceled)
				return
			}
			require.Equal(t, want[name], inodeOf(t, f))
			f.Close()
		})
	}
	group.Wait()
	require.Eventually(t, func() bool { return countFiles(t) <= before }, patience, 1e6)

	for path, want := range map[string]error{
		"/tmp/up": nil, "/tmp/fifo": nil, "/../../../tmp": nil, "/tmp/magic": syscall.ELOOP, "/tmp/magic/etc": syscall.ELOOP,
		"/proc/1/root": syscall.ELOOP, "/nowhere": syscall.ENOENT, "/" + strings.Repeat("x", proto.MaxPath): syscall.ENAMETOOLONG,
	} {
		f, err := open(t.Context(), unix.O_RDONLY, path)
		require.ErrorIs(t, err, want, path)
		if err == nil {
			f.Close()
		}
	}
	f, err := open(t.Context(), unix.O_PATH, "/tmp/up")
	require.NoError(t, err)
	require.Equal(t, want["/etc"], inodeOf(t, f), "a link that leads up ends at the sandbox's root")
	f.Close()

	p.Kill()
	_, err = open(t.Context(), unix.O_PATH, "/tmp")
	require.ErrorIs(t, err, os.ErrProcessDone)
	_, err = p.Wait()
	require.NoError(t, err)
	_, err = open(t.Context(), unix.O_PATH, "/tmp")
	require.ErrorIs(t, err, os.ErrProcessDone)
}

// What pid 1 says of its own failure after the start is the error, not only that it has ended.
func TestFailureAfterStart(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	mine, pid1 := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "pid 1")
	defer mine.Close()
	frame := binary.LittleEndian.AppendUint32(nil, uint32(proto.KindError))
	frame = binary.LittleEndian.AppendUint32(frame, uint32(8+len("poll")))
	frame = binary.LittleEndian.AppendUint32(frame, uint32(proto.StageLimits))
	frame = binary.LittleEndian.AppendUint32(frame, uint32(syscall.ENOMEM))
	_, err = pid1.Write(append(frame, "poll"...))
	require.NoError(t, err)
	require.NoError(t, pid1.Close())
	p := newProcess()
	for i := range p.streams {
		p.streams[i] = newCapture("", 0, nil, nil)
	}
	p.orders.read(&receiver{file: mine})
	p.conclude(p.orders.exit, &remains{err: errors.New("exit status 1")})
	var setup *ErrSetup
	require.ErrorAs(t, p.err, &setup)
	require.Equal(t, ErrSetup{proto.StageLimits.String(), "poll", syscall.ENOMEM}, *setup)
}
