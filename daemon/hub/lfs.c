/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs - Git-LFS: /{repo}[.git]/info/lfs/...
 *
 * A batch says where the bytes of objects are. Upstream names signed addresses of its stores; clients get ours, and come here.
 * What the repo holds is learned from upstream's own answer, so the next batch, and the one without upstream, is answered
 * by ourselves. Objects are the blobs that resolve serves.
 * Never     hands an address of upstream's stores to who downloads, nor the fields that went with it.
 *           Lets an answer that gives nothing prove a right.
 */
#include "hub/lfs.h"

#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

/* What we say ourselves is good for as long as a ticket is, less the way. */
#define TICKET_S 3500

/* --- what a client is told when it fails --- */

static void set_challenge(struct reply *r)
{
	static const char basic[] = "Basic realm=\"Authentication required\", charset=\"UTF-8\"";

	(void)headers_set(&r->headers, STR("WWW-Authenticate"), str_from(basic));
	(void)headers_set(&r->headers, STR("LFS-Authenticate"), str_from(basic));
}

static void say_in_json(struct reply *r)
{
	struct str said = headers_get(&r->headers, STR("X-Error-Message"));
	SCOPED_BUF text;

	if (!said.ptr)
		said = r->bytes ? bytes_str(r->bytes) : STR("");
	buf_init(&text, REQUEST_BODY_MAX);
	buf_append_str(&text, STR("{\"message\":"));
	json_write_string(&text, said);
	buf_append_char(&text, '}');
	if (!buf_error(&text))
		reply_text(r, r->status, LFS_JSON_TYPE, buf_str(&text));
}

int lfs_finish(struct reply *r)
{
	bool is_text = str_starts_with(headers_get(&r->headers, STR("Content-Type")), STR("text/plain"));

	if (r->status == 401)
		set_challenge(r);
	if (r->status >= 400 && r->kind == REPLY_BYTES && is_text)
		say_in_json(r);
	return 0;
}

int lfs_fail(struct request *q, int error, struct str detail, struct reply *r)
{
	q->result = RESULT_OFFLINE_MISS;
	reply_error(r, q, ENDPOINT_GIT, error == -EACCES ? -EPERM : error, detail);
	return lfs_finish(r);
}

int lfs_pass_error(const struct answer *a, struct reply *r)
{
	reply_upstream_error(r, ENDPOINT_GIT, a);
	return lfs_finish(r);
}

/* --- asking upstream --- */

void lfs_objects_path(struct str repo, struct buf *out)
{
	buf_init(out, 1024);
	if (str_starts_with(repo, STR("models/")))
		repo = str_from_range(repo.ptr + strlen("models/"), repo.ptr + repo.len);
	buf_appendf(out, "/%.*s.git/info/lfs/objects/", STR_ARGS(repo));
}

static int learn_given(void *ctx, const struct lfs_given *g)
{
	struct lesson *l = ctx;
	struct hub *h = l->hub;
	int64_t now = clock_wall_s(h->opts.clock);
	struct content_id content = { .kind = CONTENT_LFS, .sha256 = g->oid, .size = g->size };

	if (!g->href.ptr || hub_is_contradicted(h, &content))
		return 0;
	learn_object(l, &content, now);
	hrefs_put(&h->hrefs, str_from(l->repo), &g->oid, g->href, g->expires_at, now);
	return 0;
}

static int is_given(void *ctx, const struct lfs_given *g)
{
	return g->href.ptr ? 1 : 0;
}

/* An answer that gives nothing would be the same for who may not read: it proves nothing. */
static int lesson_of_batch(void *ctx, const struct answer *a)
{
	struct lesson *l = ctx;
	int r;

	if (a->error || a->status != 200)
		return lesson_of_check(l, a);
	r = lfs_answer_each(buf_str(&a->body), a->asked_at, is_given, NULL);
	if (r < 0)
		return -EPROTO;
	if (r == 0)
		return 0;
	r = lesson_of_check(l, a);
	return r < 0 ? r : lfs_answer_each(buf_str(&a->body), a->asked_at, learn_given, l);
}

static void set_fields(const struct request *q, struct headers *to)
{
	headers_init(to);
	hub_pass_headers(q, to);
	(void)headers_set(to, STR("Accept"), STR(LFS_JSON_TYPE));
	(void)headers_set(to, STR("Content-Type"), STR(LFS_JSON_TYPE));
}

int lfs_ask(struct hub *h, struct request *q, const struct hub_route *route, struct str repo,
	    const struct digest *what, struct str body, const struct answer **ret_answer)
{
	SCOPED_BUF target, key;
	struct headers extra;
	struct question question = { .method = "POST",
				     .token = q->subject.token,
				     .headers = &extra,
				     .body = body,
				     .follow = FETCH_FOLLOW_SAME_ORIGIN,
				     .answer_bytes_max = BATCH_BYTES_MAX,
				     .learn = lesson_of_batch,
				     .free_ctx = lesson_free };
	int r;

	lfs_objects_path(repo, &target);
	buf_append_str(&target, STR("batch"));
	question.target = buf_str(&target);
	question.learn_ctx = lesson_new(h, q, route, repo, buf_str(&target), ACCESS_FILES);
	buf_init(&key, 8192);
	buf_append_str(&key, STR("lfs "));
	buf_append(&key, q->subject.id, SUBJECT_BYTES);
	buf_append(&key, what->bytes, SHA256_BYTES);
	buf_append_str(&key, repo);
	hub_write_mark(h, NULL, repo, &key);
	set_fields(q, &extra);
	r = request_ask(q, h->opts.asks, buf_str(&key), &question, ret_answer);
	headers_done(&extra);
	return r;
}

static bool is_no_help(const struct answer *a)
{
	return a->error || a->status >= 500 || a->status == 429;
}

/* --- a download answered by ourselves --- */

struct batch {
	struct hub *hub;
	struct request *request;
	struct str repo; /* canonical */
	struct lfs_question question;
	int upstream_error; /* as in hub_door() */
};

/* With its size: who comes to the address may be asked about it, and then nobody here need know the object any more. */
static void object_url(void *ctx, const struct lfs_wanted *wanted, struct buf *out)
{
	const struct batch *b = ctx;
	char hex[2 * SHA256_BYTES + 1];
	SCOPED_BUF path, url = { 0 };

	format_hex(wanted->oid.bytes, SHA256_BYTES, hex);
	lfs_objects_path(b->repo, &path);
	buf_append_str(&path, str_from(hex));
	if (wanted->size)
		buf_appendf(&path, "?size=%llu", (unsigned long long)wanted->size);
	hub_object_url(b->hub, b->request, b->repo, &wanted->oid, buf_str(&path), &url);
	buf_append_str(out, buf_str(&url));
}

static bool is_stored(const struct batch *b, const struct lfs_wanted *wanted)
{
	struct content_id content = { .kind = CONTENT_LFS, .sha256 = wanted->oid, .size = wanted->size };
	struct digest sha256;

	return wanted->size == 0 || index_find_blob(b->hub->opts.index, &content, &sha256) == 0;
}

static bool has_href(const struct batch *b, const struct lfs_wanted *wanted)
{
	SCOPED_BUF ignored;

	buf_init(&ignored, HREF_BYTES_MAX);
	return hrefs_find(&b->hub->hrefs, b->repo, &wanted->oid, clock_wall_s(b->hub->opts.clock), &ignored);
}

/* Is it in this repo? ret_has_path: is a path known that names it, and so a place to fetch it from? */
static bool is_known(const struct batch *b, const struct lfs_wanted *wanted, bool *ret_has_path)
{
	struct sight sight = { b->hub, b->request, b->repo, ACCESS_FILES, b->upstream_error };
	struct object object = { 0 };
	bool is_same;

	if (seen_object(&sight, &wanted->oid, &object) < 0)
		return false;
	is_same = object.content.size ==
		  wanted->size; /* who asks for another size has to hear upstream on it */
	*ret_has_path = object.path != NULL;
	object_done(&object);
	return is_same;
}

static bool is_held(const struct batch *b, const struct lfs_wanted *wanted)
{
	bool ignored;

	return is_known(b, wanted, &ignored) && is_stored(b, wanted);
}

/*
 * Upstream is asked for all that cannot be had without it in one question here, not in one for each when they are fetched.
 */
static bool are_at_hand(const struct batch *b)
{
	for (size_t i = 0; i < b->question.count; i++) {
		const struct lfs_wanted *wanted = &b->question.objects[i];
		bool has_path;

		if (!is_known(b, wanted, &has_path) ||
		    (!has_path && !is_stored(b, wanted) && !has_href(b, wanted)))
			return false;
	}
	return b->question.is_plain;
}

static void write_object(struct batch *b, const struct lfs_wanted *wanted, bool is_here, struct buf *out)
{
	char hex[2 * SHA256_BYTES + 1];
	SCOPED_BUF url;

	buf_init(&url, 8192);
	format_hex(wanted->oid.bytes, SHA256_BYTES, hex);
	buf_appendf(out, "{\"oid\":\"%s\",\"size\":%llu,", hex, (unsigned long long)wanted->size);
	if (!is_here) {
		buf_append_str(out,
			       STR("\"error\":{\"code\":503,\"message\":\"not in this cache, and upstream "
				   "cannot be reached\"}}"));
		return;
	}
	object_url(b, wanted, &url);
	buf_append_str(out, STR("\"authenticated\":true,\"actions\":{\"download\":{\"href\":"));
	json_write_string(out, buf_str(&url));
	buf_appendf(out, ",\"expires_in\":%d}}}", TICKET_S);
}

/* only_held: upstream cannot be asked for the rest. Returns 0 with a reply; -ENODATA there is nothing to give. */
static int answer_ourselves(struct batch *b, bool only_held, struct reply *r)
{
	SCOPED_BUF out;
	bool has_any = false;

	buf_init(&out, BATCH_BYTES_MAX);
	buf_append_str(&out, STR("{\"transfer\":\"basic\",\"objects\":["));
	for (size_t i = 0; i < b->question.count; i++) {
		bool is_here = !only_held || is_held(b, &b->question.objects[i]);

		has_any |= is_here;
		if (i > 0)
			buf_append_char(&out, ',');
		write_object(b, &b->question.objects[i], is_here, &out);
	}
	buf_append_str(&out, STR("]}"));
	if (!has_any || buf_error(&out))
		return -ENODATA;
	reply_text(r, 200, LFS_JSON_TYPE, buf_str(&out));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	r->cache_status = only_held ? "hit; fwd=stale" : "hit";
	b->request->result = only_held ? RESULT_STALE_HIT : RESULT_HIT;
	return 0;
}

/* --- a download answered by upstream --- */

/* Is each address in the text one of ours? */
static bool find_foreign(void *ctx, struct str member, struct str value, struct buf *out)
{
	struct batch *b = ctx;

	if (str_eq(member, STR("href")) && !str_starts_with(value, str_from(b->request->base)))
		b->repo.len = 0;
	return false;
}

static bool holds_foreign_href(const struct batch *b, struct str text)
{
	struct batch probe = { .request = b->request, .repo = STR("-") };
	SCOPED_BUF copy;

	buf_init(&copy, BATCH_BYTES_MAX);
	return json_edit_strings(text, find_foreign, &probe, &copy) < 0 || probe.repo.len == 0;
}

static int pass_answer(struct batch *b, const struct answer *a, struct reply *r)
{
	SCOPED_BUF out;

	buf_init(&out, BATCH_BYTES_MAX);
	if (lfs_answer_edit(buf_str(&a->body), object_url, b, &out) < 0 ||
	    holds_foreign_href(b, buf_str(&out)))
		return lfs_fail(b->request, -EPROTO, STR(""), r);
	reply_copy_allowed(&r->headers, &a->last);
	headers_remove(&r->headers, STR("ETag"));
	reply_text(r, 200, LFS_JSON_TYPE, buf_str(&out));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	r->cache_status = "fwd=miss";
	b->request->result = RESULT_MISS;
	return 0;
}

static int without_upstream(struct batch *b, const struct answer *a, struct reply *r)
{
	enum door door = hub_door(b->hub, b->request, b->repo, ACCESS_FILES, ENDPOINT_GIT, proof_error(a), r);

	b->upstream_error = proof_error(a);
	if (door == DOOR_CLOSED)
		return lfs_finish(r);
	if (door == DOOR_OPEN && answer_ourselves(b, true, r) == 0)
		return 0;
	return a->error ? lfs_fail(b->request, a->error, b->repo, r) : lfs_pass_error(a, r);
}

static int ask_and_answer(struct batch *b, const struct hub_route *route, struct reply *r)
{
	const struct answer *answer;
	struct digest what;
	SCOPED_BUF body;
	int error;

	buf_init(&body, 2 * REQUEST_BODY_MAX);
	if (lfs_question_write(&b->question, &body) < 0)
		return lfs_fail(b->request, -EINVAL, STR(""), r);
	sha256_of(buf_str(&body).ptr, buf_str(&body).len, &what);
	error = lfs_ask(b->hub, b->request, route, b->repo, &what, buf_str(&body), &answer);
	if (error < 0)
		return error == -EAGAIN ? error : lfs_fail(b->request, error, b->repo, r);
	if (is_no_help(answer))
		return without_upstream(b, answer, r);
	if (answer->status != 200)
		return lfs_pass_error(answer, r);
	return answer->learned < 0 ? lfs_fail(b->request, -EPROTO, STR(""), r) : pass_answer(b, answer, r);
}

static int serve_download(struct batch *b, const struct hub_route *route, struct reply *r)
{
	bool is_down = hub_is_down(b->hub, b->request);
	enum door door = hub_door(b->hub, b->request, b->repo, ACCESS_FILES, ENDPOINT_GIT,
				  is_down ? -EHOSTUNREACH : 0, r);

	b->upstream_error = is_down ? -EHOSTUNREACH : 0;
	if (door == DOOR_CLOSED)
		return lfs_finish(r);
	if (is_down) {
		if (answer_ourselves(b, true, r) == 0)
			return 0;
		return lfs_fail(b->request, -EHOSTUNREACH, b->repo, r);
	}
	/* once asked, it is upstream's own answer that is told */
	if (door == DOOR_OPEN && b->request->ask_count == 0 && are_at_hand(b))
		return answer_ourselves(b, false, r);
	return ask_and_answer(b, route, r);
}

int hub_lfs_batch(struct hub *h, struct request *q, const struct hub_route *route, struct reply *r)
{
	struct batch b = { .hub = h, .request = q };
	SCOPED_BUF canonical = { 0 };
	int error;

	hub_note(q, route);
	if (!q->has_valid_subject) {
		reply_refuse(r, ENDPOINT_GIT, 401,
			     "malformed Authorization field: one Bearer or Basic token is expected");
		return lfs_finish(r);
	}
	b.repo = hub_canonical(h, q, route, &canonical);
	lfs_question_read(buf_str(&q->body), &b.question);
	error = b.question.operation == LFS_DOWNLOAD ? serve_download(&b, route, r)
						     : lfs_pass_batch(h, q, b.repo, r);
	lfs_question_done(&b.question);
	return error;
}
