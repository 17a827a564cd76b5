// The helper builds one sandbox and runs one command in it. Three processes,
// one binary:
//
//   launcher  started by the Go process; drops root, clones the namespaces, waits
//   init      pid 1 of the sandbox; builds the root, reaps, ends the whole tree
//   payload   the command itself, after its last privilege is gone
//
// The protocol with the Go process is drawn in ../../proto/proto.go.
#ifndef LM_SANDBOX_HELPER_H
#define LM_SANDBOX_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	PROTO_VERSION = 3,
	CONTROL_FD = 3,
	MAX_REQUEST = 4 << 20,
	MAX_OPS = 1024,
	MAX_LIMITS = 16,
	MAX_GROUPS = 8,
	MAX_GAUGES = 4,
	SESSION_FD = 253,  // the shell's end of the side channel
	STREAM_NAME = 32,  // bytes of the name of a pair of pipes
	MAX_ORDER = 4352,  // bytes of the body of an order: a path and some numbers
};

#define SESSION_DIR "run/session"
#define OVERLAY_DIR "run/overlay"

enum frame_kind {
	FRAME_BUILD = 1,
	FRAME_RUN,
	FRAME_SIGNAL,
	FRAME_STREAMS,
	FRAME_OPEN,
	FRAME_DIAL,
	FRAME_IDMAP = 8,
	FRAME_ERROR = 16,
	FRAME_STARTED,
	FRAME_EXIT,
	FRAME_REPLY,
	FRAME_READY,
};

// Whom a signal is for: the payload, the foreground process group of the
// session's terminal, that if it is not the shell's own, or of it those that were
// there at the last SIGNAL_FOREGROUND and do not handle the signal.
enum signal_target { SIGNAL_PAYLOAD, SIGNAL_FOREGROUND, SIGNAL_COMMAND, SIGNAL_AGAIN };

// What failed, for the typed error on the Go side. Keep equal to proto.Stage.
enum stage {
	STAGE_REQUEST = 1,
	STAGE_DROP,
	STAGE_IDMAP,
	STAGE_CLONE,
	STAGE_MAP,
	STAGE_NETWORK,
	STAGE_ROOT,
	STAGE_MOUNT,
	STAGE_PROC,
	STAGE_PIVOT,
	STAGE_PRIVILEGE,
	STAGE_DIR,
	STAGE_LIMITS,
	STAGE_SECCOMP,
	STAGE_EXEC,
	STAGE_TERMINAL,
	STAGE_LANDLOCK,
	STAGE_CGROUP,
	STAGE_OVERLAY,
	STAGE_LEND, // the only one after which the command may have run
};

enum op_kind { OP_DIR = 1, OP_FILE, OP_LINK, OP_BIND, OP_PROC, OP_PTS, OP_OVERLAY };

enum op_flag {
	BIND_READONLY = 1,
	BIND_OPTIONAL = 2, // a missing source or mount point is no error
	BIND_DEVICE = 4,   // device nodes work on this mount
	BIND_OWNER = 8,    // a root caller runs as the owner of this directory
	BIND_INSIDE = 16,  // the source is a path in the new root
	BIND_EXISTING = 32, // the mount point must be there already
	BIND_FILE = 64,     // the source is no directory
	// A file comes with RUN: the mount itself, or what the source must still be.
	BIND_TREE = 128,
	BIND_SAME = 256,
};

// One step of building the root; paths are relative to the new root.
struct op {
	uint32_t kind, flags, mode;
	const char *path, *source;
	uint32_t source_len;
	int tree; // mount made early from root's authority, or the file that came with RUN, or -1
};

struct limit {
	uint32_t resource;
	uint64_t value;
};

// A count of the control group: once the number behind key is limit, hit has been hit.
struct gauge {
	uint32_t hit;
	uint64_t limit;
	const char *path, *key;
	int fd;
};

// POOLED: RUN comes later, READY says when it can. BARE: without namespaces.
enum build_flag { BUILD_POOLED = 1, BUILD_BARE = 2 };
enum run_flag { RUN_NULL_STDIN = 1, RUN_SESSION = 2 };

enum network { NETWORK_OWN, NETWORK_PROXY, NETWORK_HOST };

struct request {
	// BUILD, which the launcher reads
	uint32_t build_flags;
	uint32_t uid, gid;             // inside
	uint32_t spare_uid, spare_gid; // on the host, for a root caller without an unprivileged owner
	uint32_t network;              // enum network
	const char *hostname;
	const char *tmpfs_size, *tmpfs_inodes;
	uint32_t nops;
	struct op ops[MAX_OPS];
	const void *filter;
	uint32_t filter_len; // instructions
	char **groups; // files that let the launcher into control groups
	uint32_t ngauges;
	struct gauge gauges[MAX_GAUGES];
	// RUN, which init reads when the sandbox is there; its steps follow the others in ops
	bool privileged; // the Go process has root's authority: mounts come from it
	uint32_t flags;
	uint32_t nlimits;
	struct limit limits[MAX_LIMITS];
	uint64_t max_memory, max_cpu; // max_cpu in ms
	uint32_t max_tasks, max_files;
	const char *path, *dir;
	char **argv, **envp;
};

// A root caller's wish for a user namespace that names an id map.
struct errand {
	uint32_t uid, gid, to_uid, to_gid;
};

// control.c: frames on the control socket.
// Any other first frame is an errand, which needs no sandbox.
bool control_read_build(struct request *r, struct errand *e);
void control_read_run(struct request *r);
// What the Go process wants of a running sandbox. All but SIGNAL are answered by one
// REPLY each, in order.
struct order {
	uint32_t kind, len;
	char body[MAX_ORDER + 1]; // a NUL follows it
};
bool control_read_order(struct order *o); // false: the Go process is gone
bool control_closed(int wait_ms);
// What this kernel does not give, told by STARTED. As proto.Lack.
enum lack {
	LACK_LANDLOCK = 1,
	LACK_TRUNCATE = 2,
	LACK_IOCTL = 4,
	LACK_SCOPES = 8,
	LACK_PROC = 16,
	LACK_TIME = 32,
};
void control_lack(uint32_t set);
// Files that STARTED hands to the Go process, which owns them from then on. As proto.File.
enum lent { LENT_TERMINAL, LENT_SIDE, LENT_HTTP, LENT_SOCKS, LENT_COUNT };
void control_lend(enum lent which, int fd);
void control_ready(uint32_t uid, uint32_t gid);
void control_started(void);
void control_reply(int err, const int *fds, uint32_t n); // closes them
void control_exit(int wait_status, uint32_t limits_hit);
_Noreturn void fail(enum stage s, int err, const char *detail);

// request.c: false if the bytes are not a well-formed body.
bool request_parse_build(struct request *r, char *buf, size_t len);
bool request_parse_run(struct request *r, char *buf, size_t len);

// cgroup.c: the control group, if there is one.
void cgroup_enter(struct request *r);
uint32_t cgroup_sample(const struct request *r);

// identity.c: who the sandbox is on the host and inside.
struct identity {
	uint32_t uid, gid;
};
struct identity identity_choose(const struct request *r);
void identity_drop(struct identity id);
void identity_hide(bool hidden);
void identity_map(const struct request *r, struct identity id);
bool identity_empty_bounds(void);
void identity_remove_privileges(void);

// mount.c: mounts by file descriptor.
int mount_tree(int dirfd, const char *source, uint32_t flags);
void mount_idmap(int tree, uint32_t uid, uint32_t gid, struct identity to, const char *detail);
int mount_user_namespace(uint32_t uid, uint32_t gid, struct identity to);
int mount_filesystem(const char *type, const char *const options[][2], uint64_t attributes);
int mount_set_readonly(int tree, const char *path);

// root.c: the file tree of the sandbox.
void root_open_early(struct request *r);
void root_map_owners(struct request *r, struct identity id);
int root_build(struct request *r);
void root_apply(int root, struct request *r, uint32_t first);
void root_enter(int root);

// main.c: waits for init, and kills it when the Go process wants an end.
int launcher_wait(pid_t pid, int pidfd);

// bare.c: the sandbox without namespaces.
int bare_run(struct request *r);

// overlay.c: a workspace in two layers, which are at OVERLAY_DIR.
void overlay_mount(int root, int dir, const char *name, const struct op *o);

// init.c, payload.c: the two processes inside.
void init_bind_to(int launcher, int signo);
void init_prepare(const struct request *r);
_Noreturn void init_command(struct request *r);
_Noreturn void init_run(struct request *r, struct identity id, int launcher);
void payload_prepare(void);
_Noreturn void payload_run(const struct request *r, volatile int *failed);

// landlock.c: paths and scopes of the payload. Without REFER (ABI 2) no program could
// rename into another directory, so what is older is not used.
enum { LANDLOCK_LEAST_ABI = 2 };
int landlock_abi(void);
uint32_t landlock_lacks(void);
bool landlock_scope(void);
bool landlock_prepare(const struct request *r); // what can be said before there is a command
bool landlock_confine(const struct request *r, int program); // program: a file outside of the root, or -1

// order.c: false for one that makes no sense.
bool order_follow(const struct order *o, pid_t payload, bool session);

// network.c: what a network namespace of its own has.
void network_open(const struct request *r);

// dial.c: the answer to a DIAL of family and port.
void dial_inside(const uint32_t head[static 2], const char *address, uint32_t len);

// session.c: the terminal of a session and the pipes of its commands.
void session_prepare(int root);
void session_open(const char *shell);
bool session_attach(void);
int session_program(void);
void session_execute(const struct request *r);
void session_started(void);
void session_streams(const char *name); // of STREAM_NAME bytes
void session_signal(pid_t shell, int signo, uint32_t target);

// watch.c: what the tree uses, sampled from pid 1 where no control group counts it.
enum limit_hit { HIT_MEMORY = 1, HIT_TASKS = 2, HIT_FILES = 4, HIT_DISK = 8, HIT_CPU = 16 };
struct peak {
	uint64_t memory, tasks;
};
extern struct peak watch_peak;
void watch_open(void); // where there is no /proc, nothing is seen
void watch_whole_host(void);
int64_t now_ms(void);
uint64_t watch_clock(void);
void watch_signal(pid_t parent, uint64_t since, int signo);
void watch_repeat(pid_t group, pid_t shell, uint64_t asked, int signo);
uint32_t watch_sample(const struct request *r, int64_t *due);

#endif
