/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs_object - one object, /{repo}[.git]/info/lfs/objects/{sha256}; and the rest of info/lfs, which is upstream's alone.
 *
 * object.c serves it as resolve serves a file. Here upstream is asked, by a batch of one, where the bytes are: when no path of
 * the repo is known that holds them, and no address that it gave a moment ago.
 */
#include "hub/lfs.h"

#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

struct search {
	const struct digest *oid;
	struct hub_object *object;
	int error_code; /* 0: it is given */
	char message[256];
};

static int look_for(void *ctx, const struct lfs_given *g)
{
	struct search *s = ctx;
	size_t len =
		g->error_message.len < sizeof(s->message) ? g->error_message.len : sizeof(s->message) - 1;

	if (!digest_eq(&g->oid, s->oid))
		return 0;
	s->error_code = g->href.ptr ? 0 : g->error_code ? g->error_code : 502;
	memcpy(s->message, g->error_message.ptr ? g->error_message.ptr : "", len);
	s->message[len] = 0;
	if (g->href.ptr) {
		buf_reset(s->object->location);
		buf_append_str(s->object->location, g->href);
	}
	return 1;
}

static void set_target(struct hub_object *o)
{
	char hex[2 * SHA256_BYTES + 1];
	SCOPED_BUF path;

	format_hex(o->sha256.bytes, SHA256_BYTES, hex);
	lfs_objects_path(o->repo, &path);
	buf_reset(o->target);
	buf_append_str(o->target, buf_str(&path));
	buf_append_str(o->target, str_from(hex));
}

/*
 * What size to ask for, since upstream may insist on it: that of the object if it is known, else what the address says. Whoever
 * writes another one there asks for an object that there is not.
 */
static uint64_t size_of(struct hub *h, const struct request *q, const struct hub_object *o)
{
	struct object known = { 0 };
	uint64_t size = 0;

	(void)parse_u64(uri_param(q->query, STR("size")), &size);
	if (index_find_object(h->opts.index, o->repo, &o->sha256, &known) == 0) {
		size = known.content.size;
		object_done(&known);
	}
	return size;
}

/* By what the address says, which stays the same while the answer teaches the size. */
static void name_question(const struct request *q, const struct hub_object *o, struct digest *ret_what)
{
	struct str size = uri_param(q->query, STR("size"));
	SCOPED_BUF text;

	buf_init(&text, 65536);
	buf_append(&text, o->sha256.bytes, SHA256_BYTES);
	if (size.len)
		buf_append_str(&text, size);
	sha256_of(buf_str(&text).ptr, buf_str(&text).len, ret_what);
}

static int find_source(struct hub *h, struct request *q, const struct hub_route *route, struct hub_object *o,
		       struct reply *r)
{
	struct search search = { .oid = &o->sha256, .object = o, .error_code = 502 };
	const struct answer *answer;
	struct digest what;
	SCOPED_BUF body;
	int error;

	buf_init(&body, 1024);
	set_target(o);
	buf_reset(o->location);
	if (!o->must_ask &&
	    hrefs_find(&h->hrefs, o->repo, &o->sha256, clock_wall_s(h->opts.clock), o->location))
		return 0;
	lfs_question_write_one(&o->sha256, size_of(h, q, o), &body);
	name_question(q, o, &what);
	error = lfs_ask(h, q, route, o->repo, &what, buf_str(&body), &answer);
	if (error < 0)
		return error;
	if (answer->error || answer->status >= 500 || answer->status == 429) {
		o->answer = answer;
		return 0;
	}
	if (answer->status != 200) {
		reply_upstream_error(r, ENDPOINT_GIT, answer);
		return 1;
	}
	if (answer->learned < 0 ||
	    lfs_answer_each(buf_str(&answer->body), answer->asked_at, look_for, &search) < 0)
		return -EPROTO;
	if (search.error_code == 502)
		return -EPROTO;
	if (search.error_code)
		reply_refuse(r, ENDPOINT_GIT, search.error_code, search.message);
	return search.error_code ? 1 : 0;
}

static const struct hub_object_kind lfs_kind = { .find_source = find_source, .class = ENDPOINT_GIT };

static bool is_object_name(struct str s)
{
	return s.len == 2 * SHA256_BYTES && str_is_lower_hex(s);
}

static bool is_read(const struct request *q)
{
	return q->is_head || str_eq(str_from(q->method), STR("GET"));
}

int hub_lfs_object(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error;

	if (!is_read(q) || !is_object_name(route->path))
		return hub_lfs_other(h, q, route, r);
	hub_note(q, route);
	error = hub_serve_object(h, q, route, route->path, &lfs_kind, r);
	return error == 0 ? lfs_finish(r) : error;
}

/* Locks, verification, completion: upstream's alone, whatever it says. */
int hub_lfs_other(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error;

	hub_take_ticket(h, q, route->repo, NULL); /* it says nothing to upstream */
	error = hub_forward(h, q, route, r);
	return error == 0 ? lfs_finish(r) : error;
}
