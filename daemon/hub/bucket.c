/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/bucket - /buckets/{owner}/{name}/resolve/{path}: files without commits, which their clients fetch over Xet.
 *
 * Their content may change at any time and has no name that could be kept, so all is passed on with the caller's token. What
 * announces Xet goes through untouched: without it these clients have no way to the bytes (hub-protocol 1.9, X04).
 */
#include "hub/priv.h"

#include <errno.h>

static int ask_head(struct hub *h, struct request *q, const struct answer **ret_answer)
{
	struct question question = { .method = "HEAD", .target = str_from(q->target) };

	return hub_ask_plainly(h, q, "bucket", &question, ret_answer);
}

void hub_copy_xet(const struct headers *from, struct reply *r)
{
	for (size_t i = 0; i < from->count; i++) {
		struct str name = str_from(from->fields[i].name);

		if (name.len > 6 && str_eq_nocase((struct str){ name.ptr, 6 }, STR("X-Xet-")))
			(void)headers_add(&r->headers, name, str_from(from->fields[i].value));
	}
}

/* The Hub answers with a redirect to a storage host, which clients must not see; the fields of that answer are what counts. */
static void answer_head(const struct answer *a, struct reply *r)
{
	struct str etag = headers_get(&a->last, STR("X-Linked-Etag")),
		   size = headers_get(&a->last, STR("X-Linked-Size")),
		   link = headers_get(&a->last, STR("Link"));
	uint64_t bytes;

	reply_copy_allowed(&r->headers, &a->last);
	hub_copy_xet(&a->last, r);
	if (link.ptr)
		(void)headers_set(&r->headers, STR("Link"), link);
	if (etag.ptr)
		(void)headers_set(&r->headers, STR("ETag"), etag);
	if (a->status >= 300) /* the type of the redirect's text */
		(void)headers_set(&r->headers, STR("Content-Type"), STR("application/octet-stream"));
	r->status = 200;
	r->head_length = parse_u64(size, &bytes) == 0 && bytes <= INT64_MAX ? (int64_t)bytes
			 : a->status == 200                                 ? a->content_length
									    : -1;
}

int hub_bucket_file(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct hub_route bucket = *route;
	const struct answer *answer;
	SCOPED_BUF repo;
	int error;

	buf_init(&repo, 1024);
	buf_appendf(&repo, "buckets/%.*s", STR_ARGS(route->id));
	bucket.kind = STR("buckets");
	bucket.repo = buf_str(&repo);
	if (!q->is_head || !q->has_valid_subject)
		return hub_forward(h, q, &bucket, r);
	hub_note(q, &bucket);
	error = hub_is_down(h, q) ? -EHOSTUNREACH : ask_head(h, q, &answer);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error == 0 && answer->error)
		error = answer->error == -EACCES ? -EPERM : answer->error;
	if (error < 0) {
		q->result = RESULT_OFFLINE_MISS;
		reply_error(r, q, ENDPOINT_FILE, error, route->path);
		return 0;
	}
	if (answer->status >= 400)
		reply_upstream_error(r, ENDPOINT_FILE, answer);
	else
		answer_head(answer, r);
	if (q->subject.token)
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	r->cache_status = "fwd=bypass";
	q->result = RESULT_BYPASS;
	return 0;
}
