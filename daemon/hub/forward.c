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

/* A body that is here already goes into the relay at once: it is no longer than what that takes. */
#define BODY_AT_HAND_MAX ((size_t)64 * 1024)

static int start(struct hub *h, struct request *q, enum fetch_origin to)
{
	struct headers extra;
	bool is_at_hand = q->body_kind == BODY_SMALL && q->body.len > 0;
	struct relay_query query = { .who = str_from(q->client),
				     .method = q->method,
				     .origin = to,
				     .target = str_from(q->target),
				     .headers = &extra,
				     .token = q->subject.token,
				     .follow = is_write(q) ? FETCH_FOLLOW_NONE : FETCH_FOLLOW_OTHERS,
				     .has_body = is_at_hand ||
						 (q->body_kind == BODY_STREAM && q->body_bytes != 0),
				     .expects_continue = request_header(q, STR("Expect")).ptr,
				     .body_bytes = q->body_bytes };
	int r;

	if (is_at_hand)
		query.body_bytes = q->body_bytes = (int64_t)q->body.len;
	if (is_at_hand && q->body.len > BODY_AT_HAND_MAX)
		return -EFBIG;
	headers_init(&extra);
	request_forward_fields(q, &extra);
	q->writes = atomic_load(&h->write_count);
	r = relay_start(h->opts.relays, &query, &q->relay);
	headers_done(&extra);
	q->used_upstream = true;
	if (r == 0 && is_at_hand) {
		(void)relay_write(q->relay, q->body.bytes, q->body.len); /* all of it, or nobody reads it */
		relay_write_end(q->relay);
	}
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

/* NULL: what is said of any request will do. */
static const char *said_of_write(int error)
{
	switch (error) {
	case -EHOSTUNREACH:
		return "a write needs upstream, which cannot be reached; nothing was sent, try again later";
	case -ETIMEDOUT:
		return "upstream did not answer in time; it is not known whether this write was carried out, "
		       "so "
		       "look before you send it again";
	case -ECONNRESET:
		return "upstream broke the connection; it is not known whether this write was carried out, "
		       "so "
		       "look before you send it again";
	default:
		return NULL;
	}
}

/* There will be no answer. What was asked for may have been done all the same: a write is never sent again. */
static int refuse(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		  int error, struct reply *r)
{
	bool was_sent = q->relay != NULL;

	relay_free(TAKE_PTR(q->relay));
	hub_settle_written(q);
	q->busy_ms = fetch_busy_ms(h->opts.fetch, to, str_from(q->target), q->subject.token);
	if (was_sent && is_write(q))
		hub_doubt_written(h, q, route);
	if (error == -EFBIG)
		reply_refuse(r, ENDPOINT_API, 413, "the body of this request may have 64 KiB at most");
	else
		reply_error(r, q, ENDPOINT_API, error == -EACCES ? -EPERM : error, STR(""));
	if (is_write(q) && said_of_write(error))
		reply_refuse(r, ENDPOINT_API, r->status, said_of_write(error));
	if (!was_sent)
		q->result = RESULT_OFFLINE_MISS;
	return 1;
}

int hub_forward_head(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		     struct upstream_head *ret, struct reply *r)
{
	int error;

	if (route)
		hub_note(q, route);
	if (!q->has_valid_subject) {
		reply_refuse(r, ENDPOINT_API, 401,
			     "malformed Authorization field: one Bearer or Basic token is expected");
		return 1;
	}
	error = q->relay ? 0 : fetch_origin_is_down(h->opts.fetch, to) ? -EHOSTUNREACH : start(h, q, to);
	if (error < 0)
		return refuse(h, q, to, route, error, r);
	hub_watch_written(h, q, route);
	while ((error = relay_head(q->relay, &ret->status, &ret->headers, &ret->content_length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return refuse(h, q, to, route, error, r);
	auth_heard(h->opts.auth, &q->subject, ret->status, ret->headers);
	if (ret->status >= 300 && ret->status < 500)
		hub_settle_written(q);
	return 0;
}

int hub_forward_gather(struct request *q)
{
	char piece[16384];

	for (;;) {
		size_t room = q->body.bytes_max - q->body.len;
		ssize_t n =
			room == 0 ? -E2BIG
				  : relay_read(q->relay, piece, room < sizeof(piece) ? room : sizeof(piece));

		if (n == -EAGAIN) {
			if (request_park_relay(q, false) == -EAGAIN)
				return -EAGAIN;
		} else if (n <= 0) {
			return (int)n;
		} else if (buf_append(&q->body, piece, (size_t)n) < 0) {
			return -E2BIG;
		}
	}
}

static void set_told(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r)
{
	hub_settle_written(q); /* its caller has booked what was answered */
	set_links(h, q, head->headers, r);
	r->cache_status = is_write(q) ? "fwd=method" : "fwd=bypass";
	q->result = RESULT_BYPASS;
}

void hub_forward_fields(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r)
{
	reply_copy_allowed(&r->headers, head->headers);
	set_told(h, q, head, r);
}

void hub_forward_stream(struct hub *h, struct request *q, const struct upstream_head *head, struct reply *r)
{
	set_told(h, q, head, r); /* first: a redirect is passed on only with its address */
	reply_relay(r, q, head->status, head->headers, head->content_length);
}

int hub_forward_to(struct hub *h, struct request *q, enum fetch_origin to, const struct hub_route *route,
		   struct reply *r)
{
	struct upstream_head head;
	int error = hub_forward_head(h, q, to, route, &head, r);

	if (error != 0)
		return error < 0 ? error : 0;
	if (is_write(q) && head.status >= 200 && head.status < 300)
		hub_forget_written(h, q, route);
	else if (is_write(q) && head.status >= 500)
		hub_doubt_written(h, q, route);
	hub_forward_stream(h, q, &head, r);
	return 0;
}

int hub_forward(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return hub_forward_to(h, q, FETCH_HUB, route, r);
}
