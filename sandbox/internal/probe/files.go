//go:build linux

package main

import (
	"fmt"
	"strconv"
	"syscall"
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
	register("page-tables", usePageTables)
	register("map-file", mapFile)
	register("orphan-threads", orphanThreads)
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
	if err := touch(mib, unix.MAP_PRIVATE); err != nil {
		return err
	}
	time.Sleep(time.Duration(hold) * time.Millisecond)
	fmt.Println(mib)
	return nil
}

// useSharedMemory does the same with memory that is a file of no name.
func useSharedMemory(args []string) error {
	mib, _ := strconv.Atoi(args[0])
	if err := touch(mib, unix.MAP_SHARED); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return nil
}

func touch(mib, kind int) error {
	m, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, kind|unix.MAP_ANON)
	for i := 0; i < len(m); i += 4096 {
		m[i] = 1
	}
	return err
}

// usePageTables reads one byte of each 2 MiB of args[0] GiB, which has no page of its own.
func usePageTables(args []string) error {
	gib, _ := strconv.Atoi(args[0])
	m, err := unix.Mmap(-1, 0, gib<<30, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	_ = unix.Madvise(m, unix.MADV_NOHUGEPAGE) // or there would be no tables; not every kernel has it
	sum := byte(0)
	for i := 0; i < len(m); i += 2 << 20 {
		sum += m[i]
	}
	time.Sleep(time.Minute)
	return syscall.Errno(sum)
}

// mapFile maps the file args[0] args[1] times, with all its pages, and waits.
func mapFile(args []string) error {
	times, _ := strconv.Atoi(args[1])
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	for range times {
		if _, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			return err
		}
	}
	fmt.Println("mapped")
	time.Sleep(time.Minute)
	return nil
}

// orphanThreads is useMemory in a process whose first thread has ended.
func orphanThreads(args []string) error {
	go func() { fmt.Println(outcome(useMemory(args))) }()
	return raw(unix.SYS_EXIT, 0) // of this thread alone: main is locked to the first
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
