//go:build linux

package main

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is a system call with arguments that change nothing: where it is not
// refused, the kernel finds them wrong, or gives what anybody may know.
type call struct {
	number uintptr
	args   []uintptr
}

const (
	none    = ^uintptr(0) // no file, no identifier
	invalid = 0x7fff0000  // flags that no call has
)

var (
	text     = []byte("/nonexistent\x00")
	scratch  [4096]byte
	absent   = pointer(&text[0])
	space    = pointer(&scratch[0])
	here     = uintptr(unix.AT_FDCWD & (1<<64 - 1))
	self     = uintptr(unix.Getpid())
	harmless = map[string]call{
		"kexec_load":        {unix.SYS_KEXEC_LOAD, []uintptr{0, 0, 0, invalid}},
		"init_module":       {unix.SYS_INIT_MODULE, []uintptr{0, 0, absent}},
		"finit_module":      {unix.SYS_FINIT_MODULE, []uintptr{none, absent, invalid}},
		"delete_module":     {unix.SYS_DELETE_MODULE, []uintptr{0, 0}},
		"open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT, []uintptr{none, 0, 0}},
		"name_to_handle_at": {unix.SYS_NAME_TO_HANDLE_AT, []uintptr{here, absent, 0, 0, invalid}},
		"quotactl":          {unix.SYS_QUOTACTL, []uintptr{none, 0, 0, 0}},
		"acct":              {unix.SYS_ACCT, []uintptr{absent}},
		"swapon":            {unix.SYS_SWAPON, []uintptr{absent, invalid}},
		"swapoff":           {unix.SYS_SWAPOFF, []uintptr{absent}},
		"reboot":            {unix.SYS_REBOOT, []uintptr{0, 0, 0, 0}},
		"settimeofday":      {unix.SYS_SETTIMEOFDAY, []uintptr{1, 0}},
		"clock_settime":     {unix.SYS_CLOCK_SETTIME, []uintptr{99, space}},
		"adjtimex":          {unix.SYS_ADJTIMEX, []uintptr{space}},
		"sethostname":       {unix.SYS_SETHOSTNAME, []uintptr{absent, none}},
		"setdomainname":     {unix.SYS_SETDOMAINNAME, []uintptr{absent, none}},
		"syslog":            {unix.SYS_SYSLOG, []uintptr{10, 0, 0}},
		"fanotify_init":     {unix.SYS_FANOTIFY_INIT, []uintptr{invalid, invalid}},
		"fanotify_mark":     {unix.SYS_FANOTIFY_MARK, []uintptr{none, invalid, 0, none, 0}},
		"kcmp":              {unix.SYS_KCMP, []uintptr{self, self, 0, 0, 0}},
		"request_key":       {unix.SYS_REQUEST_KEY, []uintptr{0, 0, 0, 0}},
		"unshare":           {unix.SYS_UNSHARE, []uintptr{unix.CLONE_SYSVSEM}},
		"fsconfig":          {unix.SYS_FSCONFIG, []uintptr{none, 99, 0, 0, 0}},
		"fspick":            {unix.SYS_FSPICK, []uintptr{none, absent, invalid}},
		"io_uring_enter":    {unix.SYS_IO_URING_ENTER, []uintptr{none, 0, 0, invalid}},
		"io_uring_register": {unix.SYS_IO_URING_REGISTER, []uintptr{none, none}},
		"process_madvise":   {unix.SYS_PROCESS_MADVISE, []uintptr{none, 0, 0, 0, invalid}},
		"move_pages":        {unix.SYS_MOVE_PAGES, []uintptr{0, 0, 0, 0, 0, invalid}},
		"migrate_pages":     {unix.SYS_MIGRATE_PAGES, []uintptr{none, 0, 0, 0}},
	}
)

func init() {
	register("call", func(args []string) error {
		c, ok := harmless[args[0]]
		if !ok {
			return fmt.Errorf("no call %s", args[0])
		}
		return inThread(func() error { return raw(c.number, c.args...) })
	})
	register("execute-memory", func([]string) error {
		fd, err := unix.MemfdCreate("probe", 0)
		if err != nil {
			return err
		}
		empty := []byte{0}
		return raw(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])), 0, 0, unix.AT_EMPTY_PATH)
	})
	register("open-read", func(args []string) error {
		fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
		unix.Close(fd)
		return err
	})
}
