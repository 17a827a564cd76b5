// Without a cgroup the kernel has no count for a tree of processes, so pid 1
// samples its own /proc.
#include "helper.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static DIR *proc;
static bool whole_host; // it shows processes of others

// In a Landlock domain a process can signal those of its own tree only.
void watch_whole_host(void)
{
	whole_host = true;
}

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
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && (!whole_host || kill(atoi(e->d_name), 0) == 0))
			return e->d_name;
	return NULL;
}

static uint64_t kilobytes(const char *text, const char *field)
{
	const char *at = strstr(text, field);
	return at ? strtoull(at + strlen(field), NULL, 10) * 1024 : 0;
}

// Memory of a process that no file on disk backs.
struct usage {
	uint64_t pages;	 // its own or shared: what processes share counts for each of them
	uint64_t tables; // its page tables
};

// A process whose first thread has ended shows its memory in the other threads only.
static bool read_thread(const char *pid, char *buf, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "%s/task", pid);
	int fd = openat(dirfd(proc), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
	if (!tasks) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	bool found = false;
	for (struct dirent *e; !found && (e = readdir(tasks));) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "task/%.20s/status", e->d_name);
		found = read_proc(pid, path, buf, size) && strstr(buf, "\nVmPTE:");
	}
	closedir(tasks);
	return found;
}

static struct usage usage(const char *pid)
{
	char buf[4096];
	if (!read_proc(pid, "status", buf, sizeof buf))
		return (struct usage){0, 0};
	if (!strstr(buf, "\nVmPTE:") && (strstr(buf, "\nThreads:\t1\n") || !read_thread(pid, buf, sizeof buf)))
		return (struct usage){0, 0};
	return (struct usage){kilobytes(buf, "\nRssAnon:") + kilobytes(buf, "\nRssShmem:") + kilobytes(buf, "\nVmSwap:"),
			      kilobytes(buf, "\nVmPTE:")};
}

// The same with shared pages divided among their users. A process that makes
// itself private is charged all that it has.
static uint64_t proportional(const char *pid)
{
	char buf[2048];
	struct usage u = usage(pid);
	if (!read_proc(pid, "smaps_rollup", buf, sizeof buf))
		return u.pages + u.tables;
	return kilobytes(buf, "\nPss_Anon:") + kilobytes(buf, "\nPss_Shmem:") + kilobytes(buf, "\nSwapPss:") + u.tables;
}

int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// The time since boot as the kernel tells it of the start of a process.
uint64_t watch_clock(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
	return (uint64_t)t.tv_sec * hz + (uint64_t)t.tv_nsec * hz / 1000000000;
}

enum { PPID = 4, GROUP = 5, STARTED = 22 }; // proc_pid_stat(5)

static bool read_stat(const char *pid, uint64_t field[static STARTED + 1])
{
	char buf[1024];
	char *at = read_proc(pid, "stat", buf, sizeof buf) ? strrchr(buf, ')') : NULL;
	if (!at || strlen(at) < 5)
		return false;
	at += 3; // the name's end and the state
	for (int i = PPID; i <= STARTED; i++)
		field[i] = strtoull(at, &at, 10);
	return true;
}

// Signals the children of a process that have been started since then, each with its
// group where it has one of its own.
void watch_signal(pid_t parent, uint64_t since, int signo)
{
	uint64_t field[STARTED + 1];
	rewinddir(proc);
	for (const char *pid; (pid = next_process());) {
		if (!read_stat(pid, field) || field[PPID] != (uint64_t)parent || field[STARTED] < since)
			continue;
		pid_t group = (pid_t)field[GROUP];
		if (group > 1)
			kill(group == parent ? atoi(pid) : -group, signo);
	}
}

static bool catches(const char *pid, int signo)
{
	char buf[4096];
	const char *at = read_proc(pid, "status", buf, sizeof buf) ? strstr(buf, "\nSigCgt:") : NULL;
	return !at || strtoull(at + strlen("\nSigCgt:"), NULL, 16) >> (signo - 1) & 1;
}

// Signals once more the processes of a group that were there and do not handle it; not
// what one that handles it has started to clean up. The shell may have felt the signal
// just before it started one, which then did not.
void watch_repeat(pid_t group, pid_t shell, uint64_t asked, int signo)
{
	enum { SHELL_TICKS = 10 };
	uint64_t field[STARTED + 1];
	rewinddir(proc);
	for (const char *pid; (pid = next_process());) {
		if (!read_stat(pid, field) || field[GROUP] != (uint64_t)group)
			continue;
		uint64_t until = asked + (field[PPID] == (uint64_t)shell ? SHELL_TICKS : 0);
		if (field[STARTED] < until && !catches(pid, signo))
			kill(atoi(pid), signo);
	}
}

// Exact, but it walks page tables: it is asked only when the bound is over the
// limit, and not all the time. The tables count themselves, so that a tree
// cannot have many of them, and the pause is short, so that it buys no time.
static bool over_memory(uint64_t limit)
{
	enum { MAX_PAUSE_MS = 100 };
	static int64_t not_before;
	int64_t begin = now_ms();
	uint64_t total = 0;
	if (begin < not_before)
		return false;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());)
		total += proportional(pid);
	int64_t end = now_ms(), pause = 9 * (end - begin);
	not_before = end + (pause < MAX_PAUSE_MS ? pause : MAX_PAUSE_MS);
	return total > limit;
}

struct peak watch_peak;

static void raise_peak(uint64_t *peak, uint64_t now)
{
	if (*peak < now)
		*peak = now;
}

// The time of all processes, in ms: their own and that of the children they have
// waited for. What a process has its children reaped for it by ignoring SIGCHLD is lost.
static uint64_t processor_time(void)
{
	enum { FIRST = 14, LAST = 17 }; // utime, stime, cutime, cstime in proc_pid_stat(5)
	char buf[1024];
	uint64_t ticks = 0;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());) {
		char *at = read_proc(pid, "stat", buf, sizeof buf) ? strrchr(buf, ')') : NULL;
		if (!at || strlen(at) < 5)
			continue;
		at += 3; // the name's end and the state
		for (int i = 4; i <= LAST; i++) {
			uint64_t v = strtoull(at, &at, 10);
			ticks += i >= FIRST ? v : 0;
		}
	}
	return ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

static bool full_of_files(const char *pid, uint32_t max)
{
	struct stat st; // the directory's size is their number from Linux 6.2 on
	return stat_proc(pid, "fd", &st) && (uint64_t)st.st_size >= max;
}

// What no control group counts.
static uint32_t sample_files(const struct request *r)
{
	uint32_t hit = 0;
	rewinddir(proc);
	for (const char *pid; !hit && (pid = next_process());)
		hit = full_of_files(pid, r->max_files) ? HIT_FILES : 0;
	return hit;
}

static uint32_t sample_all(const struct request *r)
{
	enum { CPU_EVERY = 5 };
	static int turn;
	uint64_t pages = 0, tables = 0, tasks = 0;
	uint32_t hit = 0;
	struct stat st;
	rewinddir(proc);
	for (const char *pid; (pid = next_process());) {
		struct usage u = usage(pid);
		pages += u.pages;
		tables += u.tables;
		if (stat_proc(pid, "task", &st) && st.st_nlink > 2)
			tasks += st.st_nlink - 2; // it has a link for each
		if (full_of_files(pid, r->max_files))
			hit |= HIT_FILES;
	}
	raise_peak(&watch_peak.memory, pages + tables);
	raise_peak(&watch_peak.tasks, tasks);
	if (tasks >= r->max_tasks)
		hit |= HIT_TASKS;
	if (tables > r->max_memory || (pages + tables > r->max_memory && over_memory(r->max_memory)))
		hit |= HIT_MEMORY;
	if (++turn % CPU_EVERY == 0 && processor_time() >= r->max_cpu)
		hit |= HIT_CPU;
	return hit;
}

// A sample is due after a pause, which keeps its cost at a tenth of a processor
// for many processes, and far below that for few.
uint32_t watch_sample(const struct request *r, int64_t *due)
{
	enum { LEAST_MS = 20, MOST_MS = 100, SHARE = 9 };
	static int64_t files_due;
	int64_t begin = now_ms();
	uint32_t hit = cgroup_sample(r);
	if (r->ngauges == 0) {
		hit |= sample_all(r);
	} else if (begin >= files_due) {
		hit |= sample_files(r);
		files_due = now_ms() + SHARE * (now_ms() - begin);
	}
	int64_t end = now_ms(), pause = SHARE * (end - begin);
	*due = end + (pause < LEAST_MS ? LEAST_MS : pause > MOST_MS ? MOST_MS : pause);
	return hit;
}
