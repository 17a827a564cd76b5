//go:build linux

package main

import (
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() {
	register("open-write", func(args []string) error {
		fd, err := unix.Open(args[0], unix.O_WRONLY, 0)
		unix.Close(fd)
		return err
	})
	register("open-readwrite", func(args []string) error {
		fd, err := unix.Open(args[0], unix.O_RDWR, 0)
		unix.Close(fd)
		return err
	})
	register("mknod-block", func(args []string) error { return unix.Mknod(args[0], unix.S_IFBLK|0o600, int(unix.Mkdev(259, 0))) })
	register("mknod-char", func(args []string) error { return unix.Mknod(args[0], unix.S_IFCHR|0o600, int(unix.Mkdev(1, 1))) })
	register("mknod-fifo", func(args []string) error { return unix.Mknod(args[0], unix.S_IFIFO|0o600, 0) })
	register("setid", setID)
	register("memory", useMemory)
	register("shared-memory", useSharedMemory)
	register("reserve", reserve)
	register("files", openFiles)
	register("setuid", func([]string) error { return unix.Setuid(0) })
}

const setIDMode = 0o4755

func pointer(p *byte) uintptr { return uintptr(unsafe.Pointer(p)) }

// setID tries every call that can give a file the set-user-id bit: args are
// the form and the file.
func setID(args []string) error {
	form, name := args[0], args[1]
	high := uintptr(1) << 32 // a mode is an int: the kernel ignores what is above
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	at := unix.AT_FDCWD
	switch form {
	case "fchmod", "fchmod-high":
		fd, err := unix.Open(name, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		mode := uintptr(setIDMode)
		if form == "fchmod-high" {
			mode |= high
		}
		return raw(unix.SYS_FCHMOD, uintptr(fd), mode)
	case "fchmodat":
		return raw(unix.SYS_FCHMODAT, uintptr(at), pointer(path), setIDMode)
	case "fchmodat-setgid":
		return raw(unix.SYS_FCHMODAT, uintptr(at), pointer(path), 0o2755)
	case "fchmodat2":
		return raw(unix.SYS_FCHMODAT2, uintptr(at), pointer(path), setIDMode, 0)
	case "openat":
		return raw(unix.SYS_OPENAT, uintptr(at), pointer(path), unix.O_CREAT|unix.O_WRONLY, setIDMode)
	case "openat-tmpfile":
		dir, err := unix.BytePtrFromString(name)
		if err != nil {
			return err
		}
		return raw(unix.SYS_OPENAT, uintptr(at), pointer(dir), unix.O_TMPFILE|unix.O_WRONLY, setIDMode)
	case "openat2":
		how := unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: setIDMode}
		_, err := unix.Openat2(at, name, &how)
		return err
	case "mknodat":
		return raw(unix.SYS_MKNODAT, uintptr(at), pointer(path), unix.S_IFREG|setIDMode, 0)
	case "openat-existing-garbage":
		return raw(unix.SYS_OPENAT, uintptr(at), pointer(path), unix.O_RDONLY, setIDMode)
	}
	return setIDLegacy(form, path)
}

// useMemory touches args[0] MiB and holds them for args[1] milliseconds.
func useMemory(args []string) error {
	mib, _ := strconv.Atoi(args[0])
	hold, _ := strconv.Atoi(args[1])
	kept := make([][]byte, mib)
	for i := range kept {
		kept[i] = make([]byte, 1<<20)
		for j := 0; j < len(kept[i]); j += 4096 {
			kept[i][j] = 1
		}
	}
	time.Sleep(time.Duration(hold) * time.Millisecond)
	fmt.Println(len(kept))
	return nil
}

// useSharedMemory does the same with memory that is a file of no name.
func useSharedMemory(args []string) error {
	mib, _ := strconv.Atoi(args[0])
	m, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(m); i += 4096 {
		m[i] = 1
	}
	time.Sleep(time.Minute)
	return nil
}

// reserve asks for args[0] MiB in one piece, without touching them.
func reserve(args []string) error {
	mib, _ := strconv.Atoi(args[0])
	_, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	return err
}

// openFiles opens files until that fails, then waits so that it can be seen.
func openFiles([]string) error {
	time.Sleep(time.Millisecond) // the runtime opens what it needs for that itself
	for {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil {
			time.Sleep(time.Second)
			return err
		}
	}
}
