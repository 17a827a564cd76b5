// Mounts are made detached and attached by file descriptor.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

int mount_tree(int dirfd, const char *source, uint32_t flags)
{
	// The Go process has resolved the path: a link that is there now was put there since.
	int at = sys_openat2(dirfd, source, O_PATH | O_CLOEXEC, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (at < 0)
		return -1;
	// Mounts below must come along: in a less privileged namespace they are locked to it.
	int tree = sys_open_tree(at, "", OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
	int err = errno;
	close(at);
	if (tree < 0) {
		errno = err;
		return -1;
	}
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID, .propagation = MS_PRIVATE};
	attr.attr_set |= flags & BIND_DEVICE ? MOUNT_ATTR_NOEXEC : MOUNT_ATTR_NODEV;
	if (flags & BIND_READONLY)
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	if (sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr) < 0) {
		err = errno;
		close(tree);
		errno = err;
		return -1;
	}
	return tree;
}

static bool write_map(pid_t pid, const char *name, uint32_t from, uint32_t to)
{
	char path[48], map[48];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	int n = snprintf(map, sizeof map, "%u %u 1\n", from, to);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, map, (size_t)n) == n;
	if (fd >= 0)
		close(fd);
	return ok;
}

// An id map for a mount is named by a user namespace; a child that only waits
// to be killed lends one.
int mount_user_namespace(uint32_t uid, uint32_t gid, struct identity to)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	pid_t parent = getpid(), pid = sys_clone3(&args);
	if (pid == 0) {
		// It must not outlive a launcher that is killed now, nor hold its streams open.
		sys_close_range(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	if (pid < 0)
		return -1;
	int fd = -1;
	if (write_map(pid, "uid_map", uid, to.uid) && write_map(pid, "gid_map", gid, to.gid)) {
		char path[48];
		snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	int err = errno;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	errno = err;
	return fd;
}

// After this, files that uid:gid own on disk belong to the sandbox in this
// mount, and files that the sandbox makes belong to uid:gid on disk. Mounts below
// it keep their permissions: what is private there was not lent.
void mount_idmap(int tree, uint32_t uid, uint32_t gid, struct identity to, const char *detail)
{
	int ns = mount_user_namespace(uid, gid, to);
	if (ns < 0)
		fail(STAGE_IDMAP, errno, detail);
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)ns};
	if (sys_mount_setattr(tree, "", AT_EMPTY_PATH, &attr) < 0)
		fail(STAGE_IDMAP, errno, detail);
	close(ns);
}

int mount_filesystem(const char *type, const char *const options[][2], uint64_t attributes)
{
	int fs = sys_fsopen(type);
	if (fs < 0)
		return -1;
	int tree = -1;
	bool ok = true;
	for (; options && (*options)[0] && ok; options++)
		ok = sys_fsconfig(fs, (*options)[1] ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, (*options)[0], (*options)[1]) == 0;
	if (ok && sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) == 0)
		tree = sys_fsmount(fs, (unsigned)(attributes | MOUNT_ATTR_NOSUID));
	int err = errno;
	close(fs);
	errno = err;
	return tree;
}

int mount_set_readonly(int tree, const char *path)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	return sys_mount_setattr(tree, path, AT_EMPTY_PATH, &attr);
}
