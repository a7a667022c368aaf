/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/small - endpoints that need a word of their own but no file: who am I, telemetry, Xet tokens,
 * preflight.
 */
#include "hub/priv.h"

#include <errno.h>

/* Personal: passed on with the caller's token, never kept, never shared (hub-protocol 4.4, N03). */
int hub_whoami(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	int error = hub_forward(h, q, route, r);

	if (error == 0)
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	return error;
}

/* Clients send these from a background thread and at import; without upstream they must not wait (E14). */
int hub_telemetry(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	if (!fetch_is_down(h->opts.fetch))
		return hub_forward(h, q, route, r);
	if (q->is_head) {
		r->status = 200;
		r->head_length = 0;
		return 0;
	}
	reply_error(r, q, ENDPOINT_API, -EHOSTUNREACH, STR(""));
	return 0;
}

/*
 * A client with an old tree in its own cache asks for a Xet token although nothing here announces Xet; buckets and uploads ask for
 * theirs. The token is in fields as well as in the body, and Python reads the fields. Never 404: it would take the repo for
 * missing (hub-protocol 6.2 rule 5, E15).
 */
int hub_xet_token(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	const struct headers *upstream;
	int64_t length;
	int error, status;

	hub_note(q, route);
	if (fetch_is_down(h->opts.fetch) && !q->relay) {
		q->result = RESULT_OFFLINE_MISS;
		reply_error(r, q, ENDPOINT_API, -ENODATA,
			    STR("Xet storage is not served here; set HF_HUB_DISABLE_XET=1, or delete the "
				"trees folder of this repo in the client's cache"));
		return 0;
	}
	error = hub_forward(h, q, route, r);
	if (error != 0 || r->kind != REPLY_RELAY || relay_head(r->relay, &status, &upstream, &length) != 0)
		return error;
	hub_copy_xet(upstream, r);
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	return 0;
}

/* What a page may send: what it asked for, if that is a list of field names; browsers ask for all that they do not know. */
static struct str allowed_fields(const struct request *q)
{
	static const char usual[] =
		"authorization, range, content-type, accept, if-none-match, if-range, x-request-id";
	struct str asked = request_header(q, STR("Access-Control-Request-Headers"));

	if (asked.len == 0 || asked.len > 1024)
		return STR(usual);
	for (size_t i = 0; i < asked.len; i++) {
		char c = asked.ptr[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_' || c == ',' || c == ' '))
			return STR(usual);
	}
	return asked;
}

int hub_preflight(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	/* pages put their uploads there */
	bool is_upload = str_starts_with(q->path, STR("/-/upload/"));

	r->status = 204;
	(void)headers_addf(&r->headers, "Access-Control-Allow-Origin", "*");
	(void)headers_addf(&r->headers, "Access-Control-Allow-Methods",
			   is_upload ? "PUT, OPTIONS" : "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
	(void)headers_set(&r->headers, STR("Access-Control-Allow-Headers"), allowed_fields(q));
	(void)headers_addf(&r->headers, "Access-Control-Max-Age", "86400");
	return 0;
}
