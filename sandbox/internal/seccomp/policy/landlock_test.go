package policy

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLandlockArguments(t *testing.T) {
	tests := []struct {
		call string
		args []uint64
		want uint32
	}{
		{"socket", []uint64{1, 1, 0}, EAFNOSUPPORT}, {"socket", []uint64{2, 1, 6}, EAFNOSUPPORT}, {"socket", []uint64{16, 3, 0}, EAFNOSUPPORT},
		{"socketpair", []uint64{1, 1, 0}, Allow}, {"socketpair", []uint64{1, 5 | 0x80800, 0}, Allow}, {"socketpair", []uint64{1, 2, 0}, EPROTONOSUPPORT}, {"socketpair", []uint64{1, 2 | 0x80000, 0}, EPROTONOSUPPORT}, {"socketpair", []uint64{2, 1, 0}, EAFNOSUPPORT},
		{"fchmod", []uint64{3, 0o755}, Allow}, {"fchmod", []uint64{3, 0o4755}, EPERM},
		{"utimensat", []uint64{3, 0, 0, 0}, Allow}, {"utimensat", []uint64{3, 0x1000, 0, 0}, EPERM},
		{"utimensat", []uint64{3, high, 0, 0}, EPERM}, {"utimensat", []uint64{3, high | 1, 0, 0}, EPERM},
		{"prlimit64", []uint64{0, 7}, Allow}, {"prlimit64", []uint64{1, 7}, EPERM}, {"prlimit64", []uint64{4711 | high, 7}, EPERM},
		{"sched_setaffinity", []uint64{0}, Allow}, {"sched_setaffinity", []uint64{2}, EPERM},
		{"setpriority", []uint64{0, 0}, Allow}, {"setpriority", []uint64{0, 4711}, EPERM}, {"setpriority", []uint64{2, 0}, EPERM},
		{"ioprio_set", []uint64{1, 0}, Allow}, {"ioprio_set", []uint64{1, 4711}, EPERM}, {"ioprio_set", []uint64{3, 0}, EPERM},
		{"fchown", []uint64{3, 0, 0}, Allow}, {"fsetxattr", []uint64{3}, Allow},
	}
	for _, goarch := range goarches {
		vm, info := machine(t, Landlock, goarch)
		for _, tc := range tests {
			t.Run(fmt.Sprintf("%s %s %#x", goarch, tc.call, tc.args), func(t *testing.T) {
				n, ok := info.SyscallNames[tc.call]
				require.True(t, ok)
				require.Equal(t, tc.want, action(t, vm, data(uint32(n), uint32(info.ID), tc.args...)))
			})
		}
	}
}
