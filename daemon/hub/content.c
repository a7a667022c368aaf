/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/content - the bytes of a file whose identity is known: head, conditions, range, and where they come
 * from.
 *
 * The same fields go out on HEAD, 200, 206 and 304 (hub-protocol 2.2, R05). The file itself is answered,
 * never a redirect.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/etag.h"

/* Evicted oftener than this under one request: the store is too small for what is asked of it. */
#define JOIN_TRIES_MAX 3

bool hub_is_contradicted(struct hub *h, const struct content_id *content)
{
	struct digest ignored;

	return !content_id_is_sound(content) || index_find_blob(h->opts.index, content, &ignored) == -EBADMSG;
}

static bool is_not_modified(const struct request *q, const struct hub_file *file)
{
	struct str list = request_header(q, STR("If-None-Match"));
	char hex[CONTENT_HEX_MAX];

	content_id_hex(&file->content, hex);
	return list.ptr && etag_list_matches(list, str_from(hex));
}

/* What of the file this request wants. Returns the status: 200, 206 or 416. */
static int wanted_range(const struct request *q, const struct hub_file *file, struct byte_range *ret_range,
			bool *ret_is_open)
{
	struct str value = request_header(q, STR("Range")), condition = request_header(q, STR("If-Range"));
	char hex[CONTENT_HEX_MAX];

	*ret_range = (struct byte_range){ 0, file->content.size };
	*ret_is_open = true;
	content_id_hex(&file->content, hex);
	if (q->is_head || !value.ptr || (condition.ptr && !etag_if_range_matches(condition, str_from(hex))))
		return 200;
	switch (range_parse(value, file->content.size, ret_range)) {
	case RANGE_ONE:
		*ret_is_open = range_is_open(value);
		return 206;
	case RANGE_UNSATISFIABLE:
		return 416;
	case RANGE_NONE:
		break;
	}
	*ret_range = (struct byte_range){ 0, file->content.size };
	return 200;
}

static void set_content_range(struct reply *r, const struct hub_file *file, struct byte_range range)
{
	(void)headers_addf(&r->headers, "Content-Range", "bytes %llu-%llu/%llu",
			   (unsigned long long)range.first, (unsigned long long)range.end - 1,
			   (unsigned long long)file->content.size);
}

/* A head without its body: HEAD, 304, 416, an empty file. */
static int answer_without_body(struct request *q, const struct hub_file *file, int status, struct reply *r)
{
	file_set_fields(file, status, r);
	r->status = status;
	r->kind = REPLY_EMPTY;
	r->cache_status = q->used_upstream ? "fwd=miss" : "hit";
	q->result = q->used_upstream ? RESULT_REVALIDATED : file->was_stale ? RESULT_STALE_HIT : RESULT_HIT;
	/* the library always tells a length: on 304 it must be that of a 200 (RFC 9110 8.6) */
	r->head_length = status == 416 ? 0 : (int64_t)file->content.size;
	/* with a range on an empty file clients look for the total (R15); on 416 the field is the answer */
	if (status == 416 || (file->content.size == 0 && request_header(q, STR("Range")).ptr))
		(void)headers_addf(&r->headers, "Content-Range", "bytes */%llu",
				   (unsigned long long)file->content.size);
	return 0;
}

static void promise_key(const struct hub_file *file, struct buf *out)
{
	char hex[CONTENT_HEX_MAX];

	content_id_hex(&file->content, hex);
	buf_init(out, 256);
	buf_append_str(out, str_from(hex));
}

/* Was this file announced to somebody a moment ago? Then an error page now would be stored under its name
 * (B16). */
static bool was_promised(struct hub *h, const struct hub_file *file)
{
	char ignored[COMMIT_TEXT];
	SCOPED_BUF key;

	promise_key(file, &key);
	return pins_find(&h->promises, buf_str(&key), clock_mono_ms(h->opts.clock), ignored);
}

static int fail(struct hub *h, struct request *q, const struct hub_file *file, int error, struct reply *r)
{
	SCOPED_BUF detail = { 0 };

	q->result = RESULT_OFFLINE_MISS;
	if (!q->is_head && was_promised(h, file)) {
		log_warning("hub",
			    "connection broken instead of an error page: the file was announced, but its "
			    "bytes cannot be had",
			    LOG_STR("repo", file->repo), LOG_STR("path", file->path), LOG_ERR("error", error),
			    LOG_END);
		reply_abort(r);
		return 0;
	}
	buf_init(&detail, 2048);
	buf_appendf(&detail, "%.*s of %.*s", STR_ARGS(file->path), STR_ARGS(file->repo));
	reply_error(r, q, file->class, error, buf_str(&detail));
	return 0;
}

/* Why upstream cannot be asked for them just now; 0: it can. */
static int why_no_bytes(struct hub *h, struct request *q, const struct hub_file *file)
{
	if (fetch_is_down(h->opts.fetch))
		return -EHOSTUNREACH;
	q->busy_ms = fetch_busy_ms(h->opts.fetch, FETCH_HUB, file->target, q->subject.token);
	return q->busy_ms ? -EBUSY : 0;
}

static int answer_head(struct hub *h, struct request *q, const struct hub_file *file, bool is_stored,
		       struct reply *r)
{
	/* a HEAD is a promise: it must fail too when the GET after it would (hub-protocol 3.5) */
	int error = is_stored || file->content.size == 0 ? 0 : why_no_bytes(h, q, file);
	SCOPED_BUF key = { 0 };

	if (q->wants_pointer && file->content.kind == CONTENT_LFS)
		return answer_without_body(q, file, 200, r);
	if (error < 0)
		return fail(h, q, file, error, r);
	/* also of what is stored: it may be evicted or found damaged before the GET comes */
	promise_key(file, &key);
	pins_put(&h->promises, buf_str(&key), STR(""), clock_mono_ms(h->opts.clock));
	return answer_without_body(q, file, 200, r);
}

static int answer_stored(struct hub *h, struct request *q, const struct hub_file *file,
			 struct blob *take_blob, int status, struct byte_range range, struct reply *r)
{
	reply_blob(r, status, take_blob, range.first, range.end - range.first);
	file_set_fields(file, status, r);
	if (status == 206)
		set_content_range(r, file, range);
	if (!q->used_upstream)
		q->result = file->was_stale ? RESULT_STALE_HIT : RESULT_HIT;
	else
		q->result = RESULT_REVALIDATED;
	r->cache_status = q->used_upstream ? "hit; fwd=stale" : "hit";
	if (file->is_branch_url)
		r->age_s = clock_wall_s(h->opts.clock) - index_seen_at(file->name_checked_at);
	return 0;
}

/* An object is given by what it is alone while it is held: where it comes from was not looked for. */
static bool has_source(const struct hub_file *file)
{
	return file->target.len > 0 || file->location.len > 0;
}

static int upstream_refused(struct hub *h, struct request *q, const struct hub_file *file, int status,
			    struct reply *r)
{
	/* the token was good for the question and is not for the bytes: upstream changed its mind just now */
	if (status == 0 || was_promised(h, file))
		return fail(h, q, file, -EBADMSG, r);
	auth_refused(h->opts.auth, &q->subject, file->repo);
	reply_refuse(r, file->class, status, "upstream refused the file's bytes to this token");
	return 0;
}

/*
 * The commit does not have this path, though it was said to: what led here was wrong, not the token. A branch "a" went and "a/b"
 * came, say, and the question was answered for the one and booked on the other. The names of the repo are asked for anew, and the
 * file too, once.
 */
static int upstream_lost(struct hub *h, struct request *q, const struct hub_file *file, int status,
			 struct reply *r)
{
	if (!q->has_restarted && file->commit[0] && !file->is_object) {
		log_info("hub", "upstream does not have a file that it told of: its names are looked at anew",
			 LOG_STR("repo", file->repo), LOG_STR("path", file->path), LOG_END);
		reader_free(TAKE_PTR(q->reader));
		relay_free(TAKE_PTR(q->relay));
		/* what is absent is forgotten with the names: the next to ask hears upstream */
		learn_entry(h, file->repo, file->commit, file->path, NULL, clock_wall_s(h->opts.clock));
		hub_forget_names(h, q, file->repo);
		q->has_restarted = q->distrusts_entries = true;
		return -ERESTART;
	}
	if (status != 404 || !file->is_object)
		return fail(h, q, file, -EBADMSG, r);
	if (was_promised(h, file))
		return fail(h, q, file, -EBADMSG, r);
	reply_refuse(r, file->class, status, "upstream does not have the bytes of this object");
	return 0;
}

/* The passed-through answer was none that can be given. */
static int relay_failed(struct hub *h, struct request *q, const struct hub_file *file, int error,
			struct reply *r)
{
	bool is_hub;
	int status = relay_refused_status(q->relay, &is_hub);

	/* what a storage host thinks of a signed address is no word about this token or file */
	if (status && !is_hub && error != -EBUSY)
		error = -EBADMSG;
	if (status >= 500 && is_hub)
		error = -EHOSTUNREACH;
	if (error == -EBUSY)
		q->busy_ms = fetch_busy_ms(h->opts.fetch, FETCH_HUB, file->target, q->subject.token);
	if (error == -ENOENT)
		return upstream_lost(h, q, file, status, r);
	if (error == -EACCES && status)
		return upstream_refused(h, q, file, status, r);
	return fail(h, q, file, error == -EACCES ? -EPERM : error, r);
}

/*
 * The store has no room for it: pass it through. A range that is all of the file is fetched as the whole file:
 * then it has a digest to be verified by.
 */
static int stream_without_keeping(struct hub *h, struct request *q, const struct hub_file *file, int status,
				  struct byte_range range, struct reply *r)
{
	const struct headers *upstream;
	int64_t content_length;
	bool is_part = range.end - range.first < file->content.size;
	int upstream_status, error;

	if (!q->relay && !has_source(file))
		return 1;
	if (!q->relay) {
		struct headers extra;
		struct relay_query query = { .who = str_from(q->client),
					     .method = "GET",
					     .target = file->target,
					     .location = file->location,
					     .headers = &extra,
					     .token = q->subject.token,
					     .follow = FETCH_FOLLOW_ALLOWED,
					     .verify = &file->content,
					     .is_by_digest = file->is_object && !file->commit[0],
					     .commit = str_from(file->commit) };

		headers_init(&extra);
		if (is_part) {
			query.range = range;
			(void)headers_addf(&extra, "Range", "bytes=%llu-%llu",
					   (unsigned long long)range.first,
					   (unsigned long long)range.end - 1);
		}
		error = relay_start(h->opts.relays, &query, &q->relay);
		headers_done(&extra);
		if (error < 0)
			return fail(h, q, file, error, r);
		q->used_upstream = true;
	}
	for (;;) {
		error = relay_head(q->relay, &upstream_status, &upstream, &content_length);
		if (error != -EAGAIN)
			break;
		if (request_park_relay(q, false) == -EAGAIN)
			return -EAGAIN;
	}
	if (error < 0)
		return relay_failed(h, q, file, error, r);
	if (upstream_status != (is_part ? 206 : 200) || content_length != (int64_t)(range.end - range.first))
		return fail(h, q, file, -EBADMSG, r);
	r->status = status;
	r->kind = REPLY_RELAY;
	r->relay = TAKE_PTR(q->relay);
	r->head_length = content_length;
	file_set_fields(file, status, r);
	if (status == 206)
		set_content_range(r, file, range);
	r->cache_status = "fwd=miss";
	q->result = RESULT_BYPASS;
	return 0;
}

/*
 * Clients of a registry ask for all of a blob to learn where its parts are, and go away (hub-protocol 2.7 step 3, B22);
 * node-llama-cpp, under llama.cpp's name, does so with any file.
 */
static bool may_leave(const struct request *q, const struct hub_file *file)
{
	bool is_looker =
		file->self.len > 0 || str_starts_with(request_header(q, STR("User-Agent")), STR("llama-cpp"));

	return is_looker && !request_header(q, STR("Range")).ptr;
}

/* Joins the file's flight and waits until its first wanted byte may go out. 0: q->reader is ready; else as
 * flight.h says. */
static int join_flight(struct hub *h, struct request *q, const struct hub_file *file, struct byte_range range,
		       bool is_open)
{
	int64_t ready;
	int error;

	if (!q->reader) {
		SCOPED_BUF label;
		struct flight_source source = { .target = file->target,
						.location = file->location,
						.token = q->subject.token,
						.commit = str_from(file->commit),
						.who = str_from(q->client),
						.may_leave = may_leave(q, file) };

		buf_init(&label, 8192);
		buf_appendf(&label, "%.*s %.*s", STR_ARGS(file->repo), STR_ARGS(file->path));
		source.label = buf_str(&label);
		error = flight_join(h->opts.flights, &file->content, &source, range, is_open, &q->reader);
		if (error < 0)
			return error == -E2BIG ? -EDQUOT : error;
		q->used_upstream = true;
		q->collapsed = reader_has_joined(q->reader);
	}
	for (;;) {
		error = reader_started(q->reader);
		if (error < 0 && error != -EAGAIN)
			return error;
		ready = reader_ready(q->reader, range.first);
		if (ready != 0)
			return ready < 0 ? (int)ready : 0;
		if (request_park_reader(q, range.first) == -EAGAIN)
			return -EAGAIN;
	}
}

/* joined: what join_flight() said. */
static int answer_missing(struct hub *h, struct request *q, const struct hub_file *file, int status,
			  struct byte_range range, int joined, struct reply *r)
{
	switch (joined) {
	case 0:
		reply_reader(r, status, q, range.first, range.end - range.first);
		file_set_fields(file, status, r);
		if (status == 206)
			set_content_range(r, file, range);
		r->cache_status = q->collapsed ? "fwd=miss; collapsed" : "fwd=miss";
		q->result = status == 206 ? RESULT_PARTIAL : RESULT_MISS;
		return 0;
	case -EAGAIN:
		return -EAGAIN;
	case -ENOSPC:
		reader_free(TAKE_PTR(q->reader));
		q->has_no_room = true;
		return stream_without_keeping(h, q, file, status, range, r);
	case -EBUSY:
		q->busy_ms = fetch_busy_ms(h->opts.fetch, FETCH_HUB, file->target, q->subject.token);
		return fail(h, q, file, -EBUSY, r);
	case -ENOENT:
		return q->reader ? upstream_lost(h, q, file, reader_upstream_status(q->reader), r)
				 : fail(h, q, file, joined, r);
	case -EACCES:
		return q->reader ? upstream_refused(h, q, file, reader_upstream_status(q->reader), r)
				 : fail(h, q, file, joined, r);
	default:
		return fail(h, q, file, joined, r);
	}
}

static int open_stored(struct hub *h, const struct digest *sha256, uint64_t size, struct blob **ret_blob)
{
	int r = store_open_blob(h->opts.store, sha256, ret_blob);

	if (r == 0 && blob_size(*ret_blob) != size) {
		*ret_blob = blob_unref(*ret_blob);
		r = -EBADMSG;
	}
	if (r == -EBADMSG || r == -ENODATA)
		h->opts.on_corrupt(h->opts.ctx, sha256);
	return r;
}

/* What was said to be there cannot be had: the next attempt to join it fetches it again. */
static void is_gone_again(struct hub *h, const struct hub_file *file)
{
	log_info("hub",
		 "a file that has just come is gone or cannot be opened, and is fetched again: is "
		 "storage.max-size, or the disk, too small?",
		 LOG_STR("repo", file->repo), LOG_STR("path", file->path), LOG_END);
	flight_forget_landed(h->opts.flights, &file->content);
}

static int fail_evicted(struct hub *h, struct request *q, const struct hub_file *file, struct reply *r)
{
	log_warning("hub",
		    "a file was evicted again and again while a request was on its way to it: "
		    "storage.max-size, or the disk, is too small",
		    LOG_STR("repo", file->repo), LOG_STR("path", file->path), LOG_END);
	return fail(h, q, file, -EIDRM, r);
}

int hub_serve_file(struct hub *h, struct request *q, const struct hub_file *file, struct reply *r)
{
	SCOPED(blob_unref) struct blob *blob = NULL;
	struct byte_range range;
	struct digest sha256;
	bool is_open, is_stored;
	int status;

	if (is_not_modified(q, file))
		return answer_without_body(q, file, 304, r);
	if (hub_is_contradicted(h, &file->content))
		return fail(h, q, file, -EPROTO, r);
	is_stored = index_find_blob(h->opts.index, &file->content, &sha256) == 0;
	if (q->is_head)
		return answer_head(h, q, file, is_stored, r);
	status = wanted_range(q, file, &range, &is_open);
	if (status == 416 || file->content.size == 0)
		return answer_without_body(q, file, status, r);

	/* again: the flight may land between the look into the index and the attempt to join it, and its file be evicted */
	for (int i = 0; i < JOIN_TRIES_MAX; i++) {
		bool was_stored = is_stored;
		int error = is_stored && !q->reader ? open_stored(h, &sha256, file->content.size, &blob)
						    : -ENOENT;

		if (error == 0) {
			index_touch_blob(h->opts.index, &sha256, clock_wall_s(h->opts.clock));
			return answer_stored(h, q, file, TAKE_PTR(blob), status, range, r);
		}
		if (error == -EMFILE || error == -ENFILE)
			return fail(h, q, file, -EMFILE, r); /* that says nothing about the file */
		if (!q->reader && !q->relay && fetch_is_down(h->opts.fetch) &&
		    !store_has_part(h->opts.store, &file->content))
			return fail(h, q, file, -EHOSTUNREACH, r);
		if (!q->reader && !q->relay && !has_source(file))
			return 1;
		error = q->relay || q->has_no_room ? -ENOSPC : join_flight(h, q, file, range, is_open);
		if (error != -EEXIST)
			return answer_missing(h, q, file, status, range, error, r);
		is_stored = index_find_blob(h->opts.index, &file->content, &sha256) == 0;
		if (!is_stored || was_stored)
			is_gone_again(h, file);
	}
	return fail_evicted(h, q, file, r);
}
