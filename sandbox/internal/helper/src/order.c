// Orders of the Go process to pid 1 of a running sandbox. None may block: pid 1
// also reaps, watches the limits and ends the tree.
#include "helper.h"
#include "sys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

// Opens what a path means to the programs inside. The links that they make lead to
// nothing that is not theirs, and a FIFO of theirs holds nobody up.
static void open_inside(const uint32_t *head, const char *path)
{
	enum { ALWAYS = O_CLOEXEC | O_NONBLOCK | O_NOCTTY };
	struct open_how how = {
		.flags = head[0] & O_PATH ? head[0] | O_CLOEXEC : head[0] | ALWAYS,
		.mode = head[1],
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, path, &how, sizeof how);
	int err = fd < 0 ? errno : 0;
	close(root);
	control_reply(err, &fd, 1);
}

static bool is_path(const char *body, uint32_t len)
{
	return len > 0 && body[0] == '/' && !memchr(body, '\0', len);
}

bool order_follow(const struct order *o, pid_t payload, bool session)
{
	uint32_t head[2];
	memcpy(head, o->body, sizeof head);
	switch (o->kind) {
	case FRAME_SIGNAL:
		if (o->len != sizeof head || (head[1] != SIGNAL_PAYLOAD && !session))
			return false;
		if (head[1] == SIGNAL_PAYLOAD)
			kill(payload, (int)head[0]);
		else
			session_signal(payload, (int)head[0], head[1]);
		return true;
	case FRAME_STREAMS:
		if (!session || o->len != STREAM_NAME || memchr(o->body, '/', STREAM_NAME))
			return false;
		session_streams(o->body);
		return true;
	case FRAME_OPEN:
		if (o->len < sizeof head || !is_path(o->body + sizeof head, o->len - (uint32_t)sizeof head))
			return false;
		open_inside(head, o->body + sizeof head);
		return true;
	case FRAME_DIAL:
		if (o->len < sizeof head)
			return false;
		dial_inside(head, o->body + sizeof head, o->len - (uint32_t)sizeof head);
		return true;
	}
	return false;
}
