package policy

import (
	"fmt"
	"slices"
	"testing"

	docker "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/stretchr/testify/require"
)

// names that the table has for calls that Docker's list has under another one.
var aliases = map[string]string{"fstatat": "newfstatat"}

var dockerCalls = docker.DefaultProfile().Syscalls

// dockerAllows interprets Docker's default profile for a container without added
// capabilities, on a kernel that is young enough for all of it.
func dockerAllows(goarch, call string, args []uint64) bool {
	if a, ok := aliases[call]; ok {
		call = a
	}
	for _, s := range dockerCalls {
		if s.Action != specs.ActAllow || !slices.Contains(s.Names, call) {
			continue
		}
		if in := s.Includes; in != nil && (len(in.Caps) > 0 || len(in.Arches) > 0 && !slices.Contains(in.Arches, goarch)) {
			continue
		}
		if ex := s.Excludes; ex != nil && slices.Contains(ex.Arches, goarch) {
			continue
		}
		if !slices.ContainsFunc(s.Args, func(a specs.LinuxSeccompArg) bool { return !holds(a, args) }) {
			return true
		}
	}
	return false
}

func holds(a specs.LinuxSeccompArg, args []uint64) bool {
	v := args[a.Index]
	switch a.Op {
	case specs.OpEqualTo:
		return v == a.Value
	case specs.OpLessThan:
		return v < a.Value
	case specs.OpGreaterThan:
		return v > a.Value
	case specs.OpMaskedEqual:
		return v&a.Value == a.ValueTwo
	}
	panic("an operator that this test does not know: " + a.Op)
}

// No call is reachable, with any arguments, that Docker's default profile
// refuses: there is no exception. High words are left out, since Docker compares
// 64 bits of what the kernel takes as 32.
func TestNoWiderThanDocker(t *testing.T) {
	values := []uint64{0, 1, 2, 3, 5, 6, 8, 10, 16, 17, 0xffffffff, 0x20000, 0x20008, 0x40000, 0x3d0f00, 0x5412, 0o4755}
	for family := range uint64(50) {
		values = append(values, family)
	}
	for bit := range 32 {
		values = append(values, 1<<bit, 1<<bit|17)
	}
	for _, profile := range Profiles {
		for _, goarch := range goarches {
			t.Run(profile.Name+" "+goarch, func(t *testing.T) {
				vm, info := machine(t, profile, goarch)
				refused := 0
				for n, name := range info.SyscallNumbers {
					for _, v := range values {
						args := []uint64{v, v, 0, v, v, v}
						if dockerAllows(goarch, name, args) {
							continue
						}
						refused++
						require.NotEqual(t, Allow, action(t, vm, data(uint32(n), uint32(info.ID), args...)), "%s %#x", name, v)
					}
				}
				require.Greater(t, refused, 50*len(values), "the control: Docker refuses calls")
			})
		}
	}
}

// The control: the comparison sees what a wider policy would allow.
func TestWiderThanDockerIsFound(t *testing.T) {
	for _, call := range []string{"unshare", "lsm_set_self_attr", "bpf", "keyctl", "io_uring_setup"} {
		require.False(t, dockerAllows("amd64", call, make([]uint64, 6)), call)
	}
	for _, socket := range []uint64{38, 40} {
		require.False(t, dockerAllows("amd64", "socket", []uint64{socket, 0, 0}), fmt.Sprint(socket))
	}
	require.False(t, dockerAllows("arm64", "clone", []uint64{0x10000000}))
	require.True(t, dockerAllows("arm64", "clone", []uint64{0x3d0f00}))
	require.True(t, dockerAllows("amd64", "openat2", make([]uint64, 6)), "and where it is wider than we are")
}
