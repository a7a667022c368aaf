/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/large - a call whose body is too long to be looked into: passed on as it comes, in constant memory, and nothing is kept of
 * it (inference-protocol 3.6, I17).
 */
#include "infer/priv.h"

#include <errno.h>

bool infer_is_large(const struct request *q)
{
	return q->body_bytes > (int64_t)CALL_BODY_MAX;
}

bool infer_refuses_length(struct infer *i, const struct request *q)
{
	struct infer_rules rules = infer_rules_of(i);

	return rules.request_max && q->body_bytes > 0 && (uint64_t)q->body_bytes > rules.request_max;
}

static int start(struct infer *i, struct request *q, struct str target)
{
	struct headers fields;
	struct relay_query query = { .who = str_from(q->client),
				     .method = q->method,
				     .origin = FETCH_INFERENCE,
				     .target = target,
				     .headers = &fields,
				     .token = q->subject.token,
				     .follow = FETCH_FOLLOW_NONE,
				     .has_body = true,
				     .expects_continue = request_header(q, STR("Expect")).ptr,
				     .body_bytes = q->body_bytes };
	int r;

	headers_init(&fields);
	request_forward_fields(q, &fields);
	r = relay_start(i->opts.relays, &query, &q->relay);
	headers_done(&fields);
	q->used_upstream = true;
	return r == -EUSERS ? -E2BIG : r;
}

static int pass_on(struct infer *i, struct request *q, const struct infer_path *p, struct reply *r)
{
	const struct headers *fields;
	int64_t length;
	int status, error = 0;

	if (!q->relay && (infer_mode_of(i, p->model, STR(""), buf_str(&p->target)) == INFER_OFFLINE ||
			  !fetch_has_origin(i->opts.fetch, FETCH_INFERENCE) ||
			  fetch_origin_is_down(i->opts.fetch, FETCH_INFERENCE)))
		return -ENODATA;
	if (!q->relay)
		error = start(i, q, buf_str(&p->target));
	if (error < 0)
		return error;
	while ((error = relay_head(q->relay, &status, &fields, &length)) == -EAGAIN)
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return error;
	reply_relay(r, q, status, fields, length);
	(void)headers_set(&r->headers, STR("X-Inference-Backend"), STR("upstream"));
	(void)headers_set(&r->headers, STR("X-Cache"), STR("BYPASS"));
	set_cache_status(r, "fwd=bypass; detail=too-large", NULL, fields);
	q->result = RESULT_BYPASS;
	return 0;
}

int infer_large(struct infer *i, struct request *q, struct reply *r)
{
	struct infer_path p;
	int error = path_read(q, &p);

	if (error == 0)
		error = pass_on(i, q, &p, r);
	if (error < 0 && error != -EAGAIN) {
		relay_free(TAKE_PTR(q->relay));
		trouble(r, q, &p, p.model, error == -ENOENT ? -EDESTADDRREQ : error);
		error = 0;
	}
	path_done(&p);
	return error;
}
