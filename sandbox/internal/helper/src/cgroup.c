// The launcher enters the control groups before it gives up root, and what it
// starts is born there. pid 1 reads what they count by files that are open since
// then: none of their paths exists inside.
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cgroup_enter(struct request *r)
{
	for (char **group = r->groups; *group; group++) {
		int fd = open(*group, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) < 0)
			fail(STAGE_CGROUP, errno, *group);
		close(fd);
	}
	for (uint32_t i = 0; i < r->ngauges; i++) {
		struct gauge *g = &r->gauges[i];
		g->fd = open(g->path, O_RDONLY | O_CLOEXEC);
		if (g->fd < 0)
			fail(STAGE_CGROUP, errno, g->path);
	}
}

// The number behind the key, which stands at the beginning of a line.
static uint64_t value(const char *text, const char *key)
{
	size_t n = strlen(key);
	while (text && strncmp(text, key, n) != 0) {
		text = strchr(text, '\n');
		if (text)
			text++;
	}
	return text ? strtoull(text + n, NULL, 10) : 0;
}

uint32_t cgroup_sample(const struct request *r)
{
	uint32_t hit = 0;
	for (uint32_t i = 0; i < r->ngauges; i++) {
		const struct gauge *g = &r->gauges[i];
		char text[1024];
		if (g->hit == HIT_CPU && r->flags & RUN_SESSION)
			continue; // no sum for a shell that may live for days
		ssize_t n = pread(g->fd, text, sizeof text - 1, 0);
		if (n <= 0)
			continue;
		text[n] = '\0';
		if (value(text, g->key) >= g->limit)
			hit |= g->hit;
	}
	return hit;
}
