/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_socket - a WebSocket to the app of a Space: after the same checks, and with the same secrets, as any request to it.
 *
 * The app is asked for the upgrade first. If it says 101 and means a WebSocket, the client is told so with the fields that belong
 * to it, and with the app's cookies as in any answer; from then on splice/ carries the bytes of both sides, and nobody looks
 * into them. Anything else it says is told to the client with that status.
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

/* A page of ours is nobody, or, where its browser knows no sandbox, of this server. */
static bool is_page_of_ours(const struct request *q, struct str origin)
{
	return str_eq(origin, STR("null")) || str_eq_nocase(origin, str_from(q->base)) ||
	       str_eq_nocase(authority_of(origin), str_from(q->host));
}

/*
 * The handshake is between client and app. A page of ours is taken by the app for one of its own, as it would be there; of others
 * it is told the truth, for that is how apps keep strange pages out.
 */
static void append_handshake(const struct request *q, struct str url, struct buf *out)
{
	struct str from = request_header(q, STR("Origin"));

	append_field(STR("Connection"), STR("Upgrade"), out);
	append_field(STR("Upgrade"), STR("websocket"), out);
	for (size_t i = 0; i < q->headers.count; i++) {
		struct str name = str_from(q->headers.fields[i].name), prefix = STR("Sec-WebSocket-");

		if (name.len > prefix.len && str_eq_nocase((struct str){ name.ptr, prefix.len }, prefix))
			append_field(name, str_from(q->headers.fields[i].value), out);
	}
	if (from.ptr)
		append_field(STR("Origin"), is_page_of_ours(q, from) ? origin_of(url) : from, out);
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
								.head = buf_str(&head),
								.who = str_from(q->client) },
					  &q->dial);
	secret_wipe(head.bytes, head.len);
	q->used_upstream = true;
	return r;
}

static int refuse(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		  int error, struct reply *r)
{
	dial_free(TAKE_PTR(q->dial));
	space_tell_trouble(h, q, route, s, error, r);
	return 0;
}

static int refuse_as_app(struct request *q, int status, struct reply *r)
{
	dial_free(TAKE_PTR(q->dial));
	reply_refuse(r, ENDPOINT_FILE, status >= 300 ? status : 502,
		     "the app of this Space opens no WebSocket here");
	return 0;
}

static bool is_websocket(const struct headers *fields)
{
	return headers_count_of(fields, STR("Upgrade")) == 1 &&
	       str_eq_nocase(headers_get(fields, STR("Upgrade")), STR("websocket"));
}

/* Its head is written anew: what else an app might say there is about all of this server. */
static void set_head(const struct space_call *c, const struct headers *fields, struct reply *r)
{
	static const char *const told[] = { "Sec-WebSocket-Accept", "Sec-WebSocket-Protocol",
					    "Sec-WebSocket-Extensions" };

	(void)headers_add(&r->headers, STR("Upgrade"), STR("websocket"));
	for (size_t i = 0; i < fields->count; i++)
		for (size_t n = 0; n < sizeof(told) / sizeof(told[0]); n++)
			if (str_eq_nocase(str_from(fields->fields[i].name), str_from(told[n])))
				(void)headers_add(&r->headers, str_from(told[n]),
						  str_from(fields->fields[i].value));
	space_set_cookies(c, fields, r);
}

static int open_socket(struct space_call *c, const struct headers *fields, struct reply *r)
{
	if (!is_websocket(fields)) {
		dial_free(TAKE_PTR(c->q->dial));
		reply_refuse(r, ENDPOINT_FILE, 502,
			     "the app of this Space answered a WebSocket with something else");
		return 0;
	}
	set_head(c, fields, r);
	reply_dial(r, c->q);
	r->cache_status = "fwd=bypass";
	c->q->result = RESULT_BYPASS;
	return 0;
}

int space_socket(struct hub *h, struct request *q, const struct hub_route *route, const struct space *s,
		 struct reply *r)
{
	const struct headers *fields;
	struct space_call c;
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
		return refuse(h, q, route, s, error, r);
	while ((error = dial_head(q->dial, &status, &fields)) == -EAGAIN)
		if (request_park_dial(q) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return refuse(h, q, route, s, error, r);
	if (status != 101)
		return refuse_as_app(q, status, r);
	space_call_init(&c, h, q, route, s);
	error = open_socket(&c, fields, r);
	space_call_done(&c);
	return error;
}
