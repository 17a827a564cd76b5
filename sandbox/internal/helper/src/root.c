#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

// Opens the directory of a path of the new root and points at the last name. No
// path leads through a link: an absolute one would lead to the host.
static int open_parent(int root, const char *path, const char **name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	*name = slash ? slash + 1 : path;
	if (n >= sizeof dir) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, n);
	dir[n] = '\0';
	return sys_openat2(root, n ? dir : ".", O_PATH | O_DIRECTORY | O_CLOEXEC,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

static bool may_be_missing(const struct op *o)
{
	return o->flags & BIND_OPTIONAL && (errno == ENOENT || errno == ELOOP || errno == ENOTDIR);
}

// A root caller can name places that its unprivileged self cannot reach, so its
// binds are opened before the drop. System directories go the same way.
void root_open_early(struct request *r)
{
	if (geteuid() != 0)
		return;
	for (uint32_t i = 0; i < r->nops; i++) {
		struct op *o = &r->ops[i];
		if (o->kind != OP_BIND || o->flags & (BIND_INSIDE | BIND_DEVICE))
			continue;
		o->tree = mount_tree(AT_FDCWD, o->source, o->flags);
		// A root without CAP_SYS_ADMIN tries again from inside.
		if (o->tree < 0 && errno != EPERM && !may_be_missing(o))
			fail(STAGE_MOUNT, errno, o->path);
	}
}

// A writable bind that belongs to someone else is mapped, never chowned, and so is
// the lower layer of an overlay. Another read-only one keeps its permissions: only
// what others may read is readable.
void root_map_owners(struct request *r, struct identity id)
{
	for (uint32_t i = 0; i < r->nops; i++) {
		struct op *o = &r->ops[i];
		struct stat st;
		if (o->tree < 0 || (o->flags & BIND_READONLY && !(o->flags & BIND_OWNER)))
			continue;
		if (fstat(o->tree, &st) < 0)
			fail(STAGE_IDMAP, errno, o->path);
		if (st.st_uid != id.uid)
			mount_idmap(o->tree, st.st_uid, st.st_gid, id, o->path);
	}
}

static void make_file(int dir, const char *name, const struct op *o)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, o->mode);
	if (fd < 0 || write(fd, o->source, o->source_len) != (ssize_t)o->source_len)
		fail(STAGE_ROOT, errno, o->path);
	close(fd);
}

// A mount point that is there already is used; as a link it is refused.
static void make_mount_point(int dir, const char *name, const struct op *o)
{
	struct stat st;
	if (o->flags & (BIND_EXISTING | BIND_INSIDE))
		return;
	int made = o->flags & BIND_FILE ? mknodat(dir, name, S_IFREG | 0644, 0) : mkdirat(dir, name, 0755);
	if (made < 0 && errno == EEXIST && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		made = S_ISLNK(st.st_mode) ? -1 : 0;
		errno = ELOOP;
	}
	if (made < 0)
		fail(STAGE_MOUNT, errno, o->path);
}

// What the host has mounted since this mount namespace was made may not be in it.
static bool same_file(int a, int b)
{
	struct stat one, other;
	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

static void bind_tree(int root, int dir, const char *name, struct op *o)
{
	int tree = o->tree;
	if (tree < 0 || o->flags & BIND_SAME)
		tree = mount_tree(o->flags & BIND_INSIDE ? root : AT_FDCWD, o->source, o->flags);
	if (tree < 0) {
		if (may_be_missing(o))
			return;
		fail(STAGE_MOUNT, errno, o->path);
	}
	if (o->flags & BIND_SAME && !same_file(tree, o->tree))
		fail(STAGE_MOUNT, ESTALE, o->path);
	make_mount_point(dir, name, o);
	if (sys_move_mount(tree, dir, name) < 0 && !may_be_missing(o))
		fail(STAGE_MOUNT, errno, o->path);
	close(tree);
	// A device that was asked for must be of use: no program tells EACCES of it well.
	if (o->flags & BIND_DEVICE && !(o->flags & BIND_OPTIONAL) &&
	    syscall(SYS_faccessat2, dir, name, R_OK | W_OK, AT_EACCESS) < 0)
		fail(STAGE_MOUNT, errno, o->path);
}

static void attach_filesystem(int dir, const char *name, const struct op *o, const char *type,
			      const char *const options[][2], uint64_t attributes, enum stage s)
{
	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		fail(s, errno, o->path);
	int tree = mount_filesystem(type, options, attributes);
	if (tree < 0 || sys_move_mount(tree, dir, name) < 0)
		fail(s, errno, o->path);
	close(tree);
}

// In a container that hides parts of its /proc the kernel allows no other one, which
// would show them. Then there is none: the container's own tells of its processes.
static void attach_proc(int dir, const char *name, const struct op *o)
{
	if (mkdirat(dir, name, 0555) < 0)
		fail(STAGE_PROC, errno, o->path);
	int tree = mount_filesystem("proc", NULL, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (tree < 0 && errno == EPERM) {
		control_lack(LACK_PROC);
		return;
	}
	if (tree < 0 || sys_move_mount(tree, dir, name) < 0)
		fail(STAGE_PROC, errno, o->path);
	close(tree);
}

static void apply(int root, struct op *o)
{
	static const char *const pts[][2] = {{"mode", "0620"}, {"ptmxmode", "0666"}, {NULL, NULL}};
	const char *name;
	int dir = open_parent(root, o->path, &name);
	if (dir < 0) {
		if (o->kind == OP_BIND && may_be_missing(o))
			return;
		fail(STAGE_ROOT, errno, o->path);
	}
	switch (o->kind) {
	case OP_DIR:
		if (mkdirat(dir, name, o->mode) < 0 && errno != EEXIST)
			fail(STAGE_ROOT, errno, o->path);
		break;
	case OP_FILE:
		make_file(dir, name, o);
		break;
	case OP_LINK:
		if (symlinkat(o->source, dir, name) < 0)
			fail(STAGE_ROOT, errno, o->path);
		break;
	case OP_BIND:
		bind_tree(root, dir, name, o);
		break;
	case OP_PROC:
		attach_proc(dir, name, o);
		break;
	case OP_PTS:
		attach_filesystem(dir, name, o, "devpts", pts, MOUNT_ATTR_NOEXEC, STAGE_MOUNT);
		break;
	case OP_OVERLAY:
		overlay_mount(root, dir, name, o);
		break;
	default:
		fail(STAGE_REQUEST, EPROTO, "operation");
	}
	close(dir);
}

void root_apply(int root, struct request *r, uint32_t first)
{
	for (uint32_t i = first; i < r->nops; i++)
		apply(root, &r->ops[i]);
}

// The one tmpfs holds the read-only skeleton and, bound back read-write, every
// directory that the payload may write: so one size bounds them together.
int root_build(struct request *r)
{
	const char *const options[][2] = {
		{"size", r->tmpfs_size}, {"nr_inodes", r->tmpfs_inodes}, {"mode", "0755"}, {NULL, NULL}};
	int root = mount_filesystem("tmpfs", options, MOUNT_ATTR_NODEV);
	if (root < 0)
		fail(STAGE_ROOT, errno, "tmpfs");
	if (sys_move_mount(root, AT_FDCWD, "/") < 0)
		fail(STAGE_ROOT, errno, "/");
	umask(0);
	root_apply(root, r, 0);
	return root;
}

void root_enter(int root)
{
	if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0)
		fail(STAGE_PIVOT, errno, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		fail(STAGE_PIVOT, errno, "old root");
}
