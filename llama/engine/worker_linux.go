package engine

import "syscall"

// workerAttributes: a worker dies with the thread that has started it, also where it
// hangs or is stopped; Ctrl-C in a terminal is for its parent alone.
func workerAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
