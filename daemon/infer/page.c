/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/page - what is read with GET: lists of models, how one of them is, which tasks there are (inference-protocol 1, 2.2).
 *
 * Each is a document: asked for again after a minute, given as it was while nobody can be asked, with the models that are served
 * here put in. Anything else for the service's host is passed on and not kept.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define PAGE_TTL_S 60
#define TASKS_TTL_S 3600
#define PAGE_TIMEOUT_MS 30000

/* --- kept --- */

struct keeping_page {
	struct infer *infer;
	struct digest key;
};

static void name_of(const struct digest *key, struct buf *out)
{
	char hex[2 * SHA256_BYTES + 1];

	format_hex(key->bytes, SHA256_BYTES, hex);
	buf_init(out, 128);
	buf_appendf(out, "m:page:%s", hex);
}

static void page_ended(void *ctx, const struct cast_answer *a)
{
	struct keeping_page *k = ctx;
	SCOPED(bytes_unref) struct bytes *bytes = NULL;
	SCOPED_FREE char *type = str_dup(headers_get(a->fields, STR("Content-Type")));
	struct doc doc = { .fetched_at = a->asked_at, .content_type = type };
	struct blob_meta meta;
	SCOPED_BUF name;

	name_of(&k->key, &name);
	if (a->status != 200 || !whole_is_answer(DIALECT_OTHER, a->body))
		return;
	bytes = bytes_new_copy(a->body);
	if (answer_put(k->infer, bytes, &meta) < 0)
		return;
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	index_learn(k->infer->opts.index, &(struct fact){ .kind = FACT_DOC,
							  .repo = STR(INFER_REPO),
							  .path = buf_str(&name),
							  .at = a->asked_at,
							  .doc = &doc });
}

/* Into the page's body. Returns its age in seconds; -ENODATA. */
static int64_t find_page(struct infer *i, struct page *p)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	struct doc doc = { 0 };
	SCOPED_FREE char *text = NULL;
	int64_t age = -ENODATA;
	SCOPED_BUF name;

	name_of(&p->key, &name);
	if (index_find_doc(i->opts.index, STR(INFER_REPO), buf_str(&name), &doc) < 0)
		return -ENODATA;
	if (store_open_blob(i->opts.store, &doc.body, &blob) == 0 && blob_size(blob) <= PAGE_BYTES_MAX) {
		text = xmalloc((size_t)blob_size(blob) + 1);
		buf_reset(&p->body);
		if (blob_read(blob, 0, text, (size_t)blob_size(blob)) == 0 &&
		    buf_append(&p->body, text, (size_t)blob_size(blob)) == 0)
			age = clock_wall_s(i->opts.clock) - doc.fetched_at;
		free(p->type);
		p->type = xstrdup(doc.content_type ? doc.content_type : "application/json");
		index_touch_blob(i->opts.index, &doc.body, clock_wall_s(i->opts.clock));
		age = age < 0 && age != -ENODATA ? 0 : age;
	}
	doc_done(&doc);
	return age;
}

/* --- asked --- */

static int join(struct infer *i, struct request *q, struct page *p)
{
	struct headers fields;
	bool is_kept = p->kind != PAGE_PASS;
	struct keeping_page *k = xcalloc(1, sizeof(*k));
	struct cast_query query = { .who = str_from(q->client),
				    .origin = p->origin,
				    .method = is_kept ? "GET" : q->method,
				    .target = buf_str(&p->target),
				    .fields = &fields,
				    .token = p->is_personal ? q->subject.token : NULL,
				    .body = q->spool && spool_size(q->spool) ? q->spool : NULL,
				    .first_byte_timeout_ms = PAGE_TIMEOUT_MS,
				    .stall_timeout_ms = PAGE_TIMEOUT_MS,
				    .answer_max = is_kept ? PAGE_BYTES_MAX : 0,
				    .ended = is_kept ? page_ended : NULL,
				    .ctx = k,
				    .free_ctx = free };
	struct str key = { (const char *)p->key.bytes, SHA256_BYTES };
	int r;

	k->infer = i;
	k->key = p->key;
	headers_init(&fields);
	request_forward_fields(q, &fields);
	if (!p->is_personal) {
		headers_remove(&fields, STR("X-Api-Key"));
		headers_remove(&fields, STR("X-HF-Authorization"));
	}
	r = cast_join(i->opts.casts, is_kept ? key : STR(""), &query, &q->ear);
	headers_done(&fields);
	q->used_upstream = true;
	return r;
}

/* All of the answer into the page's body. */
static int gather(struct request *q, struct page *p)
{
	char piece[16384];

	for (;;) {
		ssize_t n = ear_read(q->ear, piece, sizeof(piece));

		if (n == -EAGAIN) {
			if (request_park_ear(q) == -EAGAIN)
				return -EAGAIN;
		} else if (n <= 0) {
			return (int)n;
		} else if (buf_append(&p->body, piece, (size_t)n) < 0) {
			return -E2BIG;
		}
	}
}

static bool is_no_help(int status)
{
	return status >= 500 || status == 429;
}

/* Returns 0 with the answer's body; 1 with a reply: another answer, passed on; -EAGAIN; else why there is none. */
static int ask(struct infer *i, struct request *q, struct page *p, struct reply *r)
{
	const struct headers *fields;
	int64_t length;
	int status, error = q->ear ? 0 : join(i, q, p);

	if (error < 0)
		return error;
	while ((error = ear_head(q->ear, &status, &fields, &length)) == -EAGAIN)
		if (request_park_ear(q) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return error;
	if (p->kind != PAGE_PASS && is_no_help(status))
		return -EBADMSG;
	if (p->kind == PAGE_PASS || status != 200 || q->is_head) {
		reply_ear(r, q, status, fields, length);
		(void)headers_set(&r->headers, STR("X-Inference-Backend"), STR("upstream"));
		set_cache_status(r, "fwd=bypass", NULL, fields);
		q->result = RESULT_BYPASS;
		return 1;
	}
	if (!p->type) {
		p->type = str_dup(headers_get(fields, STR("Content-Type")));
		buf_reset(&p->body);
	}
	return gather(q, p);
}

/* --- given --- */

struct list_edit {
	struct str upstream; /* the elements that are there */
	struct buf *out;
	bool is_first;
};

static bool add_model(void *ctx, struct str model, struct str task, struct str owner)
{
	struct list_edit *e = ctx;
	SCOPED_BUF id;

	buf_init(&id, 1024);
	(void)json_write_string(&id, model);
	if (e->upstream.len && memmem(e->upstream.ptr, e->upstream.len, buf_str(&id).ptr, id.len))
		return true;
	if (!e->is_first)
		buf_append_char(e->out, ',');
	e->is_first = false;
	buf_append_str(e->out, STR("{\"id\":"));
	buf_append_str(e->out, buf_str(&id));
	buf_append_str(e->out, STR(",\"object\":\"model\",\"created\":0,\"owned_by\":"));
	(void)json_write_string(e->out, owner);
	buf_append_char(e->out, '}');
	return true;
}

/* The models that are served here, before those of upstream. */
static void put_list(struct infer *i, struct str upstream, struct buf *out)
{
	struct str data = { 0 }, rest;
	struct list_edit e = { .out = out, .is_first = true };

	if (upstream.len && json_find_member(upstream, "data", &data) == 0 && data.len > 1 &&
	    data.ptr[0] == '[')
		e.upstream = (struct str){ data.ptr + 1, data.len - 2 };
	if (e.upstream.len) {
		buf_append_str(out, str_from_range(upstream.ptr, data.ptr + 1));
		rest = str_from_range(data.ptr + 1, upstream.ptr + upstream.len);
	} else {
		buf_append_str(out, STR("{\"object\":\"list\",\"data\":["));
		rest = STR("]}");
	}
	targets_each_model(i, add_model, &e);
	if (e.upstream.len && !e.is_first)
		buf_append_char(out, ',');
	buf_append_str(out, rest);
}

static void give(struct infer *i, struct request *q, struct page *p, int64_t age, bool is_stale,
		 struct reply *r)
{
	SCOPED_BUF list;

	buf_init(&list, 2 * PAGE_BYTES_MAX);
	if (p->kind == PAGE_MODELS) {
		put_list(i, buf_str(&p->body), &list);
		reply_text(r, 200, "application/json", buf_str(&list));
	} else {
		reply_text(r, 200, p->type && p->type[0] ? p->type : "application/json", buf_str(&p->body));
	}
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-cache"));
	if (is_stale)
		(void)headers_set(&r->headers, STR("X-HF-Warning"),
				  STR("hfcached; upstream cannot be reached, this is what it said last"));
	r->age_s = age;
	q->result = q->used_upstream ? RESULT_MISS : is_stale ? RESULT_STALE_HIT : RESULT_HIT;
	set_cache_status(r,
			 q->used_upstream && !is_stale ? "fwd=miss; stored"
			 : is_stale                    ? "hit; fwd=stale"
						       : "hit",
			 NULL, NULL);
}

/* What can be said of a model that is served here. Returns false: nothing. */
static bool make_up(struct infer *i, struct request *q, struct page *p, struct reply *r)
{
	SCOPED_BUF task, id, out;

	buf_init(&task, 128);
	buf_init(&id, 1024);
	buf_init(&out, PAGE_BYTES_MAX);
	if (p->kind == PAGE_MODELS) {
		put_list(i, STR(""), &out);
		if (str_ends_with(buf_str(&out), STR("[]}")))
			return false;
	} else if (!p->model.len || !model_is_local(i, p->identity, p->model, &task)) {
		return false;
	}
	(void)json_write_string(&id, p->model);
	if (p->kind == PAGE_MODEL)
		buf_appendf(&out, "{\"id\":%s,\"object\":\"model\",\"created\":0,\"owned_by\":\"hfcached\"}",
			    buf_str(&id).ptr);
	else if (p->kind == PAGE_INFO)
		buf_appendf(&out, "{\"model_id\":%s,\"model_pipeline_tag\":\"%s\"}", buf_str(&id).ptr,
			    buf_str(&task).ptr);
	else if (p->kind == PAGE_STATUS)
		buf_append_str(&out, STR("{\"loaded\":true,\"state\":\"Loaded\",\"compute_type\":\"cpu\","
					 "\"framework\":\"unknown\"}"));
	reply_text(r, 200, "application/json", buf_str(&out));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("no-store"));
	set_cache_status(r, "hit; detail=local", NULL, NULL);
	q->result = RESULT_HIT;
	return true;
}

/* Nobody could be asked, or upstream was no help. */
static void give_any(struct infer *i, struct request *q, struct page *p, int error, struct reply *r)
{
	struct infer_path shape = { .dialect = DIALECT_OTHER };
	int64_t age = p->kind == PAGE_PASS ? -ENODATA : find_page(i, p);

	if (age >= 0) {
		give(i, q, p, age, true, r);
		return;
	}
	if (p->kind != PAGE_PASS && make_up(i, q, p, r))
		return;
	trouble(r, q, &shape, p->model, error);
}

static bool is_served_here(struct infer *i, struct page *p)
{
	SCOPED_BUF task;

	buf_init(&task, 128);
	return p->model.len && backend_has(i, p->model, &task);
}

static bool can_ask(struct infer *i, const struct page *p)
{
	if (p->origin == FETCH_INFERENCE && infer_rules_of(i).mode == INFER_OFFLINE)
		return false;
	return fetch_has_origin(i->opts.fetch, p->origin) && !fetch_origin_is_down(i->opts.fetch, p->origin);
}

int infer_page(struct infer *i, struct request *q, struct reply *r)
{
	struct page *p = page_of(i, q);
	int64_t age = q->ear || p->kind == PAGE_PASS ? -ENODATA : find_page(i, p);
	int error;

	if (age >= 0 && age <= (p->kind == PAGE_TASKS ? TASKS_TTL_S : PAGE_TTL_S)) {
		give(i, q, p, age, false, r);
		return 0;
	}
	if (!q->ear && is_served_here(i, p) && make_up(i, q, p, r))
		return 0;
	error = q->ear || can_ask(i, p) ? 0 : -ENODATA;
	if (age >= 0 && !q->ear && error == 0) { /* what was found is old: what comes takes its place */
		free(TAKE_PTR(p->type));
		buf_reset(&p->body);
	}
	if (error == 0)
		error = ask(i, q, p, r);
	if (error == -EAGAIN)
		return -EAGAIN;
	if (error == 0)
		give(i, q, p, 0, false, r);
	else if (error < 0)
		give_any(i, q, p, error == -EBADMSG ? -ENODATA : error, r);
	return 0;
}
