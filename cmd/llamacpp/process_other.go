//go:build !linux

package main

import "syscall"

// childAttr puts a child into its own process group, so that it can be stopped
// with all it started.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
