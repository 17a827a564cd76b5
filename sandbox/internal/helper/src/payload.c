#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static _Noreturn void give_up(volatile int *failed, enum stage s, const char *detail)
{
	*failed = 1;
	fail(s, errno, detail);
}

static int set_limit(const struct limit *l)
{
	struct rlimit now;
	if (getrlimit((int)l->resource, &now) < 0)
		return -1;
	rlim_t want = l->value < now.rlim_max ? l->value : now.rlim_max;
	struct rlimit set = {want, want};
	// SIGXCPU at the soft limit names the reason; SIGKILL follows a second later.
	if (l->resource == RLIMIT_CPU && want < now.rlim_max)
		set.rlim_max = want + 1;
	return setrlimit((int)l->resource, &set);
}

static void change_dir(const char *dir, volatile int *failed)
{
	int fd = sys_openat2(AT_FDCWD, dir, O_PATH | O_DIRECTORY | O_CLOEXEC,
			     RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	if (fd < 0 || fchdir(fd) < 0)
		give_up(failed, STAGE_DIR, dir);
	close(fd);
}

static const char *search_path(char **envp)
{
	for (; *envp; envp++)
		if (strncmp(*envp, "PATH=", 5) == 0)
			return *envp + 5;
	return "";
}

// execvp without its fallback to a shell: a file that is no program is an error.
static void execute(const struct request *r)
{
	if (strchr(r->path, '/')) {
		execve(r->path, r->argv, r->envp);
		return;
	}
	int err = ENOENT;
	const char *dir = search_path(r->envp);
	while (*dir) {
		size_t n = strcspn(dir, ":");
		char file[4096];
		if (n > 0 && snprintf(file, sizeof file, "%.*s/%s", (int)n, dir, r->path) < (int)sizeof file) {
			execve(file, r->argv, r->envp);
			if (errno == EACCES)
				err = EACCES;
			else if (errno != ENOENT && errno != ENOTDIR)
				return;
		}
		dir += n;
		if (*dir == ':')
			dir++;
	}
	errno = err;
}

static int null = -1;

void payload_prepare(void)
{
	null = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void payload_run(const struct request *r, volatile int *failed)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	setsid();
	if (r->flags & RUN_NULL_STDIN && dup2(null, 0) < 0)
		give_up(failed, STAGE_DIR, "/dev/null");
	bool session = r->flags & RUN_SESSION;
	if (session && !session_attach())
		give_up(failed, STAGE_TERMINAL, "attach");
	if (sys_close_range(CONTROL_FD, CLOSE_RANGE_CLOEXEC) < 0)
		give_up(failed, STAGE_PRIVILEGE, "close_range");
	if (session && fcntl(SESSION_FD, F_SETFD, 0) < 0)
		give_up(failed, STAGE_TERMINAL, "fcntl");
	change_dir(r->dir, failed);
	// Before the limits: it opens files, of which the payload may have few.
	if (!landlock_confine(r, session ? session_program() : -1))
		give_up(failed, STAGE_LANDLOCK, "rules");
	for (uint32_t i = 0; i < r->nlimits; i++)
		if (set_limit(&r->limits[i]) < 0)
			give_up(failed, STAGE_LIMITS, "setrlimit");
	struct sock_fprog filter = {(unsigned short)r->filter_len, (struct sock_filter *)r->filter};
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0)
		give_up(failed, STAGE_SECCOMP, "seccomp");
	if (session)
		session_execute(r);
	else
		execute(r);
	give_up(failed, STAGE_EXEC, r->path);
}
