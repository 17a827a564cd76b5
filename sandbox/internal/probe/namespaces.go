//go:build linux

package main

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	register("unshare-uts", func([]string) error {
		return inThread(func() error { return raw(unix.SYS_UNSHARE, unix.CLONE_NEWUTS) })
	})
	register("unshare-time", func([]string) error {
		return inThread(func() error { return raw(unix.SYS_UNSHARE, unix.CLONE_NEWTIME) })
	})
	register("clone-user", func([]string) error { return cloned(unix.CLONE_NEWUSER) })
	register("clone-user-net", func([]string) error { return cloned(unix.CLONE_NEWUSER | unix.CLONE_NEWNET) })
	// A struct that is too small is EINVAL for a kernel that looks at it.
	register("clone3", func([]string) error { return raw(unix.SYS_CLONE3, 0, 1) })
	register("threads", threads)
	register("mount-tmpfs", func([]string) error { return unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "") })
	register("mount-bind", func([]string) error { return unix.Mount("/", "/tmp", "", unix.MS_BIND|unix.MS_REC, "") })
	register("mount-remount", func([]string) error {
		return unix.Mount("", "/tmp", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOSUID, "")
	})
	register("umount", func([]string) error { return unix.Unmount("/proc", unix.MNT_DETACH) })
	register("open_tree", func([]string) error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.AT_RECURSIVE)
		unix.Close(fd)
		return err
	})
	register("move_mount", func([]string) error {
		return unix.MoveMount(unix.AT_FDCWD, "/proc", unix.AT_FDCWD, "/nonexistent", 0)
	})
	register("fsopen", func([]string) error {
		fd, err := unix.Fsopen("tmpfs", 0)
		unix.Close(fd)
		return err
	})
	register("mount_setattr", func([]string) error {
		return unix.MountSetattr(unix.AT_FDCWD, "/nonexistent", 0, &unix.MountAttr{})
	})
	register("pivot_root", func([]string) error { return unix.PivotRoot(".", ".") })
	register("chroot", func([]string) error { return unix.Chroot("/tmp") })
	register("chroot-escape", chrootEscape)
	register("setns", func([]string) error {
		fd, err := unix.Open("/proc/self/ns/user", unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return unix.Setns(fd, unix.CLONE_NEWNET)
	})
}

// inThread runs f on a thread that ends with it.
func inThread(f func() error) error {
	c := make(chan error)
	go func() {
		runtime.LockOSThread()
		c <- f()
	}()
	return <-c
}

func cloned(flags uintptr) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(context.Background(), self, "threads")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	return c.Run()
}

// threads shows that what is refused by clone3 falls back to clone.
func threads([]string) error {
	return inThread(func() error { return nil })
}

// chrootEscape is the classical way out of a chroot.
func chrootEscape([]string) error {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err := unix.Chroot("/tmp"); err != nil {
		return err
	}
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	return unix.Chdir("../../..")
}

func init() {
	register("io_uring", func([]string) error {
		var params [120]byte
		return raw(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)))
	})
	register("add_key", func([]string) error {
		_, err := unix.AddKey("user", "lm-sandbox-probe", []byte("x"), unix.KEY_SPEC_PROCESS_KEYRING)
		return err
	})
	register("keyctl", func([]string) error {
		_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_PROCESS_KEYRING, true)
		return err
	})
	register("personality", func([]string) error { return inThread(func() error { return raw(unix.SYS_PERSONALITY, 0x0040000) }) })
	register("bpf", func([]string) error { return raw(unix.SYS_BPF, 0, 0, 0) })
	register("perf_event_open", func([]string) error { return raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, ^uintptr(0), 0) })
	register("userfaultfd", func([]string) error { return raw(unix.SYS_USERFAULTFD, 1) })
	register("socket", socket)
	register("socketpair", socketPair)
	register("pair-sendto", pairSendTo)
	register("memfd", func([]string) error {
		_, err := unix.MemfdCreate("probe", 0)
		return err
	})
	register("shmget", func([]string) error {
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 4096, 0o600)
		if err == nil {
			_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		}
		return err
	})
	register("semget", func([]string) error { return ipc(unix.SYS_SEMGET, unix.SYS_SEMCTL, 1) })
	register("msgget", func([]string) error { return ipc(unix.SYS_MSGGET, unix.SYS_MSGCTL, 0o600) })
}

// ipc makes a System V object of a kind and removes it.
func ipc(get, control, arg uintptr) error {
	id, _, errno := unix.Syscall(get, unix.IPC_PRIVATE, arg, 0o600)
	if errno != 0 {
		return errno
	}
	if get == unix.SYS_SEMGET {
		return raw(control, id, 0, unix.IPC_RMID)
	}
	return raw(control, id, unix.IPC_RMID, 0)
}

func socketPair(args []string) error {
	family := map[string]int{"unix": unix.AF_UNIX, "tipc": unix.AF_TIPC, "inet": unix.AF_INET}[args[0]]
	_, err := unix.Socketpair(family, unix.SOCK_STREAM, 0)
	return err
}

// pairSendTo sends from a socket of a pair to another one, which is at a path.
func pairSendTo(args []string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fds[0], []byte("x"), 0, &unix.SockaddrUnix{Name: args[0]})
}

func socket(args []string) error {
	families := map[string][3]int{
		"vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0}, "alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0},
		"packet": {unix.AF_PACKET, unix.SOCK_RAW, 0}, "netlink-audit": {unix.AF_NETLINK, unix.SOCK_RAW, 9},
		"netlink-route": {unix.AF_NETLINK, unix.SOCK_RAW, 0}, "raw": {unix.AF_INET, unix.SOCK_RAW, 1},
		"mptcp": {unix.AF_INET, unix.SOCK_STREAM, 262}, "udplite": {unix.AF_INET, unix.SOCK_DGRAM, 136},
		"inet": {unix.AF_INET, unix.SOCK_STREAM, 0}, "unix": {unix.AF_UNIX, unix.SOCK_STREAM, 0},
	}
	f := families[args[0]]
	fd, err := unix.Socket(f[0], f[1], f[2])
	unix.Close(fd)
	return err
}
