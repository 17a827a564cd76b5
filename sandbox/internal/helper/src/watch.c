// Without a cgroup the kernel has no count for a tree of processes, so pid 1
// samples its own /proc.
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
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
	char path[64];
	snprintf(path, sizeof path, "%s/%s", pid, name);
	int fd = openat(dirfd(proc), path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static bool stat_proc(const char *pid, const char *name, struct stat *st)
{
	char path[64];
	snprintf(path, sizeof path, "%s/%s", pid, name);
	return fstatat(dirfd(proc), path, st, 0) == 0;
}

// The next process of a pass over /proc, or NULL.
static const char *next_process(void)
{
	for (struct dirent *e; (e = readdir(proc));)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
			return e->d_name;
	return NULL;
}

// All resident memory: a bound, in which pages of files and pages that processes
// share count for each of them.
static uint64_t resident(const char *pid)
{
	char buf[128], *at = buf;
	if (!read_proc(pid, "statm", buf, sizeof buf))
		return 0;
	strtoull(at, &at, 10);
	return strtoull(at, &at, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t kilobytes(const char *text, const char *field)
{
	const char *at = strstr(text, field);
	return at ? strtoull(at + strlen(field), NULL, 10) * 1024 : 0;
}

// Memory that no file on disk backs, shared pages divided among their users.
// A process that makes itself private is charged all that it has.
static uint64_t proportional(const char *pid)
{
	char buf[2048];
	if (!read_proc(pid, "smaps_rollup", buf, sizeof buf))
		return resident(pid);
	return kilobytes(buf, "\nPss_Anon:") + kilobytes(buf, "\nPss_Shmem:");
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Exact, but it walks page tables: it is asked only when the bound is over the
// limit, and takes at most a tenth of the time.
static bool over_memory(uint64_t limit)
{
	static int64_t not_before;
	int64_t begin = now_ns();
	uint64_t total = 0;
	if (begin < not_before)
		return false;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());)
		total += proportional(pid);
	int64_t end = now_ns();
	not_before = end + 9 * (end - begin);
	return total > limit;
}

// A process's directory of tasks has a link for each; its directory of open
// files has their number as its size (Linux 6.2).
uint32_t watch_sample(const struct request *r)
{
	uint64_t memory = 0, tasks = 0;
	uint32_t hit = 0;
	struct stat st;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());) {
		memory += resident(pid);
		if (stat_proc(pid, "task", &st) && st.st_nlink > 2)
			tasks += st.st_nlink - 2;
		if (stat_proc(pid, "fd", &st) && (uint64_t)st.st_size >= r->max_files)
			hit |= HIT_FILES;
	}
	if (tasks >= r->max_tasks)
		hit |= HIT_TASKS;
	if (memory > r->max_memory && over_memory(r->max_memory))
		hit |= HIT_MEMORY;
	return hit;
}
