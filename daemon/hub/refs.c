/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/refs - /api/{kind}/{id}/refs: branches, tags, converted branches and pull requests with their commits.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

static void learn_refs(struct lesson *l, const struct answer *a, const struct json *list, bool by_name)
{
	for (const struct json *item = json_first(list); item; item = json_next(item)) {
		struct str commit = json_string(json_get(item, "targetCommit"));

		learn_name(l->hub, str_from(l->repo), json_string(json_get(item, by_name ? "name" : "ref")),
			   commit, a->asked_at);
	}
}

static int teach_refs(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	const struct json *branches = json_get(json, "branches");

	if (!json_is_array(branches))
		return -EPROTO;
	learn_refs(l, a, branches, true);
	learn_refs(l, a, json_get(json, "tags"), true);
	/* those are asked for by their whole ref: refs/convert/parquet, refs/pr/1 */
	learn_refs(l, a, json_get(json, "converts"), false);
	learn_refs(l, a, json_get(json, "pullRequests"), false);
	return 0;
}

int hub_refs(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key, target;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .ttl_ms = h->name_ttl_ms, .teach = teach_refs
	};

	hub_note(q, route);
	spec.repo = hub_canonical(h, q, route, &canonical);
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s/refs", STR_ARGS(spec.repo));
	if (doc_question(&spec, "refs", STR(""), STR(""), q->query, &key, &target, r) != 0)
		return 0;
	return hub_serve_document(h, q, route, &spec, r);
}
