package main

import "golang.org/x/sys/unix"

// setIDLegacy are the forms that only older architectures have.
func setIDLegacy(form string, path *byte) error {
	switch form {
	case "chmod":
		return raw(unix.SYS_CHMOD, pointer(path), setIDMode)
	case "creat":
		return raw(unix.SYS_CREAT, pointer(path), setIDMode)
	case "open":
		return raw(unix.SYS_OPEN, pointer(path), unix.O_CREAT|unix.O_WRONLY, setIDMode)
	case "mknod":
		return raw(unix.SYS_MKNOD, pointer(path), unix.S_IFREG|setIDMode, 0)
	}
	return unix.ENOSYS
}
