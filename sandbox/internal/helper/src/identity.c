#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

enum { OVERFLOW_ID = 65534, FIRST_ORDINARY_GID = 1000 };

// The caller's own uid; for a root caller that of the workspace's owner, unless
// it is root or nobody, who own things on the host that the payload must not.
// System groups (docker, disk, shadow) are never taken: neither as the group of
// the directory nor as the number of its owner.
struct identity identity_choose(const struct request *r)
{
	struct identity id = {geteuid(), getegid()};
	if (id.uid != 0)
		return id;
	id = (struct identity){r->spare_uid, r->spare_gid};
	for (uint32_t i = 0; i < r->nops; i++) {
		const struct op *o = &r->ops[i];
		struct stat st;
		if (!(o->flags & BIND_OWNER) || o->tree < 0 || fstat(o->tree, &st) < 0)
			continue;
		if (st.st_uid == 0 || st.st_uid == OVERFLOW_ID)
			continue;
		id.uid = st.st_uid;
		id.gid = st.st_gid >= FIRST_ORDINARY_GID && st.st_gid != OVERFLOW_ID ? st.st_gid : r->spare_gid;
	}
	return id;
}

// The standard streams are pipes of the Go process; opening /dev/stdout again
// needs them to belong to the payload.
static void own_pipes(struct identity id)
{
	for (int fd = 0; fd <= 2; fd++) {
		struct stat st;
		if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && fchown(fd, id.uid, id.gid) < 0)
			fail(STAGE_DROP, errno, "fchown of a pipe");
	}
}

void identity_drop(struct identity id)
{
	if (geteuid() == 0) {
		if (id.uid == 0 || id.uid == OVERFLOW_ID || id.gid == 0 || id.gid == OVERFLOW_ID)
			fail(STAGE_DROP, EPERM, "no unprivileged id");
		own_pipes(id);
		if (setgroups(0, NULL) < 0)
			fail(STAGE_DROP, errno, "setgroups");
	}
	if (setresgid(id.gid, id.gid, id.gid) < 0)
		fail(STAGE_DROP, errno, "setresgid");
	if (setresuid(id.uid, id.uid, id.uid) < 0)
		fail(STAGE_DROP, errno, "setresuid");
	identity_hide(true);
}

// A hidden process cannot be traced by others of its uid, and its /proc/self is
// root's: it could not write its own uid_map.
void identity_hide(bool hidden)
{
	if (prctl(PR_SET_DUMPABLE, !hidden) < 0)
		fail(STAGE_PRIVILEGE, errno, "PR_SET_DUMPABLE");
}

static void write_file(const char *path, const char *text, enum stage s)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(s, errno, path);
	close(fd);
}

void identity_map(const struct request *r, struct identity id)
{
	char map[48];
	write_file("/proc/self/setgroups", "deny", STAGE_MAP);
	snprintf(map, sizeof map, "%u %u 1\n", r->uid, id.uid);
	write_file("/proc/self/uid_map", map, STAGE_MAP);
	snprintf(map, sizeof map, "%u %u 1\n", r->gid, id.gid);
	write_file("/proc/self/gid_map", map, STAGE_MAP);
}

bool identity_empty_bounds(void)
{
	int c = 0;
	while (prctl(PR_CAPBSET_DROP, c) == 0)
		c++;
	return errno == EINVAL && c > 0; // the first number that is no capability
}

void identity_remove_privileges(void)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		fail(STAGE_PRIVILEGE, errno, "PR_CAP_AMBIENT");
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
	if (syscall(SYS_capset, &head, none) < 0)
		fail(STAGE_PRIVILEGE, errno, "capset");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail(STAGE_PRIVILEGE, errno, "PR_SET_NO_NEW_PRIVS");
}
