// Without a cgroup the kernel has no count for a tree of processes, so pid 1
// samples its own /proc.
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
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
	static const char field[] = "\nPss_Anon:";
	char buf[2048];
	if (!read_proc(pid, "smaps_rollup", buf, sizeof buf))
		return resident(pid);
	const char *at = strstr(buf, field);
	return at ? strtoull(at + sizeof field - 1, NULL, 10) * 1024 : resident(pid);
}

static bool over_memory(uint64_t limit)
{
	uint64_t total = 0;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());)
		total += proportional(pid);
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
