//go:build !linux

package engine

import "syscall"

// workerAttributes: Ctrl-C in a terminal is for the worker's parent alone.
func workerAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
