package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/helper"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/proto"
	"github.com/stretchr/testify/require"
)

// 108: every failure of the helper becomes an error that says what to do.
func TestExplain(t *testing.T) {
	c := &Config{Workspace: "/ws", Binds: []Bind{{Source: "/s", Target: "/data"}}}
	r := &proto.Request{Run: proto.Run{Dir: "/workspace", Path: "bash"},
		Build: proto.Build{Ops: []proto.Op{{Kind: proto.OpBind, Path: "workspace", Source: "/ws"}}}}
	is := func(target any) func(error) bool {
		return func(err error) bool { return errors.As(err, target) }
	}
	for _, tc := range []struct {
		f    proto.Failure
		is   func(error) bool
		text string
	}{
		{proto.Failure{Stage: proto.StageClone, Errno: uint32(syscall.EPERM)}, is(new(*ErrUserNamespace)), "make namespaces"},
		{proto.Failure{Stage: proto.StageClone, Errno: uint32(syscall.ENOSPC)}, is(new(*ErrUserNamespace)), "max_user_namespaces"},
		{proto.Failure{Stage: proto.StageMap, Errno: uint32(syscall.EACCES)}, is(new(*ErrUserNamespace)), "map the user"},
		{proto.Failure{Stage: proto.StageProc, Errno: uint32(syscall.EPERM), Detail: "proc"}, is(new(*ErrUserNamespace)), "mount /proc"},
		{proto.Failure{Stage: proto.StageRoot, Errno: uint32(syscall.EACCES), Detail: "tmpfs"}, is(new(*ErrUserNamespace)), "build the root"},
		{proto.Failure{Stage: proto.StageRoot, Errno: uint32(syscall.ENOMEM), Detail: "tmpfs"}, is(new(*ErrSetup)), "tmpfs"},
		{proto.Failure{Stage: proto.StageDrop, Errno: uint32(syscall.EPERM), Detail: "setresuid"}, is(new(*ErrSetup)), "drop root"},
		{proto.Failure{Stage: proto.StageIDMap, Errno: uint32(syscall.EINVAL), Detail: "workspace"}, is(new(*ErrOwner)), "/ws cannot be lent"},
		{proto.Failure{Stage: proto.StageMount, Errno: uint32(syscall.EACCES), Detail: "workspace"}, is(new(*ErrConfig)), "Workspace: permission denied"},
		{proto.Failure{Stage: proto.StageMount, Errno: uint32(syscall.ELOOP), Detail: "data"}, is(new(*ErrConfig)), "Binds[0].Target"},
		{proto.Failure{Stage: proto.StageMount, Errno: uint32(syscall.EACCES), Detail: "data"}, is(new(*ErrConfig)), "Binds[0].Source"},
		{proto.Failure{Stage: proto.StageDir, Errno: uint32(syscall.ENOENT)}, is(new(*ErrConfig)), "does not exist in the sandbox"},
		{proto.Failure{Stage: proto.StageExec, Errno: uint32(syscall.ENOENT)}, is(new(*ErrExec)), `"bash"`},
		{proto.Failure{Stage: proto.StageSeccomp, Errno: uint32(syscall.EINVAL)}, is(new(*ErrSetup)), "filter"},
		{proto.Failure{Stage: 99, Errno: uint32(syscall.EIO)}, is(new(*ErrSetup)), "unknown stage"},
	} {
		err := explain(tc.f, r, c)
		require.True(t, tc.is(err), "%T %v", err, err)
		require.Contains(t, err.Error(), tc.text)
		require.Contains(t, err.Error(), "sandbox: ")
	}
}

// talk sends bytes to a helper of its own and returns its answer and end.
func talk(t *testing.T, request []byte) (any, error) {
	t.Helper()
	file, err := helper.File()
	require.NoError(t, err)
	ours, theirs, err := socketPair()
	require.NoError(t, err)
	defer ours.Close()
	c := &exec.Cmd{Path: helperInChild, Args: []string{"helper"}, Env: []string{}, ExtraFiles: []*os.File{theirs, file}}
	require.NoError(t, c.Start())
	require.NoError(t, theirs.Close())
	require.NoError(t, ours.SetDeadline(time.Now().Add(time.Minute)))
	_, _ = ours.Write(request) // it may have closed the socket already
	raw, err := ours.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_WR) }))
	frame, _ := proto.Read(ours)
	return frame, c.Wait()
}

// The helper survives whatever it is sent, and says that it is wrong.
func TestHelperRefusesGarbage(t *testing.T) {
	c := Config{}
	r, _, err := c.request("/bin/true", []string{"true"})
	require.NoError(t, err)
	good := r.Encode()
	refused := proto.Failure{Stage: proto.StageRequest, Errno: uint32(syscall.EPROTO)}
	check := func(name string, b []byte) {
		t.Helper()
		frame, err := talk(t, b)
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			require.True(t, exit.Exited(), "%s: %v", name, err)
		}
		if frame == nil {
			require.NoError(t, err, "%s: the caller was gone before the request was whole", name)
			return
		}
		f, ok := frame.(proto.Failure)
		require.True(t, ok, "%s: %v", name, frame)
		f.Detail = ""
		require.Equal(t, refused, f, name)
	}
	check("nothing", nil)
	check("half a header", good[:5])
	check("text", bytes.Repeat([]byte("GET / HTTP/1.0\r\n"), 100))
	resize := func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
		return b
	}
	// Cut short at many places, with a header that says so.
	for n := 8; n < len(good)-1; n += 1 + len(good)/100 {
		check("cut", resize(bytes.Clone(good[:n])))
	}
	check("too long", resize(append(bytes.Clone(good), 0)))
	const version, hostnameLength, hostname = 8, 36, 40
	for offset, values := range map[int][]uint32{
		version: {0, proto.Version - 1, proto.Version + 1, 0xffffffff}, hostnameLength: {0, 6, 8, 0x7fffffff, 0xfffffff0, 0xffffffff}, hostname: {0},
	} {
		for _, value := range values {
			b := bytes.Clone(good)
			binary.LittleEndian.PutUint32(b[offset:], value)
			check("corrupt", b)
		}
	}
	b := bytes.Clone(good)
	binary.LittleEndian.PutUint32(b[4:], 0xffffffff)
	check("huge", b)
}
