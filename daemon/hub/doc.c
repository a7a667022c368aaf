/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/doc - API answers that are kept: when one may be given again, and when upstream is asked.
 *
 * A document is pinned (its URL holds a commit: kept for ever) or mutable (kept, and asked for again after
 * a time). It
 * belongs to the repo, not to who fetched it; the door decides who sees it.
 */
#include "hub/priv.h"

#include "common/alloc.h"
#include "common/hash.h"
#include <errno.h>

#define KEY_MAX 4096
#define PARAMS_MAX 64

struct param {
	struct str name, value;
};

static bool is_boolean_name(struct str name)
{
	static const char *const names[] = { "recursive", "blobs",          "full",       "config",
					     "cardData",  "securityStatus", "include_prs" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq(name, str_from(names[i])))
			return true;
	return false;
}

/* One spelling for what the Hub takes as the same: True, true and 1. expand is a list or a boolean. */
static struct str normal_value(struct param p)
{
	bool may_be_number = is_boolean_name(p.name);

	if (str_eq_nocase(p.value, STR("true")) || (may_be_number && str_eq(p.value, STR("1"))))
		return STR("true");
	if (str_eq_nocase(p.value, STR("false")) || (may_be_number && str_eq(p.value, STR("0"))))
		return STR("false");
	return p.value;
}

static bool is_default(struct param p)
{
	return str_eq(p.value, STR("false")) && (is_boolean_name(p.name) || str_eq(p.name, STR("expand")));
}

/* Sorts by name and keeps the order of equal ones. */
static void insert_param(struct param *params, size_t count, struct param p)
{
	size_t i = count;

	while (i > 0) {
		size_t n = p.name.len < params[i - 1].name.len ? p.name.len : params[i - 1].name.len;
		int order = memcmp(params[i - 1].name.ptr, p.name.ptr, n);

		if (order < 0 || (order == 0 && params[i - 1].name.len <= p.name.len))
			break;
		params[i] = params[i - 1];
		i--;
	}
	params[i] = p;
}

int doc_key(struct buf *out, bool is_pinned, const char *what, struct str revision, struct str path,
	    struct str query)
{
	struct param params[PARAMS_MAX], p;
	size_t count = 0;

	buf_init(out, KEY_MAX);
	while (uri_next_param(&query, &p.name, &p.value)) {
		p.value = normal_value(p);
		if (p.name.len == 0 || is_default(p))
			continue;
		if (count == PARAMS_MAX)
			return -E2BIG;
		insert_param(params, count++, p);
	}
	buf_appendf(out, "%c:%s/%.*s/%.*s", is_pinned ? 'c' : 'm', what, STR_ARGS(revision), STR_ARGS(path));
	for (size_t i = 0; i < count; i++)
		buf_appendf(out, "%c%.*s=%.*s", i ? '&' : '?', STR_ARGS(params[i].name),
			    STR_ARGS(params[i].value));
	return buf_error(out);
}

static enum freshness freshness_of(const struct hub *h, const struct doc_spec *spec, const struct doc *doc,
				   bool is_down)
{
	return policy_freshness(&(struct freshness_facts){ .is_held = true,
							   .is_immutable = spec->is_pinned,
							   .checked_at = doc->fetched_at,
							   .now = clock_wall_s(h->opts.clock),
							   .ttl_ms = spec->ttl_ms,
							   .upstream_is_down = is_down });
}

static void set_document_fields(struct hub *h, struct request *q, const struct doc_spec *spec,
				const struct doc *doc, bool is_fresh, struct reply *r)
{
	(void)headers_set(&r->headers, STR("Content-Type"),
			  doc->content_type ? str_from(doc->content_type)
					    : STR("application/json; charset=utf-8"));
	if (doc->commit[0])
		(void)headers_addf(&r->headers, "X-Repo-Commit", "%s", doc->commit);
	if (doc->link_next)
		link_set_next(r, q, doc->link_next);
	if (!is_fresh)
		(void)headers_addf(&r->headers, "X-HF-Warning",
				   "hfcached; upstream cannot be reached, this is what it said last");
	r->age_s = clock_wall_s(h->opts.clock) - doc->fetched_at;
	r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
	q->result = q->used_upstream ? RESULT_MISS : is_fresh ? RESULT_HIT : RESULT_STALE_HIT;
}

/* Returns 0 with a reply; -ENODATA it is not held (any more). */
static int serve_held(struct hub *h, struct request *q, const struct doc_spec *spec, bool is_down,
		      bool need_fresh, struct reply *r)
{
	struct blob *blob = NULL;
	struct doc doc = { 0 };
	enum freshness fresh;
	int error = index_find_doc(h->opts.index, spec->repo, spec->key, &doc);

	if (error < 0)
		return -ENODATA;
	fresh = freshness_of(h, spec, &doc, is_down);
	error = need_fresh && fresh != FRESH_USE ? -ENODATA
						 : store_open_blob(h->opts.store, &doc.body, &blob);
	if (error == 0) {
		bool in_time = spec->is_pinned ||
			       clock_wall_s(h->opts.clock) - doc.fetched_at <= (int64_t)(spec->ttl_ms / 1000);

		index_touch_blob(h->opts.index, &doc.body, clock_wall_s(h->opts.clock));
		reply_blob(r, 200, blob, 0, blob_size(blob));
		set_document_fields(h, q, spec, &doc, in_time || q->used_upstream, r);
	}
	doc_done(&doc);
	return error < 0 ? -ENODATA : 0;
}

static int ask_for(struct hub *h, struct request *q, const struct hub_route *route,
		   const struct doc_spec *spec, const struct answer **ret_answer)
{
	struct lesson *l = lesson_new(h, q, route, spec->repo, ACCESS_META);
	struct question question = { .method = spec->method,
				     .target = spec->target,
				     .token = q->subject.token,
				     .body = spec->body,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .learn = lesson_of_document,
				     .learn_ctx = l,
				     .free_ctx = lesson_free };
	struct headers extra;
	SCOPED_BUF key;
	int r;

	l->key = str_dup(spec->key);
	l->teach = spec->teach;
	memcpy(l->commit, spec->commit, COMMIT_TEXT);
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	if (spec->body_type.len)
		(void)headers_set(&extra, STR("Content-Type"), spec->body_type);
	question.headers = &extra;
	buf_init(&key, 3 * KEY_MAX);
	buf_append_str(&key, STR("doc "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, route->repo);
	buf_append_char(&key, ' ');
	buf_append_str(&key, spec->key);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

/* Upstream's answer cannot be kept: give it to this client all the same. */
static void serve_unkept(const struct answer *a, struct request *q, struct hub *h, struct reply *r)
{
	SCOPED(bytes_unref) struct bytes *bytes = document_bytes(buf_str(&a->body));
	SCOPED_FREE char *next = link_next_of(h, headers_get(&a->last, STR("Link")));

	if (!bytes) {
		reply_error(r, q, ENDPOINT_API, -EPROTO, STR(""));
		return;
	}
	reply_bytes(r, 200, "application/json; charset=utf-8", bytes);
	if (next)
		link_set_next(r, q, next);
	r->cache_status = "fwd=miss";
	q->result = RESULT_BYPASS;
}

static bool is_no_help(const struct answer *a)
{
	return a->error != 0 || a->status >= 500 || a->status == 429 || a->learned == -EPROTO;
}

static int answer_without_upstream(struct hub *h, struct request *q, const struct doc_spec *spec,
				   const struct answer *a, struct reply *r)
{
	enum door door = hub_door(h, q, spec->repo, ACCESS_META, spec->class, a->error, r);

	if (door == DOOR_CLOSED)
		return 0;
	if (door == DOOR_OPEN && serve_held(h, q, spec, true, false, r) == 0) {
		r->cache_status = "hit; fwd=stale";
		q->result = RESULT_STALE_HIT;
		return 0;
	}
	q->result = RESULT_OFFLINE_MISS;
	if (a->error == 0 && a->status != 200)
		reply_upstream_error(r, spec->class, a);
	else
		reply_error(r, q, spec->class,
			    a->error == 0         ? -EPROTO
			    : a->error == -EACCES ? -EPERM
						  : a->error,
			    spec->repo);
	return 0;
}

int hub_serve_document(struct hub *h, struct request *q, const struct hub_route *route,
		       const struct doc_spec *spec, struct reply *r)
{
	bool is_down = fetch_is_down(h->opts.fetch);
	enum door door = hub_door(h, q, spec->repo, ACCESS_META, spec->class,
				  is_down ? -EHOSTUNREACH : 0, r);
	const struct answer *answer;
	int error;

	if (door == DOOR_CLOSED)
		return 0;
	if (door == DOOR_OPEN && serve_held(h, q, spec, is_down, true, r) == 0)
		return 0;
	error = ask_for(h, q, route, spec, &answer);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error < 0) {
		reply_error(r, q, spec->class, error, spec->repo);
		return 0;
	}
	if (is_no_help(answer))
		return answer_without_upstream(h, q, spec, answer, r);
	if (answer->status != 200) {
		reply_upstream_error(r, spec->class, answer);
		return 0;
	}
	if (answer->learned != 0 || serve_held(h, q, spec, true, false, r) < 0)
		serve_unkept(answer, q, h, r);
	return 0;
}

int hub_commit_of(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
		  char ret_commit[COMMIT_TEXT], struct reply *r)
{
	bool is_down = fetch_is_down(h->opts.fetch);
	struct freshness_facts facts = { .now = clock_wall_s(h->opts.clock),
					 .ttl_ms = h->name_ttl_ms,
					 .upstream_is_down = is_down };
	int error;

	if (is_commit(route->revision)) {
		memcpy(ret_commit, route->revision.ptr, COMMIT_HEX);
		ret_commit[COMMIT_HEX] = 0;
		return 0;
	}
	facts.is_held =
		index_find_name(h->opts.index, repo, route->revision, ret_commit, &facts.checked_at) == 0;
	if (facts.is_held && policy_freshness(&facts) == FRESH_USE)
		return 0;
	error = hub_serve_info(h, q, route, h->name_ttl_ms, STR(""), r);
	if (error == -EAGAIN)
		return -EAGAIN;
	/* the document itself is not wanted, only what it taught */
	if (r->status == 200 &&
	    index_find_name(h->opts.index, repo, route->revision, ret_commit, NULL) == 0) {
		reply_done(r);
		reply_init(r);
		return 0;
	}
	return 1;
}
