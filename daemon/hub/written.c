/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/written - writes whose small answer names an address that clients look at: a commit and a new repo.
 *
 * Some clients fail after the write has succeeded when `commitUrl` or `url` is of another host than the one they talk
 * to (hub-protocol 5.2). The request streams through as any other; only an answer of JSON is gathered and edited.
 */
#include "hub/priv.h"

#include <errno.h>

static const char *const url_members[] = { "url", "commitUrl", "pullRequestUrl", NULL };

static bool is_small_json(const struct reply *r)
{
	return r->kind == REPLY_RELAY &&
	       str_starts_with(headers_get(&r->headers, STR("Content-Type")), STR("application/json")) &&
	       r->head_length <= REQUEST_BODY_MAX &&
	       headers_get(&r->headers, STR("Content-Encoding")).len == 0;
}

/* Into q->body: the request's own was streamed and never stood there. 0 the end; -EAGAIN; -errno. */
static int gather(struct request *q)
{
	char piece[16384];

	for (;;) {
		ssize_t n = relay_read(q->relay, piece, sizeof(piece));

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

int hub_written(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF edited;
	int status, error = hub_forward(h, q, route, r);

	buf_init(&edited, 2 * REQUEST_BODY_MAX);
	if (error != 0 || !is_small_json(r))
		return error;
	q->relay = TAKE_PTR(r->relay);
	status = r->status;
	error = gather(q);
	if (error == -EAGAIN)
		return -EAGAIN;
	relay_free(TAKE_PTR(q->relay));
	if (error < 0) {
		reply_abort(r); /* the write may have been done: nobody shall take this for its end */
		return 0;
	}
	if (link_edit_urls(h, q, buf_str(&q->body), url_members, &edited) < 0) {
		reply_text(r, status, NULL, buf_str(&q->body));
		return 0;
	}
	reply_text(r, status, NULL, buf_str(&edited));
	return 0;
}
