/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/paths_info - POST /api/{kind}/{id}/paths-info/{revision}: some entries of a tree, named in a form or
 * in JSON.
 *
 * The answer of a commit is pinned to the question's bytes; the client gets upstream's own text and order.
 */
#include "hub/priv.h"

#include "common/alloc.h"
#include "common/hash.h"
#include "common/json.h"
#include <errno.h>

static int teach_paths(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return learn_tree_items(l, a, json);
}

static void question_digest(struct str type, struct str body, char ret_text[2 * SHA256_BYTES + 1])
{
	struct digest digest;
	SCOPED_BUF all;

	buf_init(&all, REQUEST_BODY_MAX + 512);
	buf_append_str(&all, type);
	buf_append_char(&all, 0);
	buf_append_str(&all, body);
	sha256_of(buf_str(&all).ptr, buf_str(&all).len, &digest);
	format_hex(digest.bytes, SHA256_BYTES, ret_text);
}

int hub_paths_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key, target;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "POST", .is_pinned = true, .teach = teach_paths
	};
	char digest[2 * SHA256_BYTES + 1];
	int error;

	hub_note(q, route);
	spec.repo = hub_canonical(h, route, &canonical);
	buf_init(&key, 0);
	buf_init(&target, 16384);
	spec.body = buf_str(&q->body);
	spec.body_type = request_header(q, STR("Content-Type"));
	if (spec.body_type.len > 256) {
		reply_refuse(r, ENDPOINT_API, 400, "the Content-Type is too long");
		return 0;
	}
	error = hub_commit_of(h, q, route, spec.repo, spec.commit, r);
	if (error != 0)
		return error == 1 ? 0 : error;
	buf_done(&canonical);
	spec.repo = hub_canonical(h, route, &canonical);

	question_digest(spec.body_type, spec.body, digest);
	buf_appendf(&target, "/api/%.*s/paths-info/%s", STR_ARGS(route->repo), spec.commit);
	if (q->query.len)
		buf_appendf(&target, "?%.*s", STR_ARGS(q->query));
	if (doc_key(&key, true, "paths-info", str_from(spec.commit), str_from(digest), q->query) < 0 ||
	    buf_error(&target)) {
		reply_refuse(r, ENDPOINT_API, 414, "the query is too long");
		return 0;
	}
	spec.key = buf_str(&key);
	spec.target = buf_str(&target);
	return hub_serve_document(h, q, route, &spec, r);
}
