package policy

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/bpf"
)

var goarches = []string{"amd64", "arm64"}

// machine interprets a program.
func machine(t testing.TB, profile Profile, goarch string) (*bpf.VM, *arch.Info) {
	t.Helper()
	p, err := profile.Program(goarch)
	require.NoError(t, err)
	ins, ok := bpf.Disassemble(p)
	require.True(t, ok)
	vm, err := bpf.NewVM(ins)
	require.NoError(t, err)
	info, err := Arch(goarch)
	require.NoError(t, err)
	return vm, info
}

// data is struct seccomp_data, each word in the interpreter's byte order.
func data(number, archID uint32, args ...uint64) []byte {
	b := make([]byte, 64)
	binary.BigEndian.PutUint32(b[0:], number)
	binary.BigEndian.PutUint32(b[4:], archID)
	for i, a := range args {
		binary.BigEndian.PutUint32(b[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(b[20+8*i:], uint32(a>>32))
	}
	return b
}

func action(t testing.TB, vm *bpf.VM, b []byte) uint32 {
	t.Helper()
	got, err := vm.Run(b)
	require.NoError(t, err)
	return uint32(got)
}

const high = 1 << 32

func TestArguments(t *testing.T) {
	const anyHigh = 0xdeadbeef << 32
	tests := []struct {
		call string
		args []uint64
		want uint32
	}{
		{"chmod", []uint64{0, 0o755}, Allow}, {"chmod", []uint64{0, 0o4755}, EPERM}, {"chmod", []uint64{0o4000, 0o1777}, Allow},
		{"chmod", []uint64{0, 0o2000 | anyHigh}, EPERM}, {"chmod", []uint64{0, 0o6000 << 32}, Allow},
		{"fchmod", []uint64{3, 0o755}, Allow}, {"fchmod", []uint64{3, 0o2755}, EPERM},
		{"fchmodat", []uint64{0, 0, 0o777}, Allow}, {"fchmodat", []uint64{0, 0, 0o4000}, EPERM},
		{"fchmodat2", []uint64{0, 0, 0o777}, Allow}, {"fchmodat2", []uint64{0, 0, 0o4000}, EPERM},
		{"creat", []uint64{0, 0o644}, Allow}, {"creat", []uint64{0, 0o4644}, EPERM},
		{"open", []uint64{0, 0, 0o4000}, Allow}, {"open", []uint64{0, 0x41, 0o4000}, EPERM}, {"open", []uint64{0, 0x41, 0o644}, Allow},
		{"open", []uint64{0, 0x41 | high, 0o4000 | high}, EPERM},
		{"openat", []uint64{0, 0, 0, 0o4000}, Allow}, {"openat", []uint64{0, 0, 0x40, 0o4000}, EPERM},
		{"openat", []uint64{0, 0, 0x410002, 0o2000}, EPERM}, {"openat", []uint64{0, 0, 0x40, 0o666}, Allow},
		{"mknod", []uint64{0, 0x1000 | 0o644}, Allow}, {"mknod", []uint64{0, 0x2000 | 0o644}, EPERM}, {"mknod", []uint64{0, 0x6000}, EPERM},
		{"mknodat", []uint64{0, 0, 0x8000 | 0o644}, Allow}, {"mknodat", []uint64{0, 0, 0x8000 | 0o4644}, EPERM},
		{"mknodat", []uint64{0, 0, 0xc000 | 0o644}, Allow}, {"mknodat", []uint64{0, 0, 0x6000 | anyHigh}, EPERM},
		{"renameat2", []uint64{0, 0, 0, 0, 3 | high}, Allow}, {"renameat2", []uint64{0, 0, 0, 0, 4 | anyHigh}, EPERM}, {"renameat2", []uint64{0, 0, 0, 0, 5}, EPERM},
		{"clone", []uint64{0x3d0f00}, Allow}, {"clone", []uint64{17}, Allow}, {"clone", []uint64{0x10000000}, EPERM},
		{"clone", []uint64{0x10000000 | high}, EPERM}, {"clone", []uint64{0x10000000 << 32}, Allow}, {"clone", []uint64{0x20000 | 17}, EPERM},
		{"ioctl", []uint64{0, 0x5401}, Allow}, {"ioctl", []uint64{0, 0x5412}, EPERM}, {"ioctl", []uint64{0, 0x5412 | high}, EPERM},
		{"ioctl", []uint64{0, 0x5412 | 0xffffffff<<32}, EPERM}, {"ioctl", []uint64{0, 0x541C}, EPERM}, {"ioctl", []uint64{0, 0x541D}, EPERM},
		{"ioctl", []uint64{0, 0x5423}, EPERM}, {"ioctl", []uint64{0, 0x4AFF}, Allow}, {"ioctl", []uint64{0, 0x4B00}, EPERM},
		{"ioctl", []uint64{0, 0x4BFF}, EPERM}, {"ioctl", []uint64{0, 0x4C00}, Allow}, {"ioctl", []uint64{0, 0x5600}, EPERM},
		{"ioctl", []uint64{0, 0x5700}, Allow}, {"ioctl", []uint64{0, 0x5413}, Allow},
		{"personality", []uint64{0}, Allow}, {"personality", []uint64{8}, Allow}, {"personality", []uint64{0xffffffff}, Allow},
		{"personality", []uint64{0x0040000}, EPERM}, {"personality", []uint64{0x0400000}, EPERM}, {"personality", []uint64{0x0040000 | high}, EPERM},
		{"socket", []uint64{1, 1, 0}, Allow}, {"socket", []uint64{1 | high, 5, 0}, Allow}, {"socket", []uint64{2, 1, 6}, Allow}, {"socket", []uint64{10, 2 | 0x80000, 0}, Allow},
		{"socket", []uint64{2, 3, 1}, EPERM}, {"socket", []uint64{10, 3 | 0x80800, 0}, EPERM}, {"socket", []uint64{2, 10, 0}, EPERM}, {"socket", []uint64{2, 10 | high, 6 | high}, EPERM},
		{"socket", []uint64{16, 3, 0}, Allow}, {"socket", []uint64{16, 3, 9}, EAFNOSUPPORT}, {"socket", []uint64{16, 3, high}, Allow},
		{"socket", []uint64{40, 1, 0}, EAFNOSUPPORT}, {"socket", []uint64{38, 5, 0}, EAFNOSUPPORT}, {"socket", []uint64{17, 3, 0}, EAFNOSUPPORT},
		{"socket", []uint64{44, 3, 0}, EAFNOSUPPORT}, {"socket", []uint64{40 | high, 1, 0}, EAFNOSUPPORT}, {"socket", []uint64{31, 1, 0}, EAFNOSUPPORT},
		{"socket", []uint64{2, 1, 262}, EPROTONOSUPPORT}, {"socket", []uint64{10, 2, 136 | high}, EPROTONOSUPPORT}, {"socket", []uint64{2, 2, 17}, Allow},
		{"socket", []uint64{2, 1, 132}, EPROTONOSUPPORT}, {"socket", []uint64{2, 5, 0}, EPROTONOSUPPORT}, {"socket", []uint64{10, 6, 0}, EPROTONOSUPPORT},
		{"socket", []uint64{2, 2, 1}, EPROTONOSUPPORT}, {"socket", []uint64{2, 2 | 0x800, 115}, EPROTONOSUPPORT}, {"socket", []uint64{2, 1, 256}, EPROTONOSUPPORT},
		{"socketpair", []uint64{1, 1, 0}, Allow}, {"socketpair", []uint64{1 | high, 1, 0}, Allow}, {"socketpair", []uint64{30, 1, 0}, EAFNOSUPPORT},
		{"socketpair", []uint64{16, 3, 0}, EAFNOSUPPORT}, {"socketpair", []uint64{2, 1, 0}, EAFNOSUPPORT},
		{"prlimit64", []uint64{0, 7}, Allow}, {"prlimit64", []uint64{2, 7}, Allow}, {"prlimit64", []uint64{1, 7}, EPERM}, {"prlimit64", []uint64{1 | high, 7}, EPERM},
		{"sched_setparam", []uint64{1}, EPERM}, {"sched_setscheduler", []uint64{1 | high}, EPERM}, {"sched_setattr", []uint64{1}, EPERM},
		{"sched_setaffinity", []uint64{1}, EPERM}, {"sched_setaffinity", []uint64{0}, Allow}, {"sched_setscheduler", []uint64{17}, Allow},
		{"setpriority", []uint64{0, 0}, Allow}, {"setpriority", []uint64{0, 1}, EPERM}, {"setpriority", []uint64{2, 0}, EPERM}, {"setpriority", []uint64{2 | high, 1000}, EPERM},
		{"ioprio_set", []uint64{1, 0}, Allow}, {"ioprio_set", []uint64{1, 1 | high}, EPERM}, {"ioprio_set", []uint64{3, 1000}, EPERM}, {"ioprio_set", []uint64{2, 0}, Allow},
	}
	for _, goarch := range goarches {
		vm, info := machine(t, Namespaces, goarch)
		for _, tc := range tests {
			n, ok := info.SyscallNames[tc.call]
			if !ok {
				require.Equal(t, "arm64", goarch, "%s exists on amd64", tc.call)
				continue
			}
			t.Run(fmt.Sprintf("%s %s %#x", goarch, tc.call, tc.args), func(t *testing.T) {
				require.Equal(t, tc.want, action(t, vm, data(uint32(n), uint32(info.ID), tc.args...)))
			})
		}
	}
}

// Every number of the table has the action that the policy names, with
// arguments of all zeros and of all ones.
func TestNumbers(t *testing.T) {
	for _, profile := range Profiles {
		for name := range profile.rules {
			require.NotContains(t, profile.denied, name, "a call has two rules")
		}
		for _, goarch := range goarches {
			t.Run(profile.Name+" "+goarch, func(t *testing.T) {
				vm, info := machine(t, profile, goarch)
				for n := uint32(0); n < 1000; n++ {
					name, known := info.SyscallNumbers[int(n)]
					want := ENOSYS
					if known {
						want = Allow
					}
					if a, ok := profile.denied[name]; ok {
						want = a
					}
					if _, ok := profile.rules[name]; ok {
						continue
					}
					for _, arg := range []uint64{0, ^uint64(0)} {
						require.Equal(t, want, action(t, vm, data(n, uint32(info.ID), arg, arg, arg, arg, arg, arg)), "%d %s", n, name)
					}
				}
			})
		}
	}
}

// Calls that Linux got after the table was made, up to 6.19, are refused as if
// the kernel were older: file_getattr, file_setattr, listns.
func TestYoungCalls(t *testing.T) {
	for _, goarch := range goarches {
		vm, info := machine(t, Namespaces, goarch)
		for n := uint32(468); n < 600; n++ {
			require.Equal(t, ENOSYS, action(t, vm, data(n, uint32(info.ID))), "%d", n)
		}
	}
}

func TestForeignABIs(t *testing.T) {
	for _, goarch := range goarches {
		vm, info := machine(t, Namespaces, goarch)
		for _, foreign := range []*arch.Info{arch.I386, arch.ARM, arch.X86_64, arch.AARCH64} {
			if foreign.ID == info.ID {
				continue
			}
			for n := uint32(0); n < 600; n++ {
				require.Equal(t, KillProcess, action(t, vm, data(n, uint32(foreign.ID))), "%s on %s", foreign.Name, goarch)
			}
		}
		require.Equal(t, KillProcess, action(t, vm, data(0, 0)))
	}
	vm, info := machine(t, Namespaces, "amd64")
	for _, n := range []uint32{0x40000000, 0x40000000 | 39, 0x40000000 | 512, 0x7fffffff, 0xfffffffe, 0x80000000} {
		require.Equal(t, KillProcess, action(t, vm, data(n, uint32(info.ID))), "x32 %#x", n)
	}
	require.Equal(t, ENOSYS, action(t, vm, data(noCall, uint32(info.ID))))
}

// What is refused on every peer's list, by name: so that an edit of the policy
// cannot drop it unseen.
func TestNeverAllowed(t *testing.T) {
	for _, goarch := range goarches {
		vm, info := machine(t, Namespaces, goarch)
		for _, name := range []string{
			"mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount",
			"fspick", "mount_setattr", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "io_uring_setup",
			"io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd", "add_key", "keyctl", "request_key",
			"open_by_handle_at", "name_to_handle_at", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
			"reboot", "swapon", "swapoff", "acct", "quotactl", "syslog", "clock_settime", "settimeofday", "clone3", "openat2",
			"memfd_create", "shmget", "semget", "msgget", "lsm_set_self_attr",
		} {
			n, ok := info.SyscallNames[name]
			require.True(t, ok, "%s on %s", name, goarch)
			require.Contains(t, []uint32{EPERM, ENOSYS}, action(t, vm, data(uint32(n), uint32(info.ID))), name)
		}
	}
}

// What ordinary programs cannot do without.
func TestAlwaysAllowed(t *testing.T) {
	for _, goarch := range goarches {
		vm, info := machine(t, Namespaces, goarch)
		for _, name := range []string{"read", "write", "execve", "mmap", "futex", "rt_sigaction", "exit_group", "clone", "wait4",
			"prctl", "seccomp", "statx", "getrandom", "epoll_pwait", "ppoll", "landlock_create_ruleset"} {
			n, ok := info.SyscallNames[name]
			require.True(t, ok, name)
			require.Equal(t, Allow, action(t, vm, data(uint32(n), uint32(info.ID))), name)
		}
	}
}

// The committed programs are those of this policy.
func TestGenerated(t *testing.T) {
	for _, profile := range Profiles {
		for _, goarch := range goarches {
			p, err := profile.Program(goarch)
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join("..", profile.File(goarch)))
			require.NoError(t, err)
			require.Equal(t, Encode(p), b, "run 'go generate ./sandbox/internal/seccomp'")
			require.LessOrEqual(t, len(p), 4096, "BPF_MAXINSNS")
		}
		_, err := profile.Program("riscv64")
		require.Error(t, err)
	}
}

// A rule or refusal of a call that no architecture has is a slip of the pen.
func TestNamesExist(t *testing.T) {
	known := map[string]bool{}
	for _, info := range []*arch.Info{arch.X86_64, arch.AARCH64, arch.I386} {
		for name := range info.SyscallNames {
			known[name] = true
		}
	}
	for _, profile := range Profiles {
		for name := range profile.denied {
			require.True(t, known[name], name)
		}
		for name := range profile.rules {
			require.True(t, known[name], name)
		}
	}
}
