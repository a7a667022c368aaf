/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/viewer - the dataset viewer, which clients look for at datasets-server.NAME of our own name (hub-protocol 1.7).
 *
 * Its answers are passed on with the caller's token and never kept. In those that list files, the addresses become
 * ours: so the files themselves come through this cache.
 * Never     serves a Hub path, or is served by one (A10).
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define PREFIX "datasets-server."
#define ANSWER_BYTES_MAX (32u << 20)

/* "http://datasets-server.cache:8090" -> "http://cache:8090": where the Hub's paths are. The caller's. */
static char *hub_base(const struct request *q)
{
	const char *host = strstr(q->base, "://");

	if (!host || !str_starts_with(str_from(host + 3), STR(PREFIX)))
		return xstrdup(q->base);
	host += 3;
	return xasprintf("%.*s%s", (int)(host - q->base), q->base, host + strlen(PREFIX));
}

struct edit {
	const struct hub *hub;
	struct request seen; /* what link.c needs of a request: the base */
};

static bool edit_url(void *ctx, struct str member, struct str value, struct buf *out)
{
	struct edit *e = ctx;

	if (!str_eq(member, STR("url")) || !str_starts_with(value, STR("http")))
		return false;
	link_location(e->hub, &e->seen, value, out);
	return !str_eq(buf_str(out), value);
}

/* What names files, and is small enough to be read before it is passed on. */
static bool has_urls(const struct request *q)
{
	static const char *const paths[] = { "/parquet", "/info", "/splits", "/size", "/is-valid" };

	if (!q->is_head && !str_eq(str_from(q->method), STR("GET")))
		return false;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		if (str_eq(q->path, str_from(paths[i])))
			return true;
	return false;
}

static int ask(struct hub *h, struct request *q, const struct answer **ret_answer)
{
	struct question question = { .method = "GET",
				     .origin = FETCH_VIEWER,
				     .target = str_from(q->target),
				     .answer_bytes_max = ANSWER_BYTES_MAX };

	return hub_ask_plainly(h, q, "viewer", &question, ret_answer);
}

static void pass_on(struct hub *h, struct request *q, const struct answer *a, struct reply *r)
{
	SCOPED_FREE char *base = hub_base(q);
	struct edit edit = { .hub = h, .seen = { .base = base } };
	struct str text = buf_str(&a->body);
	SCOPED_BUF edited = { 0 };

	buf_init(&edited, 2 * ANSWER_BYTES_MAX);
	/* what is no JSON has no addresses either: it goes as it came */
	if (a->status == 200 && json_edit_strings(text, edit_url, &edit, &edited) == 0)
		text = buf_str(&edited);
	reply_text(r, a->status, NULL, text);
	reply_copy_allowed(&r->headers, &a->last);
	headers_remove(&r->headers, STR("ETag")); /* of other bytes */
	r->cache_status = "fwd=bypass";
	q->result = RESULT_BYPASS;
}

int hub_viewer(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	const struct answer *answer;
	int error;

	if (!fetch_has_origin(h->opts.fetch, FETCH_VIEWER)) {
		reply_refuse(r, ENDPOINT_API, 404, "this cache knows no dataset viewer (hub.viewer-url)");
		return 0;
	}
	if (!has_urls(q) || !q->has_valid_subject)
		return hub_forward_to(h, q, FETCH_VIEWER, NULL, r);
	error = q->ask_count == 0 && fetch_origin_is_down(h->opts.fetch, FETCH_VIEWER) ? -EHOSTUNREACH
										       : ask(h, q, &answer);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error == 0 && answer->error)
		error = answer->error == -EACCES ? -EPERM : answer->error;
	if (error < 0) {
		q->result = RESULT_OFFLINE_MISS;
		reply_error(r, q, ENDPOINT_API, error, STR("the dataset viewer"));
		return 0;
	}
	pass_on(h, q, answer, r);
	return 0;
}
