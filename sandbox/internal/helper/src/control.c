#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

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
static void send_frame(uint32_t kind, const void *body, uint32_t len)
{
	char buf[sizeof(struct header) + 512];
	struct header h = {kind, len};
	memcpy(buf, &h, sizeof h);
	memcpy(buf + sizeof h, body, len);
	while (send(CONTROL_FD, buf, sizeof h + len, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

void control_read_request(struct request *r)
{
	struct header h;
	if (!read_full(&h, sizeof h))
		_exit(0); // the Go process gave up before it asked for anything
	if (h.kind != FRAME_REQUEST || h.len > MAX_REQUEST)
		fail(STAGE_REQUEST, EPROTO, "header");
	char *buf = mmap(NULL, h.len + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buf == MAP_FAILED)
		fail(STAGE_REQUEST, errno, "memory");
	if (!read_full(buf, h.len))
		_exit(0);
	if (!request_parse(r, buf, h.len))
		fail(STAGE_REQUEST, EPROTO, "body");
}

bool control_read_signal(int *signo)
{
	struct header h;
	uint32_t n;
	if (!read_full(&h, sizeof h) || h.kind != FRAME_SIGNAL || h.len != sizeof n || !read_full(&n, sizeof n))
		return false;
	*signo = (int)n;
	return true;
}

bool control_closed(void)
{
	struct pollfd p = {.fd = CONTROL_FD, .events = POLLRDHUP};
	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP);
}

void control_started(void)
{
	send_frame(FRAME_STARTED, "", 0);
}

static uint64_t microseconds(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

void control_exit(int wait_status, uint32_t limits_hit)
{
	struct rusage u;
	getrusage(RUSAGE_CHILDREN, &u);
	struct {
		uint32_t wait_status, limits_hit;
		uint64_t user_us, system_us;
	} body = {(uint32_t)wait_status, limits_hit, microseconds(u.ru_utime), microseconds(u.ru_stime)};
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
