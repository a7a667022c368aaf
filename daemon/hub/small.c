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
 * A client with an old tree in its own cache asks for a Xet token although nothing here announces Xet.
 * Never 404: it would take
 * the repo for missing (hub-protocol 6.2 rule 5, E15).
 */
int hub_xet_token(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	hub_note(q, route);
	if (!fetch_is_down(h->opts.fetch))
		return hub_forward(h, q, route, r);
	reply_error(r, q, ENDPOINT_API, -ENODATA,
		    STR("Xet storage is not served here; set HF_HUB_DISABLE_XET=1, or delete the trees "
			"folder of this repo in the "
			"client's cache"));
	return 0;
}

int hub_preflight(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	r->status = 204;
	(void)headers_addf(&r->headers, "Access-Control-Allow-Origin", "*");
	(void)headers_addf(&r->headers, "Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
	(void)headers_addf(
		&r->headers, "Access-Control-Allow-Headers",
		"authorization, range, content-type, accept, if-none-match, if-range, x-request-id");
	(void)headers_addf(&r->headers, "Access-Control-Max-Age", "86400");
	return 0;
}
