package main

import "syscall"

// childAttr puts a child into its own process group, so that it can be stopped
// with all it started, and lets it die with us even when we are killed.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
