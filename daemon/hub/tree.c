/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/tree - /api/{kind}/{id}/tree/{revision}[/{path}]: pages of entries.
 *
 * A tree is asked for by commit even when the client names a branch, so that its pages are pinned. When the
 * last page of a
 * recursive listing of the root has come after all the others, the whole tree is known: from then on a path
 * that is not in it
 * does not exist, and nobody is asked.
 */
#include "hub/priv.h"

#include "common/alloc.h"
#include "common/json.h"
#include <errno.h>

/* Pages whose predecessors are all known are remembered by the target of the next one. */
static void chain_key(const struct lesson *l, struct str target, struct buf *out)
{
	buf_init(out, 16384);
	buf_append_str(out, str_from(l->repo));
	buf_append_char(out, 0);
	buf_append_str(out, target);
}

static bool is_first_page(struct str query)
{
	return !uri_param(query, STR("cursor")).ptr;
}

static bool is_recursive(struct str key)
{
	SCOPED_FREE char *text = str_dup(key);

	return strstr(text, "recursive=true") != NULL;
}

static void follow_chain(struct lesson *l, const struct answer *a, const struct doc *doc)
{
	uint64_t now = clock_mono_ms(l->hub->opts.clock);
	struct str key = str_from(l->key), path, query;
	char ignored[COMMIT_TEXT];
	SCOPED_BUF chain;

	uri_split_target(key, &path, &query);
	if (l->path[0] || !is_recursive(key)) {
		buf_init(&chain, 0);
		return;
	}
	chain_key(l, key, &chain);
	if (!is_first_page(query) && !pins_find(&l->hub->chains, buf_str(&chain), now, ignored))
		return;
	if (!doc->link_next) {
		struct fact f = { .kind = FACT_TREE, .repo = str_from(l->repo), .at = a->asked_at };

		memcpy(f.commit, l->commit, COMMIT_TEXT);
		index_learn(l->hub->opts.index, &f);
		return;
	}
	uri_split_target(str_from(doc->link_next), &path, &query);
	SCOPED_BUF next_key, next_chain;
	if (doc_key(&next_key, true, "tree", str_from(l->commit), STR(""), query) == 0) {
		chain_key(l, buf_str(&next_key), &next_chain);
		pins_put(&l->hub->chains, buf_str(&next_chain), STR(""), now);
	} else {
		buf_init(&next_chain, 0);
	}
}

static int teach_tree(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	int r = learn_tree_items(l, a, json);

	if (r == 0)
		follow_chain(l, a, doc);
	return r;
}

int hub_tree(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical, key, target;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .is_pinned = true, .teach = teach_tree
	};
	int error;

	hub_note(q, route);
	spec.repo = hub_canonical(h, route, &canonical);
	buf_init(&key, 0);
	buf_init(&target, 16384);
	error = hub_commit_of(h, q, route, spec.repo, spec.commit, r);
	if (error != 0)
		return error == 1 ? 0 : error;
	/* asking for the commit may have taught another name of the repo */
	buf_done(&canonical);
	spec.repo = hub_canonical(h, route, &canonical);

	buf_appendf(&target, "/api/%.*s/tree/%s", STR_ARGS(route->repo), spec.commit);
	if (route->path.len) {
		buf_append_char(&target, '/');
		uri_encode_path(route->path, &target);
	}
	if (q->query.len)
		buf_appendf(&target, "?%.*s", STR_ARGS(q->query));
	if (doc_key(&key, true, "tree", str_from(spec.commit), route->path, q->query) < 0 ||
	    buf_error(&target)) {
		reply_refuse(r, ENDPOINT_API, 414, "the query is too long");
		return 0;
	}
	spec.key = buf_str(&key);
	spec.target = buf_str(&target);
	return hub_serve_document(h, q, route, &spec, r);
}
