// A workspace whose changes go elsewhere: overlayfs, mounted in the sandbox's own
// user namespace (Linux 5.11), with its notes in user.overlay.* attributes.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define LAYERS 3

// The kernel takes layers by path, and shows that path to the payload: one through
// /proc tells nothing about the host. Older ones want them attached (clone_private_mount).
static int mount_layers(int root)
{
	static const char *const parts[LAYERS] = {OVERLAY_DIR "/lower", OVERLAY_DIR "/data/upper", OVERLAY_DIR "/data/work"};
	static const char *const keys[LAYERS] = {"lowerdir", "upperdir", "workdir"};
	const char *options[LAYERS + 2][2] = {[LAYERS] = {"userxattr", NULL}};
	char paths[LAYERS][32];
	int fds[LAYERS], n = 0, tree = -1;
	for (; n < LAYERS; n++) {
		fds[n] = sys_openat2(root, parts[n], O_PATH | O_DIRECTORY | O_CLOEXEC,
				     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
		if (fds[n] < 0)
			break;
		snprintf(paths[n], sizeof paths[n], "/proc/self/fd/%d", fds[n]);
		options[n][0] = keys[n];
		options[n][1] = paths[n];
	}
	if (n == LAYERS)
		tree = mount_filesystem("overlay", options, MOUNT_ATTR_NODEV);
	int err = errno;
	while (n-- > 0)
		close(fds[n]);
	errno = err;
	return tree;
}

// The overlay holds its layers itself; nobody sees them beside it.
static bool hide_layers(int root)
{
	return fchdir(root) == 0 && umount2(OVERLAY_DIR "/lower", MNT_DETACH | UMOUNT_NOFOLLOW) == 0 &&
	       umount2(OVERLAY_DIR "/data", MNT_DETACH | UMOUNT_NOFOLLOW) == 0 &&
	       unlinkat(root, OVERLAY_DIR "/lower", AT_REMOVEDIR) == 0 &&
	       unlinkat(root, OVERLAY_DIR "/data", AT_REMOVEDIR) == 0 && unlinkat(root, OVERLAY_DIR, AT_REMOVEDIR) == 0;
}

void overlay_mount(int root, int dir, const char *name, const struct op *o)
{
	int tree = mount_layers(root);
	if (tree < 0)
		fail(STAGE_OVERLAY, errno, o->path);
	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		fail(STAGE_OVERLAY, errno, o->path);
	if (sys_move_mount(tree, dir, name) < 0 || !hide_layers(root))
		fail(STAGE_OVERLAY, errno, OVERLAY_DIR);
	close(tree);
}
