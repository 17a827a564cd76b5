// A session: the payload is a shell on a terminal, and talks to the Go process
// through a socket beside it.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SHELL "bash" // and so it is called in lists of processes

static int streams = -1; // directory of named pipes, writable by pid 1 only
static int hidden = -1; // a filesystem outside the tree, with the shell in it
static int master = -1, slave = -1;
static uint64_t since; // when the last command began
static uint64_t asked; // when the foreground was signalled last
static int side[2] = {-1, -1};

// The pipes have a tiny filesystem of their own: a full disk must not keep the
// command from running that would clear it. The payload sees it read-only. A pipe
// counts until its last process in the background has closed it: no limit of inodes.
void session_prepare(int root)
{
	static const char *const options[][2] = {{"size", "4096"}, {"nr_inodes", "0"}, {"mode", "0300"}, {NULL, NULL}};
	int tree = mount_filesystem("tmpfs", options, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (tree < 0 || mkdirat(root, SESSION_DIR, 0755) < 0 || sys_move_mount(tree, root, SESSION_DIR) < 0)
		fail(STAGE_TERMINAL, errno, SESSION_DIR);
	streams = sys_open_tree(root, SESSION_DIR, OPEN_TREE_CLONE | O_CLOEXEC);
	if (streams < 0 || mount_set_readonly(root, SESSION_DIR) < 0)
		fail(STAGE_TERMINAL, errno, SESSION_DIR);
	close(tree);
}

// The kernel makes a process private (PR_SET_DUMPABLE) that executes a file which it
// may not read: see would_dump in fs/exec.c. Without that, where no Yama forbids it,
// each program of the shell's uid could write to its memory through /proc. It executes a
// copy of itself.
static void hide_shell(const char *path)
{
	static const char *const options[][2] = {{"size", "64M"}, {"nr_inodes", "2"}, {NULL, NULL}};
	int shell = open(path, O_RDONLY | O_CLOEXEC);
	if (shell < 0)
		fail(STAGE_EXEC, errno, path);
	hidden = mount_filesystem("tmpfs", options, MOUNT_ATTR_NODEV);
	int copy = hidden < 0 ? -1 : openat(hidden, SHELL, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0111);
	ssize_t n = -1;
	while (copy >= 0 && (n = sendfile(copy, shell, NULL, 1 << 20)) > 0)
		;
	close(shell);
	close(copy);
	if (n < 0 || mount_set_readonly(hidden, "") < 0)
		fail(STAGE_EXEC, errno, path);
}

int session_program(void)
{
	return hidden;
}

// In the payload; it returns when that fails.
void session_execute(const struct request *r)
{
	syscall(SYS_execveat, hidden, SHELL, r->argv, r->envp, 0);
}

// The terminal comes from the sandbox's own devpts, so that it has a name there.
void session_open(const char *shell)
{
	hide_shell(shell);
	int unlock = 0;
	struct winsize size = {.ws_row = 24, .ws_col = 80};
	master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCSWINSZ, &size) < 0)
		fail(STAGE_TERMINAL, errno, "/dev/ptmx");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, side) < 0)
		fail(STAGE_TERMINAL, errno, "/dev/pts");
	int lent = fcntl(master, F_DUPFD_CLOEXEC, 0); // pid 1 needs its own to find the foreground
	if (lent < 0 || fcntl(side[0], F_SETFL, O_NONBLOCK) < 0)
		fail(STAGE_TERMINAL, errno, "fcntl");
	control_lend(LENT_TERMINAL, lent);
	control_lend(LENT_SIDE, side[0]);
}

// In the payload, which leads its session already.
bool session_attach(void)
{
	if (ioctl(slave, TIOCSCTTY, 0) < 0 || dup2(side[1], SESSION_FD) < 0)
		return false;
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(slave, fd) < 0)
			return false;
	return true;
}

void session_started(void)
{
	close(side[1]);
	close(slave);
}

// Makes the two pipes of a command, which the shell opens by name, and sends
// both ends of each. The last pair has been opened, or never will be.
void session_streams(const char *name)
{
	static char path[2][STREAM_NAME + 3];
	int fds[4] = {-1, -1, -1, -1}, err = 0;
	since = watch_clock();
	for (int i = 0; i < 2; i++) {
		if (path[i][0])
			unlinkat(streams, path[i], 0);
		snprintf(path[i], sizeof path[i], "%.*s.%d", STREAM_NAME, name, i + 1);
		if (mknodat(streams, path[i], S_IFIFO | 0600, 0) < 0)
			err = errno;
		fds[2 * i] = openat(streams, path[i], O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		fds[2 * i + 1] = openat(streams, path[i], O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (!err && (fds[2 * i] < 0 || fds[2 * i + 1] < 0))
			err = errno;
	}
	control_reply(err, fds, 4);
}

// The shell can have the terminal and wait for a command all the same: without job
// control, and when SIGINT comes while it starts a pipeline.
void session_signal(pid_t shell, int signo, uint32_t target)
{
	pid_t group = tcgetpgrp(master);
	if (target == SIGNAL_AGAIN) {
		if (group > 1 && group != shell)
			watch_repeat(group, shell, asked, signo);
		return;
	}
	if (target == SIGNAL_FOREGROUND)
		asked = watch_clock();
	if (group > 0 && (group != shell || target == SIGNAL_FOREGROUND))
		kill(-group, signo);
	else if (group == shell)
		watch_signal(shell, since, signo);
}
