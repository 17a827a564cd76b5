// Without a cgroup the kernel has no count for a tree of processes, so pid 1
// samples its own /proc.
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static DIR *proc;

void watch_open(void)
{
	proc = opendir("/proc");
	if (!proc)
		fail(STAGE_PROC, 0, "opendir");
}

// Reads a small file of a process; false if the process is gone or private.
static bool read_proc(const char *pid, const char *name, char *buf, size_t size)
{
	int dir = openat(dirfd(proc), pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return false;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	close(dir);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

// Resident memory that no file backs. Pages shared after fork count in each process.
static uint64_t resident(const char *pid)
{
	char buf[128], *at = buf;
	if (!read_proc(pid, "statm", buf, sizeof buf))
		return 0;
	strtoull(at, &at, 10);
	uint64_t all = strtoull(at, &at, 10), shared = strtoull(at, &at, 10);
	return all > shared ? (all - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

// The same with shared pages divided among their users: exact, but it walks
// page tables, so it is asked only when the cheap sum is over the limit.
static uint64_t proportional(const char *pid)
{
	char buf[2048];
	if (!read_proc(pid, "smaps_rollup", buf, sizeof buf))
		return resident(pid);
	char *at = strstr(buf, "\nPss_Anon:");
	return at ? strtoull(at + strlen("\nPss_Anon:"), NULL, 10) * 1024 : resident(pid);
}

static uint64_t sum(uint64_t (*measure)(const char *pid))
{
	uint64_t total = 0;
	rewinddir(proc);
	for (struct dirent *e; (e = readdir(proc));)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			total += measure(e->d_name);
	return total;
}

// A process's directory of tasks has a link for each; its directory of open
// files has their number as its size (Linux 6.2).
static uint64_t tasks(const char *pid)
{
	char path[64] = {0};
	struct stat st;
	strncat(path, pid, 32);
	strcat(path, "/task");
	return fstatat(dirfd(proc), path, &st, 0) == 0 && st.st_nlink > 2 ? st.st_nlink - 2 : 0;
}

static uint64_t files_limit;

static uint64_t at_files_limit(const char *pid)
{
	char path[64] = {0};
	struct stat st;
	strncat(path, pid, 32);
	strcat(path, "/fd");
	return fstatat(dirfd(proc), path, &st, 0) == 0 && (uint64_t)st.st_size >= files_limit;
}

uint32_t watch_sample(const struct request *r)
{
	uint32_t hit = 0;
	files_limit = r->max_files;
	if (sum(resident) > r->max_memory && sum(proportional) > r->max_memory)
		hit |= HIT_MEMORY;
	if (sum(tasks) >= r->max_tasks)
		hit |= HIT_TASKS;
	if (sum(at_files_limit) > 0)
		hit |= HIT_FILES;
	return hit;
}
