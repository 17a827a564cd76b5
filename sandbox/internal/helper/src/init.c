#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>

enum { FIRST_SAMPLE_MS = 20, MAX_REAPED = 256, LAST_WORD_MS = 20 };

static int write_once(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

// The payload's clocks start near zero. The offsets freeze once a process is in
// the namespace, so init itself stays outside and its child is the first.
static void start_clocks(int offsets)
{
	struct timespec mono, boot;
	char text[96];
	if (unshare(CLONE_NEWTIME) < 0) {
		control_lack(LACK_TIME);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &mono);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	snprintf(text, sizeof text, "monotonic -%lld 0\nboottime -%lld 0\n", (long long)mono.tv_sec,
		 (long long)boot.tv_sec);
	if (write(offsets, text, strlen(text)) < 0)
		fail(STAGE_CLONE, errno, "time offsets");
	close(offsets);
}

// A tmpfs that is full, or holds as much as its largest file may have.
static uint32_t disk_full(const struct request *r)
{
	struct statfs fs;
	if (r->build_flags & BUILD_BARE || statfs("/tmp", &fs) < 0)
		return 0;
	uint64_t used = (fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
	bool full = fs.f_bavail == 0 || fs.f_ffree == 0;
	for (uint32_t i = 0; i < r->nlimits; i++)
		full = full || (r->limits[i].resource == RLIMIT_FSIZE && used >= r->limits[i].value);
	return full ? HIT_DISK : 0;
}

// Reaps orphans, not so many at once that a tree which keeps making them holds
// up the watch; true once the payload itself has ended.
static bool reap(pid_t payload, int *status)
{
	int st;
	for (int n = 0; n < MAX_REAPED; n++) {
		pid_t pid = waitpid(-1, &st, WNOHANG);
		if (pid <= 0)
			return false;
		if (pid == payload) {
			*status = st;
			return true;
		}
	}
	return false;
}

// After EXIT the Go process does not wait: no process of the payload may be left. A
// signal to all of the namespace reaches every one, and lets no fork through.
static void end_tree(void)
{
	if (getpid() != 1)
		return; // the launcher does it
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
}

static int children = -1;    // signalfd
static volatile int *failed; // shared with the payload

// Returning from here ends pid 1 and with it every process of the sandbox. The
// payload can signal pid 1 as often as it likes: samples are due by the clock.
static void supervise(const struct request *r, pid_t payload)
{
	struct pollfd fds[2] = {{.fd = CONTROL_FD, .events = POLLIN}, {.fd = children, .events = POLLIN}};
	struct signalfd_siginfo info;
	int64_t due = now_ms() + FIRST_SAMPLE_MS;
	uint32_t hit = 0;
	for (;;) {
		int status;
		int64_t left = due - now_ms();
		int ready = poll(fds, 2, left > 0 ? (int)left : 0);
		if (ready < 0 && errno != EINTR)
			fail(STAGE_LIMITS, errno, "poll");
		if (ready > 0 && fds[1].revents)
			(void)!read(children, &info, sizeof info); // at most one is pending
		if (reap(payload, &status)) {
			hit |= disk_full(r) | cgroup_sample(r);
			end_tree();
			control_exit(hit & HIT_MEMORY ? SIGKILL : status, hit);
			return;
		}
		if (ready > 0 && fds[0].revents) {
			static struct order o;
			if (!control_read_order(&o) || !order_follow(&o, payload, r->flags & RUN_SESSION))
				return;
		}
		if (now_ms() >= due)
			hit |= watch_sample(r, &due);
		if (hit & (HIT_MEMORY | HIT_CPU)) {
			end_tree();
			control_exit(SIGKILL, hit);
			return;
		}
	}
}

// The second belt, beside the control socket: init dies with the launcher,
// which may have died before this.
void init_bind_to(int launcher, int signo)
{
	prctl(PR_SET_PDEATHSIG, signo);
	struct pollfd dead = {.fd = launcher, .events = POLLIN};
	if (poll(&dead, 1, 0) != 0)
		_exit(1);
	close(launcher);
	prctl(PR_SET_NAME, "sandbox-init");
}

void init_run(struct request *r, struct identity id, int launcher)
{
	init_bind_to(launcher, SIGKILL);
	identity_hide(false);
	identity_map(r, id);
	int offsets = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	identity_hide(true);
	// Where the kernel lets us: the filter refuses nested user namespaces, and so
	// does this; the host's user has 128 inotify instances for all that it runs.
	write_once("/proc/sys/user/max_user_namespaces", "0");
	write_once("/proc/sys/user/max_inotify_instances", "32");
	write_once("/proc/sys/user/max_inotify_watches", "8192");
	if (sethostname(r->hostname, strlen(r->hostname)) < 0 || setdomainname("", 0) < 0)
		fail(STAGE_CLONE, errno, "hostname");
	network_open(r);
	int root = root_build(r);
	if (!identity_empty_bounds())
		fail(STAGE_PRIVILEGE, errno, "PR_CAPBSET_DROP");

	// Up to here nothing depends on the command. In a pool the sandbox waits as it is. For
	// a caller without root's authority the host's tree is still around it: only there
	// can a workspace be found.
	bool late = r->build_flags & BUILD_POOLED && !r->privileged;
	if (!late) {
		root_enter(root);
		init_prepare(r);
	}
	if (r->build_flags & BUILD_POOLED)
		control_ready(id.uid, id.gid);
	uint32_t built = r->nops;
	control_read_run(r);
	root_apply(root, r, built);
	start_clocks(offsets);
	bool session = r->flags & RUN_SESSION;
	if (session)
		session_prepare(root);
	if (late) {
		root_enter(root);
		init_prepare(r);
	}
	if (mount_set_readonly(root, "") < 0)
		fail(STAGE_PIVOT, errno, "read-only root");
	if (session)
		session_open(r->path);
	identity_remove_privileges();
	init_command(r);
}

static int payload_main(void *r)
{
	payload_run(r, failed);
}

// CLONE_VFORK: when this returns, the payload has executed or said why not. Until then it
// has the memory of pid 1, so that no pages are copied. Older kernels refuse that to a
// process with other clocks.
static pid_t start_payload(struct request *r)
{
	static _Alignas(16) char stack[64 << 10];
	pid_t pid = clone(payload_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, r);
	if (pid < 0 && errno == EINVAL)
		pid = clone(payload_main, stack + sizeof stack, CLONE_VFORK | SIGCHLD, r);
	return pid;
}

// What the command needs, as far as it does not depend on it.
void init_prepare(const struct request *r)
{
	watch_open();
	payload_prepare();
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	children = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	failed = mmap(NULL, sizeof *failed, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (children < 0 || failed == MAP_FAILED)
		fail(STAGE_CLONE, errno, "supervision");
	if (!landlock_prepare(r))
		fail(STAGE_LANDLOCK, errno, "rules");
}

void init_command(struct request *r)
{
	bool session = r->flags & RUN_SESSION;
	// Nobody is left to run it for.
	if (control_closed(0))
		_exit(1);
	pid_t payload = start_payload(r);
	if (payload < 0)
		fail(STAGE_CLONE, errno, "payload");
	if (*failed)
		_exit(1);
	if (session)
		session_started();
	control_lack(landlock_lacks());
	control_started();
	// The streams end when the last process of the payload closes them.
	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	supervise(r, payload);
	// The kernel takes the namespaces down in the process that ends: that must not keep
	// the Go process from the processor which has just been told of the end.
	control_closed(LAST_WORD_MS);
	_exit(0);
}
