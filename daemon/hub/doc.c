/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/doc - API answers that are kept: when one may be given again, and when upstream is asked.
 *
 * A document is pinned (its URL holds a commit: kept for ever) or mutable (kept, and asked for again after
 * a time). It
 * belongs to the repo, not to who fetched it; the door decides who sees it.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/hash.h"

#define KEY_MAX 4096

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

/*
 * How many items a paged listing has in all (X-Total-Count) travels with its type, as a parameter of our own.
 */
#define TOTAL "; x-total-count="

char *doc_type_of(const struct answer *a)
{
	struct str type = headers_get(&a->last, STR("Content-Type")),
		   total = headers_get(&a->last, STR("X-Total-Count"));
	SCOPED_BUF out;
	uint64_t count;

	buf_init(&out, 1024);
	buf_append_str(&out, type);
	if (parse_u64(total, &count) == 0)
		buf_appendf(&out, TOTAL "%llu", (unsigned long long)count);
	return str_dup(buf_error(&out) ? STR("application/json; charset=utf-8") : buf_str(&out));
}

static void set_type(struct str type, struct reply *r)
{
	const char *total = type.ptr ? memmem(type.ptr, type.len, TOTAL, strlen(TOTAL)) : NULL;

	if (!type.ptr)
		type = STR("application/json; charset=utf-8");
	(void)headers_set(&r->headers, STR("Content-Type"), total ? str_from_range(type.ptr, total) : type);
	if (total)
		(void)headers_set(&r->headers, STR("X-Total-Count"),
				  str_from_range(total + strlen(TOTAL), type.ptr + type.len));
}

void doc_set_fields(struct hub *h, struct request *q, const struct doc *doc, bool is_fresh, struct reply *r)
{
	uint64_t ignored;

	xet_fit(h, doc, r);
	set_type(xet_type_of(doc, &ignored), r);
	if (doc->commit[0])
		(void)headers_addf(&r->headers, "X-Repo-Commit", "%s", doc->commit);
	if (doc->link_next)
		link_set_next(r, q, doc->link_next);
	if (!is_fresh)
		(void)headers_addf(&r->headers, "X-HF-Warning",
				   "hfcached; upstream cannot be reached, this is what it said last");
	r->age_s = clock_wall_s(h->opts.clock) - index_seen_at(doc->fetched_at);
	r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
	q->result = q->used_upstream ? RESULT_MISS : is_fresh ? RESULT_HIT : RESULT_STALE_HIT;
}

void doc_set_privacy(struct hub *h, struct request *q, struct str repo, enum access_level level,
		     struct reply *r)
{
	struct access_facts access = { 0 };

	index_find_access(h->opts.index, repo, q->subject.id, &access);
	if (access.public_level < (level ? level : ACCESS_META))
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-cache"));
}

/* The stored text says what upstream is called; what we are called depends on who asks. */
static int serve_edited(struct hub *h, struct request *q, struct blob *blob, struct reply *r)
{
	SCOPED_FREE char *text = xmalloc(blob_size(blob) + 1);
	SCOPED_BUF out;
	int error = blob_read(blob, 0, text, blob_size(blob));

	buf_init(&out, 64 * 1024 * 1024);
	if (error == 0)
		error = link_edit_urls(h, q, (struct str){ text, blob_size(blob) }, NULL, &out);
	if (error == 0)
		reply_text(r, 200, NULL, buf_str(&out));
	return error;
}

/* Takes the blob. */
static int serve_body(struct hub *h, struct request *q, const struct doc_spec *spec, struct blob *blob,
		      struct reply *r)
{
	int error = 0;

	if (spec->has_hub_urls) {
		error = serve_edited(h, q, blob, r);
		blob_unref(blob);
	} else {
		reply_blob(r, 200, blob, 0, blob_size(blob));
	}
	return error;
}

static enum access_level level_of(const struct doc_spec *spec)
{
	return spec->level ? spec->level : ACCESS_META;
}

/* Returns 0 with a reply; -ENODATA it is not held (any more), or not for this subject. */
static int serve_held(struct hub *h, struct request *q, const struct doc_spec *spec, bool is_down,
		      bool need_fresh, int upstream_error, struct reply *r)
{
	struct sight sight = { h, q, spec->repo, level_of(spec), upstream_error };
	struct blob *blob = NULL;
	struct doc doc = { 0 };
	enum freshness fresh;
	int error = seen_doc(&sight, spec->key, &doc);

	if (error < 0)
		return -ENODATA;
	fresh = !is_down && xet_is_too_little(h, &doc, spec->key) ? FRESH_REVALIDATE
								  : freshness_of(h, spec, &doc, is_down);
	error = need_fresh && fresh != FRESH_USE ? -ENODATA
						 : store_open_blob(h->opts.store, &doc.body, &blob);
	if (error == 0)
		error = serve_body(h, q, spec, blob, r);
	if (error == 0) {
		bool in_time = spec->is_pinned ||
			       clock_wall_s(h->opts.clock) - doc.fetched_at <= (int64_t)(spec->ttl_ms / 1000);

		index_touch_blob(h->opts.index, &doc.body, clock_wall_s(h->opts.clock));
		doc_set_fields(h, q, &doc, in_time || q->used_upstream, r);
		doc_set_privacy(h, q, spec->repo, spec->level, r);
		if (!seen_doc_is_open(&sight, spec->key, &doc))
			(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-cache"));
	}
	doc_done(&doc);
	return error < 0 ? -ENODATA : 0;
}

/* A page that is no answer of the Hub's API says nothing about access either. */
static int lesson_of_unkept(void *ctx, const struct answer *a)
{
	SCOPED(json_free) struct json *json = NULL;

	if (a->error == 0 && a->status == 200 && json_parse(buf_str(&a->body), &json) < 0)
		return -EPROTO;
	return lesson_of_check(ctx, a);
}

static int ask_for(struct hub *h, struct request *q, const struct hub_route *route,
		   const struct doc_spec *spec, const struct answer **ret_answer)
{
	struct lesson *l = lesson_new(h, q, route, spec->asks_old_name ? route->repo : spec->repo,
				      spec->target, spec->proves_files ? ACCESS_FILES : ACCESS_META);
	struct question question = { .method = spec->method,
				     .target = spec->target,
				     .token = q->subject.token,
				     .body = spec->body,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .learn = spec->is_unkept ? lesson_of_unkept : lesson_of_document,
				     .learn_ctx = l,
				     .free_ctx = lesson_free };
	struct headers extra;
	SCOPED_BUF key;
	int r;

	l->key = spec->is_unkept ? NULL : str_dup(spec->key);
	l->accept = spec->accept.len ? str_dup(spec->accept) : NULL;
	l->agent = spec->agent.len ? str_dup(spec->agent) : NULL;
	l->is_get = strcmp(spec->method, "GET") == 0 && !spec->body.ptr;
	l->level = level_of(spec);
	l->teach = spec->teach;
	l->kept = spec->kept;
	memcpy(l->commit, spec->commit, COMMIT_TEXT);
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	if (spec->accept.len)
		(void)headers_set(&extra, STR("Accept"), spec->accept);
	if (spec->body_type.len)
		(void)headers_set(&extra, STR("Content-Type"), spec->body_type);
	question.headers = &extra;
	buf_init(&key, QUESTION_KEY_MAX + KEY_MAX);
	buf_append_str(&key, STR("doc "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, route->repo);
	buf_append_char(&key, ' ');
	buf_append_str(&key, spec->key);
	hub_write_mark(h, NULL, spec->repo, &key);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

/* Upstream's answer cannot be kept: give it to this client all the same. */
static void serve_unkept(struct hub *h, struct request *q, const struct doc_spec *spec,
			 const struct answer *a, struct reply *r)
{
	SCOPED(bytes_unref) struct bytes *bytes = document_bytes(h, buf_str(&a->body));
	SCOPED_FREE char *next = link_next_of(h, headers_get(&a->last, STR("Link"))), *type = doc_type_of(a);
	SCOPED_BUF edited;

	buf_init(&edited, 64 * 1024 * 1024);
	if (!bytes || (spec->has_hub_urls && link_edit_urls(h, q, bytes_str(bytes), NULL, &edited) < 0)) {
		reply_error(r, q, ENDPOINT_API, -EPROTO, STR(""));
		return;
	}
	if (spec->has_hub_urls)
		reply_text(r, 200, NULL, buf_str(&edited));
	else
		reply_bytes(r, 200, NULL, bytes);
	set_type(str_from(type), r);
	doc_set_privacy(h, q, spec->repo, spec->level, r);
	if (next)
		link_set_next(r, q, next);
	r->cache_status = "fwd=miss";
	q->result = RESULT_BYPASS;
}

/* A redirect that was not followed leads away from the Hub, or is none. */
static bool is_redirect(const struct answer *a)
{
	return a->error == 0 && a->status >= 300 && a->status < 400;
}

static bool is_no_help(const struct answer *a)
{
	return a->error != 0 || a->status >= 500 || a->status == 429 || a->learned == -EPROTO ||
	       is_redirect(a);
}

/* What is held, however old; or a pinned document that says the same. */
static int serve_any(struct hub *h, struct request *q, const struct doc_spec *spec, int upstream_error,
		     struct reply *r)
{
	struct doc_spec other = *spec;

	if (spec->is_unkept)
		return -ENODATA;
	if (serve_held(h, q, spec, true, false, upstream_error, r) == 0)
		return 0;
	other.key = spec->stand_in;
	return other.key.len ? serve_held(h, q, &other, true, false, upstream_error, r) : -ENODATA;
}

static int answer_without_upstream(struct hub *h, struct request *q, const struct doc_spec *spec,
				   const struct answer *a, struct reply *r)
{
	enum door door = hub_door(h, q, spec->repo, level_of(spec), spec->class, proof_error(a), r);

	if (door == DOOR_CLOSED)
		return 0;
	if (door == DOOR_OPEN && serve_any(h, q, spec, proof_error(a), r) == 0) {
		r->cache_status = "hit; fwd=stale";
		q->result = RESULT_STALE_HIT;
		return 0;
	}
	q->result = RESULT_OFFLINE_MISS;
	if (is_redirect(a) || a->error == -EACCES)
		reply_error(r, q, spec->class, -EPERM, spec->repo);
	else if (a->error == 0 && a->status != 200)
		reply_upstream_error(r, spec->class, a);
	else
		reply_error(r, q, spec->class, a->error ? a->error : -EPROTO, spec->repo);
	return 0;
}

/*
 * Most answers below /api/ prove that their asker may see metadata. Where more is needed, the Hub has a question that is
 * about nothing else. Returns 0: look again; -EAGAIN; -ENODATA: it did not help.
 */
static int ask_for_files(struct hub *h, struct request *q, const struct hub_route *route,
			 const struct doc_spec *spec)
{
	const struct answer *answer;
	struct headers extra;
	SCOPED_BUF target, key;
	struct question question = { .method = "GET",
				     .token = q->subject.token,
				     .headers = &extra,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .learn = lesson_of_check,
				     .learn_ctx = NULL,
				     .free_ctx = lesson_free };
	int r;

	buf_init(&target, 1024);
	buf_appendf(&target, "/api/%.*s/auth-check", STR_ARGS(spec->repo));
	question.target = buf_str(&target);
	question.learn_ctx = lesson_new(h, q, route, spec->repo, buf_str(&target), ACCESS_FILES);
	buf_init(&key, 2048);
	buf_append_str(&key, STR("check "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append_str(&key, buf_str(&target));
	headers_init(&extra);
	hub_pass_headers(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, &answer);
	headers_done(&extra);
	if (r < 0)
		return r == -EAGAIN ? r : -ENODATA;
	return answer->error || answer->status != 200 ? -ENODATA : 0;
}

/* DOOR_OPEN, DOOR_ASK or DOOR_CLOSED as hub_door(); -EAGAIN. */
static int open_door(struct hub *h, struct request *q, const struct hub_route *route,
		     const struct doc_spec *spec, struct reply *r)
{
	int upstream_error = hub_is_down(h, q) ? -EHOSTUNREACH : 0, error;
	enum door door = hub_door(h, q, spec->repo, level_of(spec), spec->class, upstream_error, r);

	if (door != DOOR_ASK || level_of(spec) != ACCESS_FILES || spec->proves_files)
		return door;
	error = ask_for_files(h, q, route, spec);
	if (error == -EAGAIN)
		return -EAGAIN;
	/* a yes is the proof for this request, however short its life */
	return error == 0 ? DOOR_OPEN
			  : hub_door(h, q, spec->repo, level_of(spec), spec->class, upstream_error, r);
}

static bool is_open(struct hub *h, struct request *q, const struct doc_spec *spec)
{
	struct reply ignored;
	enum door door;

	reply_init(&ignored);
	door = hub_door(h, q, spec->repo, level_of(spec), spec->class, 0, &ignored);
	reply_done(&ignored);
	return door == DOOR_OPEN;
}

int hub_serve_document(struct hub *h, struct request *q, const struct hub_route *route,
		       const struct doc_spec *spec, struct reply *r)
{
	bool is_down = hub_is_down(h, q);
	int door = open_door(h, q, route, spec, r), error;
	const struct answer *answer;

	if (door == -EAGAIN)
		return -EAGAIN;
	if (door == DOOR_CLOSED)
		return 0;
	if (door == DOOR_OPEN && !spec->is_unkept &&
	    serve_held(h, q, spec, is_down, true, is_down ? -EHOSTUNREACH : 0, r) == 0)
		return 0;
	error = ask_for(h, q, route, spec, &answer);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error < 0) {
		reply_error(r, q, spec->class, error, spec->repo);
		return 0;
	}
	if (is_no_help(answer)) {
		if (spec->ret_misfit && answer->error == 0 && answer->learned == -EPROTO)
			*spec->ret_misfit = answer;
		return answer_without_upstream(h, q, spec, answer, r);
	}
	if (answer->status != 200) {
		/* one wording, whether this refusal was heard just now or before (reliability F.2 rule 7) */
		if (hub_door(h, q, spec->repo, level_of(spec), spec->class, 0, r) != DOOR_CLOSED)
			reply_upstream_error(r, spec->class, answer);
		return 0;
	}
	/* the name may stand for another repo than before: what is held is given only through its own door */
	if (spec->is_unkept || answer->learned != 0 || !is_open(h, q, spec) ||
	    serve_held(h, q, spec, true, false, 0, r) < 0)
		serve_unkept(h, q, spec, answer, r);
	return 0;
}
