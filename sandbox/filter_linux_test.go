package sandbox

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp"
	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp/policy"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a filter refuses when all arguments are zero, by number: what an
// interpreter makes of the program, the kernel makes of it too.
func TestFilterIsEnforced(t *testing.T) {
	t.Run("namespaces", func(t *testing.T) {
		enforced(t, seccomp.Filter(), func(args string) string { return inside(t, Config{}, args) })
	})
	t.Run("landlock", func(t *testing.T) {
		ws := bareOwned(t)
		copied(t, probePath, filepath.Join(ws, "probe"))
		enforced(t, seccomp.FilterLandlock(), func(args string) string {
			return string(runBare(t, Config{Workspace: ws}, "./probe "+args).Stdout)
		})
	})
}

func enforced(t *testing.T, filter []byte, probe func(args string) string) {
	t.Helper()
	want := refusedWithZeros(t, filter)
	require.Greater(t, len(want), 150)
	args := []string{"numbers"}
	for n := range want {
		args = append(args, strconv.Itoa(n))
	}
	got := map[int]string{}
	for line := range strings.Lines(probe(strings.Join(args, " "))) {
		var n int
		var outcome string
		if _, err := fmt.Sscan(line, &n, &outcome); err == nil {
			got[n] = outcome
		}
	}
	for n, refusal := range want {
		if n == uprobeCall && got[n] == "ENXIO" {
			continue // the kernel, from 6.18, shows it to no filter: it works in its own trampoline only
		}
		require.Equal(t, refusal, got[n], "call %d", n)
	}
}

// refusedWithZeros interprets a program for each number.
func refusedWithZeros(t *testing.T, filter []byte) map[int]string {
	t.Helper()
	var raw []bpf.RawInstruction
	for i := 0; i < len(filter); i += 8 {
		raw = append(raw, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(filter[i:]), Jt: filter[i+2], Jf: filter[i+3], K: binary.NativeEndian.Uint32(filter[i+4:])})
	}
	program, ok := bpf.Disassemble(raw)
	require.True(t, ok)
	vm, err := bpf.NewVM(program)
	require.NoError(t, err)
	info, err := policy.Arch(runtime.GOARCH)
	require.NoError(t, err)
	out := map[int]string{}
	for n := range 600 {
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data, uint32(n))
		binary.BigEndian.PutUint32(data[4:], uint32(info.ID))
		action, err := vm.Run(data)
		require.NoError(t, err)
		if uint32(action) != policy.Allow {
			out[n] = unix.ErrnoName(syscall.Errno(action & 0xffff))
		}
	}
	return out
}

// What of the kernel's limits is fixed.
func TestFixedLimits(t *testing.T) {
	r := run(t, Config{}, "cat /proc/self/limits")
	for name, want := range map[string]string{
		"Max core file size": "1", "Max locked memory": "65536", "Max msgqueue size": "65536", "Max pending signals": "1024",
		"Max nice priority": "0", "Max realtime priority": "0",
	} {
		_, rest, ok := strings.Cut(string(r.Stdout), name)
		require.True(t, ok, name)
		require.Equal(t, []string{want, want}, strings.Fields(rest)[:2], "%s: soft and hard", name)
	}
}
