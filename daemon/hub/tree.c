/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/tree - what is below a commit: /tree/{revision}[/{path}], /treesize/…, /commits/{revision}.
 *
 * All are asked for by commit even when the client names a branch, so that what is kept is pinned and pages of one
 * listing belong together. A tree that is wholly known answers by itself (whole.c).
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

static int teach_tree(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return learn_tree_items(l, a, json);
}

static int teach_object(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return json_is_object(json) ? 0 : -EPROTO;
}

static int teach_array(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	return json_is_array(json) ? 0 : -EPROTO;
}

int hub_serve_of_commit(struct hub *h, struct request *q, const struct hub_route *route, const char *what,
			struct doc_spec *spec, struct reply *r)
{
	SCOPED_BUF key, target;

	spec->is_pinned = true;
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s/%s/%s", STR_ARGS(spec->repo), what, spec->commit);
	if (route->path.len) {
		buf_append_char(&target, '/');
		uri_encode_path(route->path, &target);
	}
	if (doc_question(spec, what, str_from(spec->commit), route->path, q->query, &key, &target, r) != 0)
		return 0;
	return hub_serve_document(h, q, route, spec, r);
}

/* *canonical is initialised here, the caller's. Returns 0 with repo and commit in spec; 1 with a reply; -EAGAIN. */
static int find_commit(struct hub *h, struct request *q, const struct hub_route *route, struct doc_spec *spec,
		       struct buf *canonical, struct reply *r)
{
	int error;

	hub_note(q, route);
	spec->repo = hub_canonical(h, q, route, canonical);
	error = hub_commit_of(h, q, route, spec->repo, spec->commit, r);
	if (error != 0)
		return error;
	/* asking for the commit may have taught another name of the repo */
	buf_done(canonical);
	spec->repo = hub_canonical(h, q, route, canonical);
	return 0;
}

/*
 * A folder that a commit does not have stays unknown to it for ever. It is remembered as a path that ends in a slash:
 * no file has such a name.
 */
static int no_folder_key(const struct hub_route *route, struct buf *key)
{
	buf_init(key, 8192);
	buf_append_str(key, route->path);
	buf_append_char(key, '/');
	return route->path.len ? buf_error(key) : -ENODATA;
}

/* Returns 0 with a reply; 1 it is not known. */
static int serve_no_folder(struct hub *h, struct request *q, const struct hub_route *route,
			   const struct doc_spec *spec, struct reply *r)
{
	SCOPED_BUF key;
	struct sight sight = { h, q, spec->repo, ACCESS_META, hub_is_down(h, q) ? -EHOSTUNREACH : 0 };
	struct content_id ignored;
	enum door door;

	/* of a known tree the index would say it of every folder, there or not */
	if (no_folder_key(route, &key) < 0 ||
	    index_tree_is_known(h->opts.index, spec->repo, str_from(spec->commit)) ||
	    index_find_entry(h->opts.index, spec->repo, str_from(spec->commit), buf_str(&key), &ignored) !=
		    -ENOENT)
		return 1;
	door = hub_door(h, q, spec->repo, ACCESS_META, ENDPOINT_API, sight.upstream_error, r);
	if (door != DOOR_OPEN)
		return door == DOOR_CLOSED ? 0 : 1;
	if (!seen_may_tell(&sight, str_from(spec->commit)))
		return 1;
	reply_entry_not_found(r, spec->commit);
	doc_set_privacy(h, q, spec->repo, ACCESS_META, r);
	r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
	q->result = q->used_upstream ? RESULT_MISS : RESULT_NEGATIVE_HIT;
	return 0;
}

static void note_no_folder(struct hub *h, struct request *q, const struct hub_route *route,
			   const struct doc_spec *spec, const struct reply *r)
{
	SCOPED_BUF key;

	if (no_folder_key(route, &key) == 0 && q->used_upstream && r->status == 404 &&
	    str_eq(headers_get(&r->headers, STR("X-Error-Code")), STR("EntryNotFound")))
		learn_entry(h, spec->repo, spec->commit, buf_str(&key), NULL, clock_wall_s(h->opts.clock));
}

int hub_tree(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .teach = teach_tree, .kept = whole_page_came
	};
	int error = find_commit(h, q, route, &spec, &canonical, r);

	if (error != 0)
		return error == 1 ? 0 : error;
	error = whole_serve_tree(h, q, route, spec.repo, str_from(spec.commit), r);
	if (error != 1 || serve_no_folder(h, q, route, &spec, r) == 0)
		return error == 1 ? 0 : error;
	error = hub_serve_of_commit(h, q, route, "tree", &spec, r);
	if (error == 0)
		note_no_folder(h, q, route, &spec, r);
	return error;
}

int hub_treesize(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical;
	struct doc_spec spec = { .class = ENDPOINT_API, .method = "GET", .teach = teach_object };
	int error = find_commit(h, q, route, &spec, &canonical, r);

	if (error != 0)
		return error == 1 ? 0 : error;
	return hub_serve_of_commit(h, q, route, "treesize", &spec, r);
}

/* Who may not read the files of a gated repo may not see its history either (hub-protocol 4.2). */
int hub_commits(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	SCOPED_BUF canonical;
	struct doc_spec spec = {
		.class = ENDPOINT_API, .method = "GET", .level = ACCESS_FILES, .teach = teach_array
	};
	int error = find_commit(h, q, route, &spec, &canonical, r);

	if (error != 0)
		return error == 1 ? 0 : error;
	return hub_serve_of_commit(h, q, route, "commits", &spec, r);
}
