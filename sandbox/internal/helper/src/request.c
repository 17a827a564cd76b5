// Parsing of the request. The buffer is trusted to come from the Go process,
// yet every length is checked: a bug there must not become one here.
#include "helper.h"

#include <string.h>

struct reader {
	char *at, *end;
	bool bad;
};

static const char *take(struct reader *in, size_t n)
{
	if (in->bad || n > (size_t)(in->end - in->at)) {
		in->bad = true;
		return NULL;
	}
	const char *p = in->at;
	in->at += n;
	return p;
}

static uint32_t take_u32(struct reader *in)
{
	uint32_t v = 0;
	const char *p = take(in, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return v;
}

static uint64_t take_u64(struct reader *in)
{
	uint64_t v = 0;
	const char *p = take(in, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return v;
}

// Bytes are length, content, NUL: they stay in the buffer.
static const char *take_bytes(struct reader *in, uint32_t *len)
{
	*len = take_u32(in);
	const char *p = take(in, (size_t)*len + 1);
	if (p && p[*len] != '\0')
		in->bad = true;
	return in->bad ? "" : p;
}

static const char *take_string(struct reader *in)
{
	uint32_t len;
	const char *p = take_bytes(in, &len);
	if (!in->bad && memchr(p, '\0', len))
		in->bad = true;
	return p;
}

// A vector of strings; the array of pointers is carved from the caller's space.
static char **take_vector(struct reader *in, char ***space, size_t *room)
{
	uint32_t n = take_u32(in);
	if (in->bad || n >= *room) {
		in->bad = true;
		return NULL;
	}
	char **v = *space;
	for (uint32_t i = 0; i < n; i++)
		v[i] = (char *)take_string(in);
	v[n] = NULL;
	*space += n + 1;
	*room -= n + 1;
	return v;
}

// Steps follow those that are there already.
static bool take_ops(struct reader *in, struct request *r)
{
	uint32_t n = take_u32(in);
	if (in->bad || n > MAX_OPS - r->nops)
		return false;
	for (; n > 0; n--) {
		struct op *o = &r->ops[r->nops++];
		o->kind = take_u32(in);
		o->flags = take_u32(in);
		o->mode = take_u32(in);
		o->path = take_string(in);
		o->source = o->kind == OP_FILE ? take_bytes(in, &o->source_len) : take_string(in);
		o->tree = -1;
	}
	return true;
}

bool request_parse_build(struct request *r, char *buf, size_t len)
{
	static char *pointers[MAX_GROUPS + 1];
	char **space = pointers;
	size_t room = sizeof pointers / sizeof *pointers;
	struct reader in = {.at = buf, .end = buf + len};
	uint32_t bytes;

	if (take_u32(&in) != PROTO_VERSION)
		return false;
	r->build_flags = take_u32(&in);
	r->uid = take_u32(&in);
	r->gid = take_u32(&in);
	r->spare_uid = take_u32(&in);
	r->spare_gid = take_u32(&in);
	r->network = take_u32(&in);
	r->hostname = take_string(&in);
	r->tmpfs_size = take_string(&in);
	r->tmpfs_inodes = take_string(&in);
	if (!take_ops(&in, r))
		return false;
	r->filter = take_bytes(&in, &bytes);
	r->filter_len = bytes / 8;
	r->groups = take_vector(&in, &space, &room);
	r->ngauges = take_u32(&in);
	if (r->ngauges > MAX_GAUGES)
		return false;
	for (uint32_t i = 0; i < r->ngauges; i++) {
		struct gauge *g = &r->gauges[i];
		g->hit = take_u32(&in);
		g->limit = take_u64(&in);
		g->path = take_string(&in);
		g->key = take_string(&in);
	}
	return !in.bad && in.at == in.end && r->filter_len > 0 && bytes % 8 == 0;
}

bool request_parse_run(struct request *r, char *buf, size_t len)
{
	static char *pointers[8192];
	char **space = pointers;
	size_t room = sizeof pointers / sizeof *pointers;
	struct reader in = {.at = buf, .end = buf + len};

	r->flags = take_u32(&in);
	if (!take_ops(&in, r))
		return false;
	r->nlimits = take_u32(&in);
	if (r->nlimits > MAX_LIMITS)
		return false;
	for (uint32_t i = 0; i < r->nlimits; i++) {
		r->limits[i].resource = take_u32(&in);
		r->limits[i].value = take_u64(&in);
	}
	r->max_memory = take_u64(&in);
	r->max_cpu = take_u64(&in);
	r->max_tasks = take_u32(&in);
	r->max_files = take_u32(&in);
	r->path = take_string(&in);
	r->dir = take_string(&in);
	r->argv = take_vector(&in, &space, &room);
	r->envp = take_vector(&in, &space, &room);
	return !in.bad && in.at == in.end && r->argv[0];
}
