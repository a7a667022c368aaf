/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/keep - an answer that comes: is it one, and if it is, it is kept (inference-protocol 3.6).
 *
 * The bytes pass unchanged; the filter only watches. A stream is over with its terminator: what it is kept for need not wait for
 * the connection's end.
 * Threads   the filter: fetch; keeping_ended(): a work thread, afterwards.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* Of one event; a longer one is no answer to keep. */
#define EVENT_MAX ((size_t)8 << 20)

struct keeping *keeping_new(struct infer *i, const struct call *c, const char *served_by)
{
	struct keeping *k = xcalloc(1, sizeof(*k));

	k->infer = i;
	k->key = c->keys[0];
	k->base = c->base;
	k->dialect = c->path.dialect;
	k->repeat = c->facts.repeat;
	k->is_image = c->is_image;
	k->is_shared = c->is_shared;
	memcpy(k->accept, c->accept, sizeof(k->accept));
	memcpy(k->partition, c->identity, SUBJECT_BYTES);
	k->watch.dialect = k->dialect;
	k->model = str_dup(c->model);
	k->task = str_dup(c->task);
	k->served_by = xstrdup(served_by);
	k->provider = call_provider(c, served_by);
	buf_init(&k->rest, EVENT_MAX);
	return k;
}

void keeping_free(void *p)
{
	struct keeping *k = p;

	if (!k)
		return;
	buf_done(&k->rest);
	free(k->model);
	free(k->task);
	free(k->served_by);
	free(k->glance);
	free(k);
}

static bool is_type(const struct headers *fields, struct str prefix)
{
	struct str type = headers_get(fields, STR("Content-Type"));

	return type.len >= prefix.len && str_eq_nocase((struct str){ type.ptr, prefix.len }, prefix);
}

static bool is_json(const struct headers *fields)
{
	return is_type(fields, STR("application/json")) || is_type(fields, STR("application/problem+json"));
}

static int on_head(void *ctx, int *status, struct headers *fields)
{
	struct keeping *k = ctx;

	k->status = *status;
	k->is_stream = is_type(fields, STR("text/event-stream"));
	if (k->status == 200 && is_json(fields) && !k->glance)
		k->glance = xcalloc(1, sizeof(*k->glance));
	return 0;
}

/* An answer that is not kept tells its tokens too: near its beginning or near its end. */
static void look_at(struct glance *g, struct str piece)
{
	size_t n = sizeof(g->head) - g->head_len, more;

	n = piece.len < n ? piece.len : n;
	memcpy(g->head + g->head_len, piece.ptr, n);
	g->head_len += n;
	piece = (struct str){ piece.ptr + n, piece.len - n };
	if (piece.len > sizeof(g->tail))
		piece = (struct str){ piece.ptr + piece.len - sizeof(g->tail), sizeof(g->tail) };
	more = sizeof(g->tail) - g->tail_len;
	if (piece.len > more) {
		n = piece.len - more;
		memmove(g->tail, g->tail + n, g->tail_len - n);
		g->tail_len -= n;
	}
	memcpy(g->tail + g->tail_len, piece.ptr, piece.len);
	g->tail_len += piece.len;
}

/* Events that are complete by now. */
static void watch(struct keeping *k, struct str piece)
{
	struct str text;
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, EVENT_MAX);
	if (buf_append_str(&k->rest, piece) < 0) {
		k->watch.saw_error = true;
		return;
	}
	/* events end with a line; a long one comes in many pieces, and is not read anew with each */
	if (piece.len && !memchr(piece.ptr, '\n', piece.len) && !memchr(piece.ptr, '\r', piece.len))
		return;
	text = buf_str(&k->rest);
	while (sse_next(&text, &scratch, &e) == 1)
		stream_watch_event(&k->watch, &e);
	if (text.len != k->rest.len) {
		memmove(k->rest.bytes, text.ptr, text.len);
		k->rest.len = text.len;
	}
}

static int on_piece(void *ctx, struct str piece, struct buf *out)
{
	struct keeping *k = ctx;

	if (buf_append_str(out, piece) < 0)
		return -E2BIG;
	if (k->glance)
		look_at(k->glance, piece);
	if (!k->is_stream || k->status != 200 || buf_error(&k->rest))
		return 0;
	watch(k, piece);
	return k->watch.saw_end && k->rest.len == 0 ? 1 : 0;
}

/* A stream without its terminator was cut, however cleanly its connection ended: clients would not notice. */
static int on_end(void *ctx, struct buf *out)
{
	struct keeping *k = ctx;

	if (k->is_stream && k->status == 200 && k->dialect != DIALECT_OTHER && !k->watch.saw_error &&
	    !stream_is_whole(&k->watch))
		return -ECONNRESET;
	return 0;
}

/* Of every answer that came from who made it, kept or not, as far as it came. */
static void on_over(void *ctx, int error)
{
	struct keeping *k = ctx;
	struct metrics *m = k->infer->opts.metrics;
	struct token_usage u = k->watch.usage;

	if (k->glance) {
		(void)usage_find((struct str){ k->glance->head, k->glance->head_len }, &u);
		(void)usage_find((struct str){ k->glance->tail, k->glance->tail_len }, &u);
	}
	if (u.tokens_in)
		metrics_add(m, METRIC_INFER_TOKENS, k->provider, 0, 0, u.tokens_in);
	if (u.tokens_out)
		metrics_add(m, METRIC_INFER_TOKENS, k->provider, 1, 0, u.tokens_out);
}

const struct cast_filter keeping_filter = {
	.head = on_head, .piece = on_piece, .keeps_pieces = true, .end = on_end, .over = on_over
};

/* Non-stream answers may say that they are not to be kept; streams always say no-cache, and do not mean it. */
static bool forbids_keeping(const struct headers *fields)
{
	struct str list = headers_get(fields, STR("Cache-Control")), word;

	while (list.len) {
		(void)str_cut(list, ',', &word, &list);
		if (str_eq_nocase(str_trim(word), STR("no-store")) ||
		    str_eq_nocase(str_trim(word), STR("private")))
			return true;
	}
	return false;
}

static bool is_worth_keeping(const struct keeping *k, const struct cast_answer *a)
{
	if (a->status != 200 || !a->body.len || headers_get(a->fields, STR("Content-Encoding")).len)
		return false;
	if (k->is_stream)
		return stream_is_whole(&k->watch);
	if (forbids_keeping(a->fields))
		return false;
	return is_json(a->fields) ? whole_is_answer(k->dialect, a->body) : !whole_is_error(a->body);
}

static char *field_of(const struct headers *fields, struct str name)
{
	struct str value = headers_get(fields, name);

	return value.len ? str_dup(value) : NULL;
}

/* The task of what was kept, as far as it can be told: from the path, the Hub's information, or the answer itself. */
static struct str task_of(const struct keeping *k, struct str body)
{
	if (k->task[0])
		return str_from(k->task);
	switch (k->dialect) {
	case DIALECT_CHAT:
	case DIALECT_RESPONSES:
	case DIALECT_MESSAGES:
		return STR("conversational");
	case DIALECT_COMPLETIONS:
	case DIALECT_GENERATE:
		return STR("text-generation");
	case DIALECT_EMBEDDINGS:
		return STR("feature-extraction");
	case DIALECT_AUDIO:
		return STR("automatic-speech-recognition");
	default:
		break;
	}
	if (str_starts_with(body, STR("[[{\"label\"")))
		return STR("text-classification");
	if (str_starts_with(body, STR("[{\"generated_text\"")))
		return STR("text-generation");
	return STR("");
}

static void learn_doc(struct keeping *k, const struct digest *key, const struct doc *doc)
{
	SCOPED_BUF name;
	char hex[2 * SHA256_BYTES + 1];

	format_hex(key->bytes, SHA256_BYTES, hex);
	buf_init(&name, 128);
	buf_appendf(&name, "m:%s", hex);
	index_learn(k->infer->opts.index, &(struct fact){ .kind = FACT_DOC,
							  .repo = STR(INFER_REPO),
							  .path = buf_str(&name),
							  .at = doc->fetched_at,
							  .doc = doc });
}

/*
 * Makers of images: who takes any type, and who wants just the one that came, ask for the same. So either finds what the other
 * was given.
 */
static void learn_other_type(struct keeping *k, const struct record *record, const struct doc *doc)
{
	struct str type = str_from(record->type ? record->type : ""), rest;
	struct digest other;

	(void)str_cut(type, ';', &type, &rest);
	type = str_trim(type);
	if (!k->is_image || !type.len)
		return;
	if (!k->accept[0])
		key_for_type(&k->base, type, &other);
	else if (str_eq_nocase(type, str_from(k->accept)))
		other = k->base;
	else
		return;
	learn_doc(k, &other, doc);
}

int answer_put(const struct infer *i, struct bytes *bytes, struct blob_meta *ret)
{
	struct store_put put = { .store = i->opts.store, .need_room = i->opts.need_room, .ctx = i->opts.ctx };

	return store_put_making_room(put, bytes, ret);
}

static void learn(struct keeping *k, const struct record *record, struct bytes *bytes, struct str body)
{
	struct blob_meta meta;
	struct doc doc = { .fetched_at = record->made_at, .content_type = record->type };
	struct str own = { (const char *)k->partition, SUBJECT_BYTES };
	int r = answer_put(k->infer, bytes, &meta);

	if (r < 0) {
		log_warning("infer", "an answer could not be kept", LOG_STR("model", str_from(k->model)),
			    LOG_ERR("error", r), LOG_END);
		return;
	}
	doc.body = meta.sha256;
	doc.body_size = meta.size;
	learn_doc(k, &k->key, &doc);
	learn_other_type(k, record, &doc);
	known_put(k->infer, k->is_shared ? STR("") : own, str_from(k->model), task_of(k, body), &doc);
}

void keeping_ended(void *ctx, const struct cast_answer *a)
{
	struct keeping *k = ctx;
	struct record record = { .form = k->is_stream         ? FORM_STREAM
					 : is_json(a->fields) ? FORM_WHOLE
							      : FORM_RAW,
				 .dialect = k->dialect,
				 .repeat = k->repeat,
				 .made_at = a->asked_at };
	SCOPED(bytes_unref) struct bytes *bytes = NULL;
	SCOPED_BUF text;
	size_t len;
	char *data;

	buf_init(&text, RECORD_LINE_MAX + a->body.len);
	if (!is_worth_keeping(k, a))
		return;
	record.has_usage = k->watch.saw_usage;
	record.type = field_of(a->fields, STR("Content-Type"));
	record.sha = field_of(a->fields, STR("X-Sha"));
	record.compute_time = field_of(a->fields, STR("X-Compute-Time"));
	record.request_id = field_of(a->fields, STR("X-Request-Id"));
	record.model = xstrdup(k->model);
	record.served_by = xstrdup(k->served_by);
	record_write(&record, &text);
	if (text.len < RECORD_LINE_MAX && buf_append_str(&text, a->body) == 0) {
		data = buf_take(&text, &len);
		bytes = bytes_new_take(data, len);
		learn(k, &record, bytes, a->body);
	}
	record_done(&record);
}
