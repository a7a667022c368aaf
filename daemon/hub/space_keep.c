/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_keep - what of an app is kept: the page, its description, and the files that were built with it.
 *
 *   built     theme.css, assets/, static/   given again without asking, for this commit of the Space
 *   page      "/", config, info             given again only while the app cannot be reached
 *
 * All else, the queue, its events, calls, uploads, results, is never kept. An answer is kept as the app sent it, as a document of
 * the Space's repo under its commit; the door of the repo stands in front of it. What a request with a token was answered is that
 * token's; what one with a cookie or another secret was answered is not kept, nor what the app wants nobody to keep.
 * Threads   gathering: the connection's; keeping: a work thread.
 * Promises  (1) memory is bounded: what is gathered lies in a file without a name; KEEPS_MAX at a time, BYTES_MAX each.
 */
#include "hub/space.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/etag.h"
#include "common/http/token.h"
#include "common/spool.h"
#include "common/work.h"

#define KEEPS_MAX 16
#define BYTES_MAX ((uint64_t)16 << 20)
/* Of a page, which is edited in memory when it is given again. */
#define PAGE_BYTES_MAX ((uint64_t)4 << 20)
#define MEMORY_MAX ((size_t)64 * 1024)
/* Of a word that only says which version of a file is meant. */
#define VERSION_MAX 64

struct space_keeps {
	_Atomic unsigned refs, running;
};

struct space_keeping {
	struct job job;
	struct space_keeps *keeps;
	/* not the hub: it may be gone when the job runs */
	struct store_put put;
	struct index *index;
	struct work *work;
	struct spool *spool;
	char *repo, *key, *type; /* owned */
	int64_t asked_at;
};

struct space_keeps *space_keeps_new(void)
{
	struct space_keeps *k = xcalloc(1, sizeof(*k));

	atomic_init(&k->refs, 1);
	return k;
}

void space_keeps_unref(struct space_keeps *k)
{
	if (k && atomic_fetch_sub(&k->refs, 1) == 1)
		free(k);
}

/* --- what is kept --- */

static struct str within(struct str rest)
{
	if (str_starts_with(rest, STR("/gradio_api/")))
		return str_from_range(rest.ptr + 12, rest.ptr + rest.len);
	return rest.len ? str_from_range(rest.ptr + 1, rest.ptr + rest.len) : rest;
}

static bool is_build(struct str path)
{
	return str_eq(path, STR("theme.css")) || str_starts_with(path, STR("assets/")) ||
	       str_starts_with(path, STR("static/"));
}

static bool is_page(struct str path)
{
	return path.len == 0 || str_eq(path, STR("config")) || str_eq(path, STR("info"));
}

/* "v=1a2b", or "1a2b" alone: a signature, or whatever else there may be, is no part of a name, and never on a disk. */
static bool is_version(struct str query)
{
	static const char *const names[] = { "v", "ver", "version", "rev", "hash", "h" };
	struct str name, word = query;
	bool is_known = true;

	if (str_cut(query, '=', &name, &word)) {
		is_known = false;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			is_known = is_known || str_eq(name, str_from(names[i]));
	} else {
		word = query;
	}
	for (size_t i = 0; i < word.len; i++) {
		char c = word.ptr[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		      c == '.' || c == '-'))
			return false;
	}
	return is_known && word.len <= VERSION_MAX;
}

/* Of a page only the forms that clients ask for; of a file that was built any, for it holds a version. */
static bool is_known_query(struct str query, bool was_built)
{
	if (query.len == 0)
		return true;
	if (was_built)
		return is_version(query);
	return str_eq(query, STR("serialize=False")) || str_eq(query, STR("serialize=True"));
}

/* Whose answer it is. */
static bool append_partition(const struct request *q, bool is_shared, struct buf *key)
{
	char hex[2 * SUBJECT_BYTES + 1];

	if (q->subject.token && !is_shared) {
		format_hex(q->subject.id, SUBJECT_BYTES, hex);
		return buf_append_str(key, str_from(hex)) == 0;
	}
	return true;
}

/* What a request may say beside its token without being somebody's: all but words for secrets. */
static bool is_personal(struct str name, struct str value)
{
	static const char *const words[] = {
		"auth", "token", "session", "secret", "key", "password", "csrf"
	};
	char lower[64];

	if (text_holds_token(value) || name.len >= sizeof(lower))
		return true;
	for (size_t i = 0; i < name.len; i++)
		lower[i] =
			name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? (char)(name.ptr[i] | 0x20) : name.ptr[i];
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (memmem(lower, name.len, words[i], strlen(words[i])))
			return true;
	return false;
}

bool space_is_common(const struct request *q, const struct space *s)
{
	if (s->has_two_askers)
		return false;
	for (size_t i = 0; i < q->headers.count; i++) {
		struct str name = str_from(q->headers.fields[i].name);

		/* it names the same subject as the key does, or goes no further */
		if (str_eq_nocase(name, STR("X-HF-Authorization")) || str_starts_with(name, STR("Sec-")))
			continue;
		if (str_eq_nocase(name, STR("Range")) ||
		    is_personal(name, str_from(q->headers.fields[i].value)))
			return false;
	}
	return true;
}

/* Does the list have the word, alone or with a value? */
static bool has_word(struct str list, const char *word)
{
	while (list.len) {
		struct str part, name, value;

		(void)str_cut(list, ',', &part, &list);
		(void)str_cut(part, '=', &name, &value);
		if (str_eq_nocase(str_trim(name), str_from(word)))
			return true;
	}
	return false;
}

static bool varies_by_others(struct str list)
{
	while (list.len) {
		struct str part;

		(void)str_cut(list, ',', &part, &list);
		part = str_trim(part);
		if (part.len && !str_eq_nocase(part, STR("Accept-Encoding")) &&
		    !str_eq_nocase(part, STR("Origin")))
			return true;
	}
	return false;
}

/* A page that greets a stranger with a cookie is any stranger's page; it is given again without that. */
bool space_may_keep(const struct headers *answer, bool was_built)
{
	for (size_t i = 0; i < answer->count; i++) {
		struct str name = str_from(answer->fields[i].name), value = str_from(answer->fields[i].value);

		if (str_eq_nocase(name, STR("Cache-Control")) &&
		    (has_word(value, "no-store") || has_word(value, "private") ||
		     (was_built && has_word(value, "no-cache"))))
			return false;
		if (str_eq_nocase(name, STR("Vary")) && varies_by_others(value))
			return false;
		if (was_built && str_eq_nocase(name, STR("Set-Cookie")))
			return false;
	}
	return true;
}

bool space_keep_key(const struct request *q, const struct space *s, struct str rest, bool is_shared,
		    struct buf *key, bool *ret_is_build)
{
	struct str path = within(rest);
	bool was_built = is_build(path);

	*ret_is_build = was_built;
	if (is_write(q) || !s->commit[0] || !(was_built || is_page(path)) ||
	    !is_known_query(q->query, was_built))
		return false;
	buf_appendf(key, "c:app/%s/", s->commit);
	if (!append_partition(q, is_shared, key))
		return false;
	buf_append_str(key, rest);
	if (q->query.len)
		buf_appendf(key, "?%.*s", STR_ARGS(q->query));
	return buf_error(key) == 0;
}

/* --- keeping --- */

struct space_keeping *space_keep_begin(struct hub *h, struct str repo, struct str key, bool was_built,
				       struct str content_type)
{
	struct space_keeping *k;

	if (!h->opts.work)
		return NULL;
	if (atomic_fetch_add(&h->space_keeps->running, 1) >= KEEPS_MAX) {
		atomic_fetch_sub(&h->space_keeps->running, 1);
		return NULL;
	}
	atomic_fetch_add(&h->space_keeps->refs, 1);
	k = xcalloc(1, sizeof(*k));
	list_init(&k->job.node);
	k->keeps = h->space_keeps;
	k->put = hub_put_of(h);
	k->index = h->opts.index;
	k->work = h->opts.work;
	k->spool = spool_new(h->opts.spool_folder, MEMORY_MAX, was_built ? BYTES_MAX : PAGE_BYTES_MAX);
	k->repo = str_dup(repo);
	k->key = str_dup(key);
	k->type = str_dup(content_type);
	k->asked_at = clock_wall_s(h->opts.clock);
	return k;
}

void space_keep_drop(struct space_keeping *k)
{
	if (!k)
		return;
	(void)spool_end(k->spool);
	spool_unref(k->spool);
	atomic_fetch_sub(&k->keeps->running, 1);
	space_keeps_unref(k->keeps);
	free(k->repo);
	free(k->key);
	free(k->type);
	free(k);
}

void space_keep_piece(struct space_keeping *k, struct str piece)
{
	(void)spool_append(k->spool, piece.ptr, piece.len); /* an error stays */
}

static void keep(struct space_keeping *k)
{
	SCOPED(bytes_unref) struct bytes *bytes = NULL;
	struct blob_meta meta;
	struct doc doc = { .fetched_at = k->asked_at, .content_type = k->type };
	struct str text;
	int r = spool_text(k->spool, &text);

	if (r == 0) {
		bytes = bytes_new_copy(text);
		r = store_put_making_room(k->put, bytes, &meta);
	}
	if (r < 0) {
		log_warning("hub", "a part of an app could not be kept", LOG_TEXT("repo", k->repo),
			    LOG_ERR("error", r), LOG_END);
		return;
	}
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	index_learn(k->index, &(struct fact){ .kind = FACT_DOC,
					      .repo = str_from(k->repo),
					      .path = str_from(k->key),
					      .at = k->asked_at,
					      .doc = &doc });
}

static void run(struct job *job)
{
	struct space_keeping *k = LIST_ENTRY(&job->node, struct space_keeping, job.node);

	keep(k);
	space_keep_drop(k);
}

void space_keep_end(struct space_keeping *k)
{
	if (spool_end(k->spool) < 0 || spool_size(k->spool) == 0) {
		space_keep_drop(k);
		return;
	}
	k->job.run = run;
	work_submit(k->work, &k->job);
}

/* --- giving it again --- */

static int give_edited(struct blob *blob, enum space_form form, const struct space_rule *rule,
		       struct reply *r)
{
	SCOPED_FREE char *text = xmalloc(blob_size(blob) + 1);
	struct space_text edit;
	SCOPED_BUF out;
	int error = blob_read(blob, 0, text, blob_size(blob));

	buf_init(&out, 16 * PAGE_BYTES_MAX);
	space_text_init(&edit, form, rule);
	if (error == 0)
		error = space_text_feed(&edit, (struct str){ text, blob_size(blob) }, &out);
	if (error == 0)
		error = space_text_end(&edit, &out);
	if (error == 0)
		reply_text(r, 200, NULL, buf_str(&out));
	return error;
}

/* The client has it already: its tag is the digest of what is kept. */
static bool is_known_to_client(const struct request *q, const struct digest *body, struct reply *r)
{
	struct str list = request_header(q, STR("If-None-Match"));
	char hex[2 * SHA256_BYTES + 1];

	format_hex(body->bytes, SHA256_BYTES, hex);
	(void)headers_addf(&r->headers, "ETag", "\"%s\"", hex);
	return list.len && etag_list_matches(list, str_from(hex));
}

static int give(struct request *q, const struct doc *doc, struct blob *take_blob, struct str rest,
		const struct space_rule *rule, struct reply *r)
{
	int form = space_form_of(rest, str_from(doc->content_type ? doc->content_type : "")), error = 0;

	if (form >= 0) {
		error = give_edited(take_blob, (enum space_form)form, rule, r);
		blob_unref(take_blob);
	} else if (is_known_to_client(q, &doc->body, r)) {
		r->status = 304;
		blob_unref(take_blob);
	} else {
		reply_blob(r, 200, take_blob, 0, blob_size(take_blob));
	}
	return error;
}

int space_serve_kept(struct hub *h, struct request *q, struct str repo, struct str key, struct str rest,
		     const struct space_rule *rule, struct reply *r)
{
	struct blob *blob = NULL;
	struct doc doc = { 0 };
	int error = index_find_doc(h->opts.index, repo, key, &doc);

	if (error < 0)
		return -ENODATA;
	error = store_open_blob(h->opts.store, &doc.body, &blob);
	if (error == 0)
		error = give(q, &doc, blob, rest, rule, r);
	if (error == 0) {
		index_touch_blob(h->opts.index, &doc.body, clock_wall_s(h->opts.clock));
		if (doc.content_type)
			(void)headers_set(&r->headers, STR("Content-Type"), str_from(doc.content_type));
		if (q->subject.token)
			(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-cache"));
		r->age_s = clock_wall_s(h->opts.clock) - index_seen_at(doc.fetched_at);
	}
	doc_done(&doc);
	return error < 0 ? -ENODATA : 0;
}
