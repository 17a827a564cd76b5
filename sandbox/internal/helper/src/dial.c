// Connections of the Go process to servers inside, made where their network is.
#include "helper.h"
#include "sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

// A name is looked up before the connection is made: it may be longer than sun_path,
// and no link of /proc leads out.
static socklen_t unix_address(struct sockaddr_un *a, const char *name, uint32_t len, int *opened)
{
	a->sun_family = AF_UNIX;
	if (name[0] == '@') { // an abstract name begins with a NUL
		if (len > sizeof a->sun_path)
			return 0;
		memcpy(a->sun_path + 1, name + 1, len - 1);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	}
	*opened = sys_openat2(AT_FDCWD, name, O_PATH | O_CLOEXEC, RESOLVE_NO_MAGICLINKS);
	if (*opened < 0)
		return 0;
	snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d", *opened);
	return sizeof *a;
}

static socklen_t make_address(union address *a, const uint32_t *head, const char *body, uint32_t len, int *opened)
{
	errno = EINVAL;
	if (head[0] == AF_UNIX && len > 0)
		return unix_address(&a->un, body, len, opened);
	if (head[0] == AF_INET && len == sizeof a->in.sin_addr) {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons((uint16_t)head[1]);
		memcpy(&a->in.sin_addr, body, len);
		return sizeof a->in;
	}
	if (head[0] == AF_INET6 && len == sizeof a->in6.sin6_addr) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)head[1]);
		memcpy(&a->in6.sin6_addr, body, len);
		return sizeof a->in6;
	}
	return 0;
}

// Hands over a socket that is connected, or on its way.
void dial_inside(const uint32_t head[static 2], const char *body, uint32_t len)
{
	union address a = {0};
	int opened = -1, fd = -1, err = 0;
	socklen_t size = make_address(&a, head, body, len, &opened);
	if (size > 0)
		fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || (connect(fd, &a.any, size) < 0 && errno != EINPROGRESS))
		err = errno;
	if (opened >= 0)
		close(opened);
	control_reply(err, &fd, 1);
}
