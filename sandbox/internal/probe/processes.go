//go:build linux

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	register("process_vm_readv", func(args []string) error { return readv(pid(args)) })
	register("pidfd_getfd", func(args []string) error {
		fd, err := unix.PidfdOpen(pid(args), 0)
		if err != nil {
			return err
		}
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err
	})
	register("open-mem", func(args []string) error {
		_, err := os.Open("/proc/" + strconv.Itoa(pid(args)) + "/mem")
		return err
	})
	register("ptrace", func([]string) error {
		return inThread(func() error { return raw(unix.SYS_PTRACE, unix.PTRACE_TRACEME) })
	})
	register("processes", startProcesses)
	register("loopback", loopback)
	register("kill", func(args []string) error { return unix.Kill(pid(args), 0) })
}

// pid is the argument, or this process.
func pid(args []string) int {
	if len(args) == 0 {
		return os.Getpid()
	}
	n, _ := strconv.Atoi(args[0]) // 0 addresses nobody else
	return n
}

func readv(pid int) error {
	var from, to [1]byte
	local := []unix.Iovec{{Base: &to[0], Len: 1}}
	remote := []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&from[0])), Len: 1}}
	_, err := unix.ProcessVMReadv(pid, local, remote, 0)
	return err
}

// startProcesses starts processes until that fails, then waits so that it can be seen.
func startProcesses([]string) error {
	for {
		if err := exec.CommandContext(context.Background(), "sleep", "60").Start(); err != nil {
			time.Sleep(time.Second)
			return err
		}
	}
}

// loopback talks to itself over TCP.
func loopback([]string) error {
	ctx := context.Background()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	return c.Close()
}
