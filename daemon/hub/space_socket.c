/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_socket - a WebSocket to the app of a Space: after the same checks, and with the same secrets, as any request to it.
 *
 * The app is asked for the upgrade first. If it says 101, its answer goes to the client as it is, and from then on splice/
 * carries the bytes of both sides, and nobody looks into them. Anything else it says is told to the client with that status.
 * Never     opens one to anything but the app of a Space.
 */
#include "hub/space.h"

#include <errno.h>
#include <stdio.h>

#define HEAD_BYTES_MAX 65536

bool space_is_socket(const struct request *q)
{
	return str_eq(str_from(q->method), STR("GET")) &&
	       str_eq_nocase(str_trim(request_header(q, STR("Upgrade"))), STR("websocket"));
}

static void append_field(struct str name, struct str value, struct buf *out)
{
	buf_append_str(out, name);
	buf_append_str(out, STR(": "));
	buf_append_str(out, value);
	buf_append_str(out, STR("\r\n"));
}

/* "http://h:1" of "http://h:1/inner". */
static struct str origin_of(struct str url)
{
	const char *host = memmem(url.ptr, url.len, "://", 3);
	const char *path = host ? memchr(host + 3, '/', url.len - (size_t)(host + 3 - url.ptr)) : NULL;

	return path ? str_from_range(url.ptr, path) : url;
}

static struct str authority_of(struct str url)
{
	struct str at = origin_of(url);
	const char *host = memmem(at.ptr, at.len, "://", 3);

	return host ? str_from_range(host + 3, at.ptr + at.len) : at;
}

/* The handshake is between client and app; a page of ours is taken by the app for one of its own, as it would be there. */
static void append_handshake(const struct request *q, struct str url, struct buf *out)
{
	append_field(STR("Connection"), STR("Upgrade"), out);
	append_field(STR("Upgrade"), STR("websocket"), out);
	for (size_t i = 0; i < q->headers.count; i++) {
		struct str name = str_from(q->headers.fields[i].name), prefix = STR("Sec-WebSocket-");

		if (name.len > prefix.len && str_eq_nocase((struct str){ name.ptr, prefix.len }, prefix))
			append_field(name, str_from(q->headers.fields[i].value), out);
	}
	if (request_header(q, STR("Origin")).ptr)
		append_field(STR("Origin"), origin_of(url), out);
}

static int start(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s)
{
	struct str url = str_from(s->url), target, authority;
	struct headers fields;
	struct origin origin;
	SCOPED_BUF head;
	int r;

	buf_init(&head, HEAD_BYTES_MAX);
	if (origin_parse(url, &origin, &target) < 0)
		return -EINVAL;
	authority = authority_of(url);
	space_append_target(q, s, &head);
	append_field(STR("Host"), authority, &head);
	append_handshake(q, url, &head);
	space_request_fields(h, q, route, s, &fields);
	for (size_t i = 0; i < fields.count; i++)
		append_field(str_from(fields.fields[i].name), str_from(fields.fields[i].value), &head);
	headers_done(&fields);
	buf_append_str(&head, STR("\r\n"));
	r = buf_error(&head) ? -EINVAL
			     : dial_start(h->opts.splices,
					  &(struct dial_query){ .host = origin.host,
								.port = origin.port,
								.is_tls = origin.is_tls,
								.is_local = space_is_near(h, s, &origin),
								.head = buf_str(&head) },
					  &q->dial);
	secret_wipe(head.bytes, head.len);
	q->used_upstream = true;
	return r;
}

static int refuse(struct request *q, int error, struct reply *r)
{
	dial_free(TAKE_PTR(q->dial));
	reply_error(r, q, ENDPOINT_FILE, error == -EACCES ? -EPERM : error, STR(""));
	if (error == -EHOSTUNREACH)
		reply_refuse(r, ENDPOINT_FILE, 503,
			     "the app of this Space cannot be reached; try again later");
	q->result = RESULT_OFFLINE_MISS;
	return 0;
}

static int refuse_as_app(struct request *q, int status, struct reply *r)
{
	dial_free(TAKE_PTR(q->dial));
	reply_refuse(r, ENDPOINT_FILE, status >= 300 ? status : 502,
		     "the app of this Space opens no WebSocket here");
	return 0;
}

int space_socket(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		 struct reply *r)
{
	const struct headers *fields;
	int status, error = 0;

	if (s->kind == SPACE_STATIC) {
		reply_refuse(r, ENDPOINT_FILE, 400, "a static Space opens no WebSocket: its pages are files");
		return 0;
	}
	if (!q->dial)
		error = !h->opts.splices || (s->kind == SPACE_APP && fetch_is_offline(h->opts.fetch))
				? -EHOSTUNREACH
				: start(h, q, route, s);
	if (error < 0)
		return refuse(q, error, r);
	while ((error = dial_head(q->dial, &status, &fields)) == -EAGAIN)
		if (request_park_dial(q) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return refuse(q, error, r);
	if (status != 101)
		return refuse_as_app(q, status, r);
	reply_dial(r, q);
	r->cache_status = "fwd=bypass";
	q->result = RESULT_BYPASS;
	return 0;
}
