// A sandbox without namespaces, for hosts that refuse them: paths, signals and
// tracing are bounded by Landlock, the rest by the system call filter. The
// launcher is the root of the tree in place of a pid namespace.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void drop(const struct request *r)
{
	struct identity id = {geteuid(), getegid()};
	if (id.uid == 0) {
		id = (struct identity){r->spare_uid, r->spare_gid};
		identity_empty_bounds(); // later it could not; another caller cannot at all
	}
	identity_drop(id);
	identity_remove_privileges();
}

// Where the launcher was killed, out of memory for example, init ends the tree.
static void orphaned(int signo)
{
	(void)signo;
	kill(-1, SIGKILL);
	_exit(1);
}

static _Noreturn void run_init(struct request *r, int launcher)
{
	signal(SIGHUP, orphaned);
	init_bind_to(launcher, SIGHUP);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		fail(STAGE_CLONE, errno, "PR_SET_CHILD_SUBREAPER");
	control_read_run(r);
	watch_whole_host();
	init_prepare(r);
	init_command(r);
}

// Every process of the tree is in the Landlock domain of this one, which may
// signal nobody else: so this reaches all of them and only them, at one moment
// for the kernel, which lets no fork through meanwhile. An orphan becomes a child
// of this process: once there is none, nothing is left.
static void end_tree(void)
{
	do
		kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

int bare_run(struct request *r)
{
	drop(r);
	if (!landlock_scope())
		fail(STAGE_LANDLOCK, errno, "scope");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		fail(STAGE_CLONE, errno, "PR_SET_CHILD_SUBREAPER");
	int pidfd = -1, launcher = (int)syscall(SYS_pidfd_open, getpid(), 0);
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
	pid_t pid = launcher < 0 ? -1 : sys_clone3(&args);
	if (pid == 0)
		run_init(r, launcher);
	if (pid < 0)
		fail(STAGE_CLONE, errno, "init");
	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	int status = launcher_wait(pid, pidfd);
	end_tree();
	return status;
}
