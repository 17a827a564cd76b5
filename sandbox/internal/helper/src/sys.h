// System calls that musl has no wrapper for, and those where the plain call is
// wanted because this program has one thread.
#ifndef LM_SANDBOX_SYS_H
#define LM_SANDBOX_SYS_H

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

static inline int sys_close_range(unsigned first, unsigned flags)
{
	return (int)syscall(SYS_close_range, first, ~0U, flags);
}

static inline int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dirfd, path, flags);
}

static inline int sys_move_mount(int tree, int dirfd, const char *path)
{
	return (int)syscall(SYS_move_mount, tree, "", dirfd, path, MOVE_MOUNT_F_EMPTY_PATH);
}

static inline int sys_mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, dirfd, path, flags, attr, sizeof *attr);
}

static inline int sys_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

static inline int sys_fsconfig(int fs, unsigned cmd, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, cmd, key, value, 0);
}

static inline int sys_fsmount(int fs, unsigned attributes)
{
	return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
}

static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .resolve = resolve};
	return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
}

// Filters cannot look into the arguments of clone3, so containers refuse it all: older
// clone has the same flags, but for those above 32 bits.
static inline int sys_clone3(struct clone_args *args)
{
	int pid = (int)syscall(SYS_clone3, args, sizeof *args);
	if (pid >= 0 || (errno != ENOSYS && errno != EPERM) || args->flags >> 32)
		return pid;
	return (int)syscall(SYS_clone, args->flags | args->exit_signal, NULL, args->pidfd, 0, 0);
}

static inline int sys_pivot_root(const char *root, const char *old)
{
	return (int)syscall(SYS_pivot_root, root, old);
}

static inline int sys_pidfd_kill(int pidfd, int signo)
{
	return (int)syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0);
}

#endif
