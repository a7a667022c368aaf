/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/info - /api/{kind}/{id} and /api/{kind}/{id}/revision/{revision}.
 *
 * Repo information tells three more things: the canonical id, the commit of the revision, and, when nobody
 * in particular asked,
 * whether everybody may read the files.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

/* An anonymous answer that says "neither private, gated nor disabled" opens the files to everybody
 * (hub-protocol 4.3 rule 2). */
static bool says_public(const struct lesson *l, const struct json *json)
{
	const struct json *disabled = json_get(json, "disabled");

	return !l->subject.token && json_is_false(json_get(json, "private")) &&
	       json_is_false(json_get(json, "gated")) && (!disabled || json_is_false(disabled));
}

/* Nothing is said, or it is a string of the right kind. A repo without a commit may have "sha": null. */
static bool is_sound(const struct json *json)
{
	const struct json *id = json_get(json, "id"), *sha = json_get(json, "sha");

	if (!json_is_object(json) || (id && !json_is_string(id)))
		return false;
	if (!json_is_string(sha))
		return !json_is_object(sha) && !json_is_array(sha);
	return is_commit(json_string(sha));
}

/*
 * The answer names the repo it is about. Another spelling or an old name becomes an alias; a name that stands for itself again,
 * because somebody else has taken it, stops being one.
 */
static int settle_name(struct lesson *l, struct str id, int64_t at)
{
	struct str kind, rest, asked = str_from(l->asked_repo);
	SCOPED_BUF named;

	buf_init(&named, 1024);
	str_cut(str_from(l->repo), '/', &kind, &rest);
	buf_appendf(&named, "%.*s/%.*s", STR_ARGS(kind), STR_ARGS(id));
	if (buf_error(&named) || !uri_is_clean_path(id))
		return -EPROTO;
	if (!str_eq(buf_str(&named), str_from(l->repo))) {
		free(l->repo);
		l->repo = str_dup(buf_str(&named));
	}
	learn_alias(l->hub, asked, buf_str(&named), at);
	return 0;
}

static int teach_info(struct lesson *l, const struct answer *a, const struct json *json, struct doc *doc)
{
	struct str id = json_string(json_get(json, "id")), sha = json_string(json_get(json, "sha")),
		   revision = str_from(l->revision);

	if (!is_sound(json))
		return -EPROTO;
	if (is_commit(revision) && sha.len && !str_eq(sha, revision))
		return -EPROTO;
	if (id.len && settle_name(l, id, a->asked_at) < 0)
		return -EPROTO;
	learn_name(l->hub, str_from(l->repo), revision.len ? revision : STR("main"), sha, a->asked_at);
	if (is_commit(sha))
		memcpy(l->commit, sha.ptr, COMMIT_HEX);
	if (says_public(l, json))
		l->proves = ACCESS_FILES;
	return 0;
}

/* "c:revision/<commit>?<the query of key>" */
static int pinned_key(struct str key, struct str commit, struct buf *out)
{
	struct str path, query;

	uri_split_target(key, &path, &query);
	return doc_key(out, true, "revision", commit, STR(""), query);
}

/* What a branch says is what its commit says: who asks for the commit later need not ask upstream again. */
static void keep_pinned(struct lesson *l, const struct answer *a, const struct doc *doc)
{
	struct doc held = { 0 };
	SCOPED_BUF key = { 0 };

	if (!l->commit[0] || str_starts_with(str_from(l->key), STR("c:")) ||
	    pinned_key(str_from(l->key), str_from(l->commit), &key) < 0)
		return;
	if (index_find_doc(l->hub->opts.index, str_from(l->repo), buf_str(&key), &held) < 0)
		index_learn(l->hub->opts.index, &(struct fact){ .kind = FACT_DOC,
								.repo = str_from(l->repo),
								.path = buf_str(&key),
								.at = a->asked_at,
								.doc = doc });
	doc_done(&held);
}

/* The key of what is known about the commit that a name is taken for. *out is initialised here; empty: none. */
static struct str stand_in_of(struct hub *h, const struct doc_spec *spec, struct str revision,
			      struct buf *out)
{
	char commit[COMMIT_TEXT];

	buf_init(out, 0);
	if (spec->is_pinned || spec->is_unkept)
		return STR("");
	if (index_find_name(h->opts.index, spec->repo, revision.len ? revision : STR("main"), commit, NULL) <
		    0 &&
	    index_find_commit(h->opts.index, spec->repo, revision, commit) < 0)
		return STR("");
	return pinned_key(spec->key, str_from(commit), out) < 0 ? STR("") : buf_str(out);
}

int hub_serve_info(struct hub *h, struct request *q, const struct hub_route *route, uint64_t ttl_ms,
		   struct str query, struct reply *r)
{
	SCOPED_BUF canonical, key, target, stand_in;
	struct doc_spec spec = { .class = ENDPOINT_API,
				 .method = "GET",
				 .ttl_ms = ttl_ms,
				 .teach = teach_info,
				 .asks_old_name = true,
				 .kept = keep_pinned };
	bool has_revision = route->revision.len > 0;

	hub_note(q, route);
	spec.repo = hub_canonical(h, route, &canonical);
	spec.is_pinned = is_commit(route->revision);
	buf_init(&stand_in, 0);
	buf_init(&target, 16384);
	buf_appendf(&target, "/api/%.*s", STR_ARGS(route->repo));
	if (has_revision) {
		buf_append_str(&target, STR("/revision/"));
		uri_encode(route->revision, NULL, &target);
	}
	if (doc_question(&spec, has_revision ? "revision" : "info", route->revision, STR(""), query, &key,
			 &target, r) != 0)
		return 0;
	spec.stand_in = stand_in_of(h, &spec, route->revision, &stand_in);
	if (spec.is_pinned)
		memcpy(spec.commit, route->revision.ptr, COMMIT_HEX);
	return hub_serve_document(h, q, route, &spec, r);
}

int hub_repo_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return hub_serve_info(h, q, route, h->doc_ttl_ms, q->query, r);
}

int hub_revision_info(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	return hub_serve_info(h, q, route, h->name_ttl_ms, q->query, r);
}
