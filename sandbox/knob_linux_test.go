package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/lm-sandbox/lm-sandbox/sandbox/internal/seccomp/policy"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Fault knobs: a copy of this binary under a filter that answers chosen system
// calls with an error, as older kernels, containers and security modules do. All
// that it starts, the sandbox too, is under that filter.

const knobVar = "LM_SANDBOX_TEST_KNOB"

// knob is what the copy is to do.
type knob struct {
	// Words like "clone3=ENOSYS"; "clone:1&0x10=EPERM" where a bit of an argument is set;
	// ">process_mrelease=ENOSYS" for calls with a higher number.
	Refuse string
	Mask   bool // hide parts of /proc, as a container does
	Close  bool // allow no user namespace in this one
	// Fields of Config, some of which JSON cannot hold.
	MinLevel              Level
	HelperPath, Workspace string
	Binds                 []Bind
	Command               string
}

// outcome is what it tells.
type outcome struct {
	Result Result
	Err    string
	Type   string // of the error, without the package
	Remedy string
}

func init() {
	roles["knob"] = func() {
		var k knob
		err := json.Unmarshal([]byte(os.Getenv(knobVar)), &k)
		if err == nil && k.Mask {
			err = maskProc()
		}
		if err == nil && k.Close {
			err = os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
		}
		if err == nil && k.Refuse != "" {
			// The C library starts threads by clone3 and takes no answer but ENOSYS for its
			// absence: the runtime would die of it, so other threads stay without the filter.
			err = refuseCalls(k.Refuse, strings.Contains(k.Refuse, "clone3=EPERM"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "knob:", err)
			os.Exit(1)
		}
		var o outcome
		o.Result, err = Run(context.Background(), Config{MinLevel: k.MinLevel, HelperPath: k.HelperPath, Workspace: k.Workspace, Binds: k.Binds}, k.Command)
		if err != nil {
			o.Err, o.Remedy = err.Error(), remedyOf(err)
			o.Type = strings.TrimPrefix(fmt.Sprintf("%T", err), "*sandbox.")
		}
		_ = json.NewEncoder(os.Stdout).Encode(o)
	}
}

// turned runs a command in a sandbox made by a process that has these calls refused.
func turned(t *testing.T, attr *syscall.SysProcAttr, k knob) outcome {
	t.Helper()
	b, err := json.Marshal(k)
	require.NoError(t, err)
	c := again("knob", knobVar+"="+string(b))
	c.SysProcAttr = attr
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	require.NoError(t, err, "%s%s", out, errs.String())
	var o outcome
	require.NoError(t, json.Unmarshal(out, &o), "%s", out)
	return o
}

// maskProc mounts a new /proc and hides some of it, as container runtimes do.
func maskProc() error {
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""))
	return errors.Join(err, unix.Mount("/dev/null", "/proc/interrupts", "", unix.MS_BIND, ""),
		unix.Mount("tmpfs", "/proc/driver", "tmpfs", unix.MS_RDONLY, ""), unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""))
}

// container is an ordinary user in namespaces of its own, with the rights to set them up.
func container() *syscall.SysProcAttr {
	one := func(outside int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: ordinaryID, HostID: outside, Size: 1}}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		UidMappings: one(os.Getuid()), GidMappings: one(os.Getgid()),
		Credential:  &syscall.Credential{Uid: ordinaryID, Gid: ordinaryID, NoSetGroups: true},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE},
	}
}

var errnos = map[string]syscall.Errno{"EPERM": unix.EPERM, "ENOSYS": unix.ENOSYS, "EACCES": unix.EACCES, "EINVAL": unix.EINVAL}

// refuseCalls puts all threads of this process under the filter, or this one with all
// that it starts, and keeps the goroutine on it: the runtime starts threads from others.
func refuseCalls(words string, oneThread bool) error {
	info, err := policy.Arch(runtime.GOARCH)
	if err != nil {
		return err
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(v uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: v}
	}
	var program []unix.SockFilter
	for word := range strings.FieldsSeq(words) {
		call, answer, _ := strings.Cut(word, "=")
		if newer, ok := strings.CutPrefix(call, ">"); ok {
			last, known := info.SyscallNames[newer]
			if !known {
				return errors.New("no such knob: " + word)
			}
			program = append(program, load(0), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: uint32(last), Jf: 1},
				give(unix.SECCOMP_RET_ERRNO|uint32(errnos[answer])))
			continue
		}
		call, bits, masked := strings.Cut(call, "&")
		call, arg, _ := strings.Cut(call, ":")
		number, known := info.SyscallNames[call]
		errno, named := errnos[answer]
		if !known || !named {
			return errors.New("no such knob: " + word)
		}
		program = append(program, load(0), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(number), Jf: 1})
		if masked {
			var mask uint32
			if _, err := fmt.Sscanf(bits, "0x%x", &mask); err != nil {
				return err
			}
			program[len(program)-1].Jf = 3
			var index uint32
			if arg != "" {
				if _, err := fmt.Sscan(arg, &index); err != nil {
					return err
				}
			}
			program = append(program, load(16+8*index), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: mask, Jf: 1})
		}
		program = append(program, give(unix.SECCOMP_RET_ERRNO|uint32(errno)))
	}
	program = append(program, give(unix.SECCOMP_RET_ALLOW))
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	runtime.LockOSThread()
	flags := uintptr(0)
	if !oneThread {
		flags = unix.SECCOMP_FILTER_FLAG_TSYNC
		defer runtime.UnlockOSThread()
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// refuseVar has tests run under knobs, by this binary started again.
const refuseVar = "LM_SANDBOX_TEST_REFUSE"

// linux515 answers as Linux 5.15 does: process_mrelease is its youngest call, its Landlock
// cannot rename across directories (so it is not used), and files in memory have no MFD_EXEC.
const linux515 = ">process_mrelease=ENOSYS landlock_create_ruleset=ENOSYS memfd_create:1&0x18=EINVAL"

// All that this package promises holds on Linux 5.15, but for what Lacks names.
func TestLinux515(t *testing.T) { // 108
	o := turned(t, nil, knob{Refuse: linux515, Command: "echo out"})
	require.Empty(t, o.Err)
	require.GreaterOrEqual(t, o.Result.Level, LevelNamespaces)
	require.Len(t, o.Result.Lacks, 1)
	const tests = "TestExitCodes|TestMoveAcrossDirectories|TestSessionExitCodes|TestPool$|TestWorkspaceOwners|TestOverlay$|TestProtect$|TestFiles$|TestAllowList$"
	c := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.short", "-test.v", "-test.timeout=2m", "-test.run", "^("+tests+")")
	c.Env = append(os.Environ(), refuseVar+"="+linux515)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestKnob(t *testing.T) {
	o := turned(t, nil, knob{Command: "echo out"})
	require.Empty(t, o.Err)
	require.Equal(t, "out\n", string(o.Result.Stdout))
	require.GreaterOrEqual(t, o.Result.Level, LevelNamespaces)
	require.Empty(t, o.Result.Lacks)
	o = turned(t, nil, knob{Refuse: "pivot_root=EPERM", Command: "true"})
	require.Equal(t, "ErrLevel", o.Type, o.Err)
}
