//go:build linux

// Command probe tries, harmlessly, what a sandbox must refuse. The tests of
// package sandbox run it inside, where each attempt must fail, and outside, or
// in a namespace of its own, where it must succeed: so that a probe that could
// not fail is found. It prints "ok" or the name of the error.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sort"
	"syscall"

	"golang.org/x/sys/unix"
)

var probes = map[string]func(args []string) error{}

func register(name string, f func(args []string) error) { probes[name] = f }

func init() {
	if len(os.Args) > 1 && os.Args[1] == "orphan-threads" {
		runtime.LockOSThread() // main runs on the first thread
	}
}

func main() {
	if len(os.Args) < 2 {
		names := make([]string, 0, len(probes))
		for n := range probes {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "usage: probe NAME [ARG...]; names:", names)
		os.Exit(2)
	}
	f, ok := probes[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "probe: no probe", os.Args[1])
		os.Exit(2)
	}
	fmt.Println(outcome(f(os.Args[2:])))
}

func outcome(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// raw is a system call by number, for those without a wrapper.
func raw(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}
