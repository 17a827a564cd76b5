#include "helper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HTTP_PORT = 3128, SOCKS_PORT = 1080, BACKLOG = 128 };

// A sandbox without a network still has its loopback.
static void raise_loopback(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo) < 0)
		fail(STAGE_NETWORK, errno, "lo");
	close(fd);
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(fd, BACKLOG) < 0)
		fail(STAGE_NETWORK, errno, "the proxy's port");
	return fd;
}

// The proxy itself is the Go process, outside. Its ports are taken here, before
// there is a payload that could take them.
void network_open(const struct request *r)
{
	if (r->network == NETWORK_HOST)
		return;
	raise_loopback();
	if (r->network != NETWORK_PROXY)
		return;
	control_lend(LENT_HTTP, listen_on(HTTP_PORT));
	control_lend(LENT_SOCKS, listen_on(SOCKS_PORT));
}
