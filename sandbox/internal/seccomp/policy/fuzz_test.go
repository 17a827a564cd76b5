package policy

import (
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

// Whatever the arguments: a foreign architecture kills, the high words of
// arguments change nothing, and the stricter profile never allows what the other
// refuses.
func FuzzProgram(f *testing.F) {
	loose, strict, infos := map[string]*bpf.VM{}, map[string]*bpf.VM{}, map[string]*arch.Info{}
	for _, goarch := range goarches {
		loose[goarch], infos[goarch] = machine(f, Namespaces, goarch)
		strict[goarch], _ = machine(f, Landlock, goarch)
		info := infos[goarch]
		for _, call := range []string{"ioctl", "chmod", "clone", "socket", "personality", "utimensat", "openat", "prlimit64", "mknodat"} {
			for _, arg := range []uint64{0, 1, 0x5412 | high, 0o4755, 0x10000000, 40, ^uint64(0)} {
				f.Add(uint32(info.SyscallNames[call]), uint32(info.ID), arg, arg, arg, arg)
			}
		}
	}
	f.Fuzz(func(t *testing.T, n, id uint32, a0, a1, a2, a3 uint64) {
		for _, goarch := range goarches {
			vm, info := loose[goarch], infos[goarch]
			got := action(t, vm, data(n, id, a0, a1, a2, a3))
			if id != uint32(info.ID) || goarch == "amd64" && n >= x32Bit && n != noCall {
				require.Equal(t, KillProcess, got)
				continue
			}
			const low = 0xffffffff
			require.Equal(t, got, action(t, vm, data(n, id, a0&low, a1&low, a2&low, a3&low)))
			name, known := info.SyscallNumbers[int(n)]
			if !known {
				require.Equal(t, ENOSYS, got)
			}
			if name == "ioctl" && uint32(a1) == 0x5412 {
				require.Equal(t, EPERM, got)
			}
			if got != Allow {
				require.NotEqual(t, Allow, action(t, strict[goarch], data(n, id, a0, a1, a2, a3)), name)
			}
		}
	})
}
