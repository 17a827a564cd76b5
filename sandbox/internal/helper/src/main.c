#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

// The first victims of the kernel when memory runs out, rather than the Go
// process. Written by a caller with CAP_SYS_RESOURCE the payload cannot undo it;
// otherwise it can go back to the caller's own value.
static void volunteer(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1000", 4) < 0)
		fail(STAGE_LIMITS, errno, "oom_score_adj");
	close(fd);
}

// The kernel bounds the files of one user that are under way between processes by the
// limit of the sender. The payloads of all sandboxes of that user are among them: their
// limit must not be ours.
static void raise_files(void)
{
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		fail(STAGE_LIMITS, errno, "RLIMIT_NOFILE");
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		fail(STAGE_LIMITS, errno, "RLIMIT_NOFILE");
}

// Waits for init, and with it for the whole tree: the kernel ends a pid
// namespace before its pid 1 can be reaped. A caller that goes away, or shuts
// its side of the socket, has the tree killed, whatever init is busy with.
int launcher_wait(pid_t pid, int pidfd)
{
	struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = CONTROL_FD, .events = POLLRDHUP}};
	while (!(fds[0].revents & POLLIN)) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents) {
			sys_pidfd_kill(pidfd, SIGKILL);
			break;
		}
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

// A user namespace for the Go process, which maps mounts for sandboxes that are there already.
static int run_errand(const struct errand *e)
{
	int ns = mount_user_namespace(e->uid, e->gid, (struct identity){e->to_uid, e->to_gid});
	control_reply(ns < 0 ? errno : 0, &ns, 1);
	return 0;
}

// Ignored signals survive exec: what starts here has none that the caller ignores.
static void reset_signals(void)
{
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
}

int main(void)
{
	static struct request r;
	struct errand errand;
	if (sys_close_range(CONTROL_FD + 1, 0) < 0)
		fail(STAGE_REQUEST, errno, "close_range");
	if (!control_read_build(&r, &errand))
		return run_errand(&errand);
	reset_signals();
	volunteer();
	raise_files();
	cgroup_enter(&r);
	if (r.build_flags & BUILD_BARE)
		return bare_run(&r);
	r.privileged = geteuid() == 0;
	root_open_early(&r);
	struct identity id = identity_choose(&r);
	root_map_owners(&r, id);
	identity_drop(id);

	int pidfd = -1, launcher = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (launcher < 0)
		fail(STAGE_CLONE, errno, "pidfd_open");
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP |
			 CLONE_PIDFD | (r.network == NETWORK_HOST ? 0 : CLONE_NEWNET),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	pid_t pid = sys_clone3(&args);
	if (pid == 0)
		init_run(&r, id, launcher);
	if (pid < 0)
		fail(STAGE_CLONE, errno, "namespaces");
	// What is left here has nothing to lend: no streams, no mounts.
	for (int fd = 0; fd <= 2; fd++)
		close(fd);
	for (uint32_t i = 0; i < r.nops; i++)
		if (r.ops[i].tree >= 0)
			close(r.ops[i].tree);
	return launcher_wait(pid, pidfd);
}
