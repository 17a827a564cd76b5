//go:build linux

package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	register("tiocsti", func([]string) error { return onTerminal(unix.TIOCSTI) })
	register("tiocsti-high", func([]string) error { return onTerminal(unix.TIOCSTI | 1<<32) })
	register("tioclinux", func([]string) error { return onTerminal(0x541C) })
	register("tiocsetd", func([]string) error { return onTerminal(unix.TIOCSETD) })
	register("tioclinux-high", func([]string) error { return onTerminal(0x541C | 1<<32) })
	register("tioccons", func([]string) error { return onTerminal(unix.TIOCCONS) })
	register("tiocsetd-high", func([]string) error { return onTerminal(unix.TIOCSETD | 0xdead<<32) })
	register("kdskbmode", func([]string) error { return onTerminal(0x4B45) })
	register("kdsetkeycode", func([]string) error { return onTerminal(0x4B4D) })
	register("vt-activate", func([]string) error { return onTerminal(0x5606) })
	register("vt-setmode", func([]string) error { return onTerminal(0x5602 | 1<<32) })
	register("tiocgwinsz", func([]string) error { return onTerminal(unix.TIOCGWINSZ) })
	// Of the terminal that it has.
	for name, number := range map[string]uintptr{
		"tiocsti": unix.TIOCSTI, "tiocsti-high": unix.TIOCSTI | 1<<32, "tioclinux": 0x541C, "tiocsetd": unix.TIOCSETD, "tiocgwinsz": unix.TIOCGWINSZ,
	} {
		register("own-"+name, func([]string) error {
			tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
			if err != nil {
				return err
			}
			return request(tty, number)
		})
	}
}

// terminal opens a new pseudoterminal and makes its slave ours.
func terminal() (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	n, err := unix.IoctlGetUint32(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	_, _ = unix.Setsid() // fails for a leader, which is as good
	return slave, unix.IoctlSetInt(int(slave.Fd()), unix.TIOCSCTTY, 0)
}

// onTerminal makes a request of a new one; TIOCSTI types as if at its keyboard.
func onTerminal(number uintptr) error {
	tty, err := terminal()
	if err != nil {
		return fmt.Errorf("no terminal: %s", outcome(err))
	}
	return request(tty, number)
}

func request(tty *os.File, number uintptr) error {
	var arg [64]byte
	return raw(unix.SYS_IOCTL, tty.Fd(), number, uintptr(unsafe.Pointer(&arg)))
}
