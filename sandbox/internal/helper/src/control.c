#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MAX_FILES = 8 };

struct header {
	uint32_t kind, len;
};

static bool read_full(void *buf, size_t n)
{
	char *p = buf;
	while (n > 0) {
		ssize_t got = read(CONTROL_FD, p, n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

// One send per frame keeps frames of two processes from mixing; frames to the
// Go process are far smaller than the socket's buffer.
static bool send_files(uint32_t kind, const void *body, uint32_t len, const int *fds, uint32_t n)
{
	char buf[sizeof(struct header) + 512];
	struct header h = {kind, len};
	memcpy(buf, &h, sizeof h);
	memcpy(buf + sizeof h, body, len);
	struct iovec part = {buf, sizeof h + len};
	union {
		char space[CMSG_SPACE(MAX_FILES * sizeof *fds)];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	if (n > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n * sizeof *fds);
		struct cmsghdr *c = &control.align; // CMSG_FIRSTHDR
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof *fds);
		memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
	}
	ssize_t sent;
	while ((sent = sendmsg(CONTROL_FD, &m, MSG_NOSIGNAL)) < 0 && errno == EINTR)
		;
	return sent >= 0;
}

static void send_frame(uint32_t kind, const void *body, uint32_t len)
{
	send_files(kind, body, len, NULL, 0);
}

static void read_body(struct request *r, struct header h, bool (*parse)(struct request *, char *, size_t))
{
	if (h.len > MAX_REQUEST)
		fail(STAGE_REQUEST, EPROTO, "header");
	char *buf = mmap(NULL, h.len + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		fail(STAGE_REQUEST, errno, "memory");
	if (!read_full(buf, h.len))
		_exit(0);
	if (!parse(r, buf, h.len))
		fail(STAGE_REQUEST, EPROTO, "body");
}

bool control_read_build(struct request *r, struct errand *e)
{
	struct header h;
	if (!read_full(&h, sizeof h))
		_exit(0); // the Go process gave up before it asked for anything
	if (h.kind == FRAME_IDMAP && h.len == sizeof *e && read_full(e, sizeof *e))
		return false;
	if (h.kind != FRAME_BUILD)
		fail(STAGE_REQUEST, EPROTO, "header");
	read_body(r, h, request_parse_build);
	return true;
}

// The files that come with the frame's first byte.
static uint32_t read_files(struct header *h, int fds[static MAX_FILES])
{
	union {
		char space[CMSG_SPACE(MAX_FILES * sizeof *fds)];
		struct cmsghdr align;
	} control;
	struct iovec part = {h, sizeof *h};
	struct msghdr m = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n;
	do
		n = recvmsg(CONTROL_FD, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0 || !read_full((char *)h + n, sizeof *h - (size_t)n))
		_exit(0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (m.msg_flags & MSG_CTRUNC)
		fail(STAGE_REQUEST, EMFILE, "files");
	if (!c)
		return 0;
	uint32_t count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof *fds);
	if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || count > MAX_FILES)
		fail(STAGE_REQUEST, EPROTO, "files");
	memcpy(fds, CMSG_DATA(c), count * sizeof *fds);
	return count;
}

void control_read_run(struct request *r)
{
	struct header h;
	int fds[MAX_FILES];
	uint32_t built = r->nops, count = read_files(&h, fds), used = 0;
	if (h.kind != FRAME_RUN)
		fail(STAGE_REQUEST, EPROTO, "header");
	read_body(r, h, request_parse_run);
	for (uint32_t i = built; i < r->nops; i++)
		if (r->ops[i].flags & (BIND_TREE | BIND_SAME) && used < count)
			r->ops[i].tree = fds[used++];
	if (used != count)
		fail(STAGE_REQUEST, EPROTO, "files");
}

bool control_read_order(struct order *o)
{
	struct header h;
	if (!read_full(&h, sizeof h))
		return false;
	o->kind = h.kind;
	o->len = h.len;
	if (h.len > MAX_ORDER || !read_full(o->body, h.len))
		return false;
	o->body[h.len] = '\0';
	return true;
}

bool control_closed(int wait_ms)
{
	struct pollfd p = {.fd = CONTROL_FD, .events = POLLRDHUP};
	return poll(&p, 1, wait_ms) > 0 && p.revents & (POLLRDHUP | POLLHUP);
}

void control_ready(uint32_t uid, uint32_t gid)
{
	uint32_t body[] = {uid, gid};
	send_frame(FRAME_READY, body, sizeof body);
}

static int lent[LENT_COUNT];
static uint32_t lent_mask;

void control_lend(enum lent which, int fd)
{
	lent[which] = fd;
	lent_mask |= 1u << which;
}

static uint32_t lacks;

void control_lack(uint32_t set)
{
	lacks |= set;
}

void control_started(void)
{
	uint32_t body[2] = {lent_mask, lacks};
	int fds[LENT_COUNT];
	uint32_t n = 0;
	for (int i = 0; i < LENT_COUNT; i++)
		if (lent_mask & 1u << i)
			fds[n++] = lent[i];
	if (!send_files(FRAME_STARTED, body, sizeof body, fds, n))
		fail(STAGE_LEND, errno, "to the caller");
	for (uint32_t i = 0; i < n; i++)
		close(fds[i]);
}

void control_reply(int err, const int *fds, uint32_t n)
{
	uint32_t body[2] = {(uint32_t)err, err ? 0 : n};
	// The kernel bounds the files of one user that are under way: an answer comes all the same.
	if (!send_files(FRAME_REPLY, body, sizeof body, fds, body[1]) && body[1] > 0) {
		body[0] = (uint32_t)errno;
		body[1] = 0;
		send_frame(FRAME_REPLY, body, sizeof body);
	}
	for (uint32_t i = 0; i < n; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static uint64_t microseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

void control_exit(int wait_status, uint32_t limits_hit)
{
	enum { BLOCK = 512 }; // getrusage(2)
	struct rusage u;
	getrusage(RUSAGE_CHILDREN, &u);
	struct {
		uint32_t wait_status, limits_hit;
		uint64_t user_us, system_us, read, written, memory, tasks;
	} body = {
		(uint32_t)wait_status, limits_hit, microseconds(u.ru_utime), microseconds(u.ru_stime),
		(uint64_t)u.ru_inblock * BLOCK, (uint64_t)u.ru_oublock * BLOCK, watch_peak.memory, watch_peak.tasks,
	};
	send_frame(FRAME_EXIT, &body, sizeof body);
}

void fail(enum stage s, int err, const char *detail)
{
	struct {
		uint32_t stage, err;
		char detail[256];
	} body = {s, (uint32_t)err, {0}};
	size_t n = strnlen(detail, sizeof body.detail);
	memcpy(body.detail, detail, n);
	send_frame(FRAME_ERROR, &body, (uint32_t)(offsetof(__typeof__(body), detail) + n));
	_exit(1);
}
