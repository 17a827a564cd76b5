// Landlock is a second belt: what the mounts show is allowed again by path, for
// each payload, so that a way around the mounts leads nowhere.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

// The kernel's interface; headers of a build may be older (linux/landlock.h).
enum { ASK_VERSION = 1, RULE_BENEATH = 1, LOG_SUBDOMAINS_OFF = 1 << 2 };
enum { SCOPE_ABSTRACT_SOCKET = 1, SCOPE_SIGNAL = 2 };

struct ruleset {
	uint64_t filesystem, network, scoped;
};

struct beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

// The rights on files. All that the kernel knows are handled: what no rule
// allows is refused.
enum {
	EXECUTE = 1 << 0,
	WRITE_FILE = 1 << 1,
	READ_FILE = 1 << 2,
	READ_DIR = 1 << 3,
	REMOVE_DIR = 1 << 4,
	REMOVE_FILE = 1 << 5,
	MAKE_CHAR = 1 << 6, // for nobody, nor is MAKE_BLOCK
	MAKE_DIR = 1 << 7,
	MAKE_REG = 1 << 8,
	MAKE_SOCK = 1 << 9,
	MAKE_FIFO = 1 << 10,
	MAKE_BLOCK = 1 << 11,
	MAKE_SYM = 1 << 12,
	REFER = 1 << 13,     // ABI 2: rename and link into another directory
	TRUNCATE = 1 << 14,  // ABI 3
	IOCTL_DEV = 1 << 15, // ABI 5: requests to device files
};

enum {
	ALL = (1 << 16) - 1,
	OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,
	LOOK = EXECUTE | READ_FILE | READ_DIR,
	// A file of /proc is opened with O_TRUNC by every shell.
	CHANGE = WRITE_FILE | TRUNCATE,
	OWN = CHANGE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER,
};

// Where the kernel allows less the mounts do: none of these gives what they refuse.
static const struct {
	const char *path;
	uint64_t allowed;
} places[] = {
	{".", LOOK},
	{"dev", CHANGE | IOCTL_DEV}, // the nodes that the sandbox has, and its terminals
	{"proc", CHANGE},		     // the payload's own: a thread's name
	{"run", CHANGE},		     // pipes of a session
	{"dev/shm", OWN},
	{"home/user", OWN},
	{"tmp", OWN},
	{"workspace", OWN},
};

static int abi, rules = -1; // once they are prepared
static uint32_t allowed_ops;   // so many of the request's have their rules

int landlock_abi(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
}

uint32_t landlock_lacks(void)
{
	if (abi < LANDLOCK_LEAST_ABI)
		return LACK_LANDLOCK;
	return (abi < 3 ? LACK_TRUNCATE : 0) | (abi < 5 ? LACK_IOCTL : 0) | (abi < 6 ? LACK_SCOPES : 0);
}

// The rights that a kernel has.
static uint64_t known(int abi)
{
	uint64_t rights = ALL;
	if (abi < 5)
		rights &= ~(uint64_t)IOCTL_DEV;
	if (abi < 3)
		rights &= ~(uint64_t)TRUNCATE;
	return rights;
}

// Signals and abstract sockets reach this process, its children and nobody else.
bool landlock_scope(void)
{
	struct ruleset set = {.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL};
	int rules = (int)syscall(SYS_landlock_create_ruleset, &set, sizeof set, 0);
	if (rules < 0)
		return false;
	bool ok = syscall(SYS_landlock_restrict_self, rules, 0) == 0;
	close(rules);
	return ok;
}

static bool allow(int rules, int fd, uint64_t allowed)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return false;
	if (!S_ISDIR(st.st_mode))
		allowed &= OF_A_FILE;
	struct beneath rule = {allowed, fd};
	return syscall(SYS_landlock_add_rule, rules, RULE_BENEATH, &rule, 0) == 0;
}

// A place that is not there needs no rule.
static bool allow_path(int rules, int root, const char *path, uint64_t allowed)
{
	int fd = sys_openat2(root, path, O_PATH | O_CLOEXEC, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return errno == ENOENT;
	bool ok = allow(rules, fd, allowed);
	close(fd);
	return ok;
}

// What the sandbox has beside the fixed places; without namespaces it is all of it,
// by the host's paths.
static uint64_t rights_of(const struct request *r, const struct op *o)
{
	bool bare = r->build_flags & BUILD_BARE;
	if (o->kind != OP_BIND || (!bare && o->flags & (BIND_READONLY | BIND_INSIDE)))
		return 0;
	if (o->flags & BIND_DEVICE)
		return READ_FILE | CHANGE | IOCTL_DEV;
	return o->flags & BIND_READONLY ? LOOK : LOOK | OWN;
}

// Rules are made of what is there now; what comes later gets its own.
static bool allow_ops(const struct request *r)
{
	bool ok = true;
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (allowed_ops == 0)
		for (size_t i = 0; ok && !(r->build_flags & BUILD_BARE) && i < sizeof places / sizeof *places; i++)
			ok = allow_path(rules, root, places[i].path, places[i].allowed & known(abi));
	for (; ok && allowed_ops < r->nops; allowed_ops++) {
		const struct op *o = &r->ops[allowed_ops];
		uint64_t allowed = rights_of(r, o) & known(abi);
		ok = !allowed || allow_path(rules, root, o->path, allowed);
	}
	close(root);
	return ok;
}

bool landlock_prepare(const struct request *r)
{
	if ((abi = landlock_abi()) < LANDLOCK_LEAST_ABI)
		return true; // it is among what the sandbox lacks
	struct ruleset set = {.filesystem = known(abi)};
	if (abi >= 6)
		set.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
	rules = (int)syscall(SYS_landlock_create_ruleset, &set, sizeof set, 0);
	return rules >= 0 && allow_ops(r);
}

bool landlock_confine(const struct request *r, int program)
{
	if (abi < LANDLOCK_LEAST_ABI)
		return true;
	if (allowed_ops < r->nops && !allow_ops(r))
		return false;
	if (program >= 0 && !allow(rules, program, EXECUTE | READ_FILE))
		return false;
	// What programs forbid themselves must not fill the host's audit log.
	uint32_t flags = abi >= 7 ? LOG_SUBDOMAINS_OFF : 0;
	return syscall(SYS_landlock_restrict_self, rules, flags) == 0;
}
