/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/forward - everything under a known prefix that this cache does not understand: streamed through,
 * nothing kept.
 *
 * A write that upstream accepted makes the cache forget what it believed about the repo's names, before the
 * client hears of it
 * (read your own writes, hub-protocol 8.2 rule 3). Xet is taken out of what passes, Hub URLs in Link and
 * Location become ours. A redirect to another path of the Hub goes to the client, who comes back with it: what is a file
 * there is then kept like any other. One to a storage host is followed here, since clients must not see those.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"

static bool is_write(const struct request *q)
{
	struct str method = str_from(q->method);

	return !str_eq(method, STR("GET")) && !str_eq(method, STR("HEAD")) && !str_eq(method, STR("OPTIONS"));
}

/* Fields that are between us and the client, or ours to set upstream. */
static bool is_ours(struct str name)
{
	static const char *const ours[] = { "Host",
					    "Authorization",
					    "Accept-Encoding",
					    "Cookie",
					    "Content-Length",
					    "Expect",
					    "Origin",
					    "Referer",
					    "X-Forwarded-For",
					    "X-Forwarded-Host",
					    "X-Forwarded-Proto",
					    "Forwarded",
					    "X-Real-IP",
					    "X-Request-Id" };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (str_eq_nocase(name, str_from(ours[i])))
			return true;
	return str_starts_with(name, STR("Sec-"));
}

static void pass_request_fields(const struct request *q, struct headers *to)
{
	for (size_t i = 0; i < q->headers.count; i++) {
		struct str name = str_from(q->headers.fields[i].name),
			   value = str_from(q->headers.fields[i].value);

		if (is_ours(name) || header_is_hop_by_hop(&q->headers, name))
			continue;
		/* announcing Xet is ours to refuse (hub-protocol 6.2 rule 4) */
		if (str_eq_nocase(name, STR("Accept")) &&
		    str_starts_with(value, STR("application/vnd.xet-fileinfo+json")))
			value = STR("*/*");
		(void)headers_add(to, name, value);
	}
	(void)headers_set(to, STR("X-Request-Id"), str_from(q->id));
}

static int start(struct hub *h, struct request *q, enum fetch_origin to)
{
	struct headers extra;
	bool has_body = q->body_kind == BODY_STREAM && q->body_bytes != 0;
	struct relay_query query = { .method = q->method,
				     .origin = to,
				     .target = str_from(q->target),
				     .headers = &extra,
				     .token = q->subject.token,
				     .follow = is_write(q) ? FETCH_FOLLOW_NONE : FETCH_FOLLOW_OTHERS,
				     .has_body = has_body,
				     .body_bytes = q->body_bytes };
	int r;

	headers_init(&extra);
	pass_request_fields(q, &extra);
	r = relay_start(h->opts.relays, &query, &q->relay);
	headers_done(&extra);
	q->used_upstream = true;
	return r;
}

static void set_links(struct hub *h, const struct request *q, const struct headers *upstream, struct reply *r)
{
	struct str link = headers_get(upstream, STR("Link")),
		   location = headers_get(upstream, STR("Location"));
	SCOPED_FREE char *next = link.ptr ? link_next_of(h, link) : NULL;
	SCOPED_BUF value;

	buf_init(&value, 16384);
	if (next)
		link_set_next(r, q, next);
	if (!location.ptr)
		return;
	link_location(h, q, location, &value);
	if (!buf_error(&value))
		(void)headers_set(&r->headers, STR("Location"), buf_str(&value));
}

static void forget_names(struct hub *h, const struct hub_route *route)
{
	SCOPED_BUF canonical = { 0 };
	struct str repo;

	if (!route || route->repo.len == 0)
		return;
	repo = hub_canonical(h, route, &canonical);
	index_learn(h->opts.index,
		    &(struct fact){ .kind = FACT_FORGET, .repo = repo, .at = clock_wall_s(h->opts.clock) });
}

int hub_forward_to(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		   struct reply *r)
{
	const struct headers *upstream;
	int64_t content_length;
	int error, status;

	if (route)
		hub_note(q, route);
	if (!q->has_valid_subject) {
		reply_refuse(r, ENDPOINT_API, 401,
			     "malformed Authorization field: one Bearer or Basic token is expected");
		return 0;
	}
	error = q->relay ? 0 : fetch_origin_is_down(h->opts.fetch, to) ? -EHOSTUNREACH : start(h, q, to);
	if (error < 0) {
		q->result = RESULT_OFFLINE_MISS;
		reply_error(r, q, ENDPOINT_API, error, STR(""));
		return 0;
	}
	while ((error = relay_head(q->relay, &status, &upstream, &content_length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0) {
		relay_free(TAKE_PTR(q->relay));
		q->busy_ms = fetch_busy_ms(h->opts.fetch, to, str_from(q->target), q->subject.token);
		reply_error(r, q, ENDPOINT_API, error == -EACCES ? -EPERM : error, STR(""));
		return 0;
	}
	if (q->subject.token && auth_is_bad_token(status, upstream))
		auth_forget_subject(h->opts.auth, &q->subject);
	if (is_write(q) && status >= 200 && status < 300)
		forget_names(h, route);
	set_links(h, q, upstream, r);
	reply_relay(r, q, status, upstream, content_length);
	r->cache_status = is_write(q) ? "fwd=method" : "fwd=bypass";
	q->result = RESULT_BYPASS;
	return 0;
}

int hub_forward(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return hub_forward_to(h, q, FETCH_HUB, route, r);
}
