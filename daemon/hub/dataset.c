/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/dataset - what the Hub makes out of a dataset: /parquet (addresses of its converted files) and /croissant.
 *
 * Kept as upstream wrote them. Addresses become ours when they are served, since what we are called depends on who asks.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/json.h"

static int teach_any(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return json_is_object(json) || json_is_array(json) ? 0 : -EPROTO;
}

static int serve(struct hub *h, struct request *q, const struct hub_route *route, const char *what,
		 struct doc_spec *spec, struct reply *r)
{
	SCOPED_BUF canonical, key, target;

	hub_note(q, route);
	spec->repo = hub_canonical(h, q, route, &canonical);
	spec->ttl_ms = h->doc_ttl_ms;
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s/%s", STR_ARGS(spec->repo), what);
	if (route->path.len) {
		buf_append_char(&target, '/');
		uri_encode_path(route->path, &target);
	}
	if (doc_question(spec, what, STR(""), route->path, q->query, &key, &target, r) != 0)
		return 0;
	return hub_serve_document(h, q, route, spec, r);
}

int hub_parquet(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct doc_spec spec = { .class = ENDPOINT_API,
				 .method = "GET",
				 .level = ACCESS_FILES,
				 .has_hub_urls = true,
				 .teach = teach_any };

	/* config, split and a number: that is a file, not a listing */
	if (str_ends_with(route->path, STR(".parquet")))
		return hub_forward(h, q, route, r);
	return serve(h, q, route, "parquet", &spec, r);
}

int hub_croissant(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .level = ACCESS_FILES, .teach = teach_any
	};

	return serve(h, q, route, "croissant", &spec, r);
}
