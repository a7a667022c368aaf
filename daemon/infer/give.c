/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/give - a kept answer in the form that this client wants (inference-protocol 3.5, 3.7).
 *
 * What was kept in the wanted form goes out as it came, from its file; another form is made from it each time.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/http/date.h"

/* What may be turned into another form, in memory. */
#define CONVERT_MAX ((uint64_t)32 << 20)

int record_find(struct infer *i, const struct digest *key, struct record *ret, struct blob **ret_blob,
		size_t *ret_line)
{
	char hex[2 * SHA256_BYTES + 1], line[RECORD_LINE_MAX];
	struct blob *blob = NULL;
	struct doc doc = { 0 };
	SCOPED_BUF name;
	ssize_t n = -1;
	int r;

	format_hex(key->bytes, SHA256_BYTES, hex);
	buf_init(&name, 128);
	buf_appendf(&name, "m:%s", hex);
	r = index_find_doc(i->opts.index, STR(INFER_REPO), buf_str(&name), &doc);
	if (r < 0)
		return -ENODATA;
	r = store_open_blob(i->opts.store, &doc.body, &blob);
	if (r == 0) {
		size_t len = blob_size(blob) < sizeof(line) ? (size_t)blob_size(blob) : sizeof(line);

		n = blob_read(blob, 0, line, len) == 0 ? record_read((struct str){ line, len }, ret) : -1;
	}
	if (r == -EBADMSG || r == -ENODATA || (r == 0 && n < 0))
		i->opts.on_corrupt(i->opts.ctx, &doc.body);
	if (n <= 0) {
		blob_unref(blob);
		doc_done(&doc);
		return -ENODATA;
	}
	index_touch_blob(i->opts.index, &doc.body, clock_wall_s(i->opts.clock));
	doc_done(&doc);
	*ret_blob = blob;
	*ret_line = (size_t)n;
	return 0;
}

static bool is_convertible(enum dialect d)
{
	return d != DIALECT_EMBEDDINGS && d != DIALECT_OTHER;
}

/* Must the bytes change for this client? */
static bool must_convert(const struct record *r, const struct call_facts *facts)
{
	if (r->form == FORM_RAW)
		return false;
	if (r->dialect == DIALECT_EMBEDDINGS)
		return true;
	if (!is_convertible(r->dialect))
		return false;
	if (facts->wants_stream != (r->form == FORM_STREAM))
		return true;
	return r->form == FORM_STREAM && !facts->wants_usage &&
	       (r->dialect == DIALECT_CHAT || r->dialect == DIALECT_COMPLETIONS);
}

static int convert(const struct record *r, const struct call_facts *facts, struct str body, struct buf *out)
{
	if (r->dialect == DIALECT_EMBEDDINGS)
		return embeddings_convert(body, facts->wants_base64, out);
	if (facts->wants_stream && r->form == FORM_WHOLE)
		return whole_split(r->dialect, body, facts->wants_usage, out);
	if (!facts->wants_stream)
		return stream_merge(r->dialect, body, out);
	return stream_without_usage(body, out);
}

static int give_converted(const struct record *record, const struct call_facts *facts, struct blob *blob,
			  size_t line, struct reply *r)
{
	uint64_t size = blob_size(blob) - line;
	SCOPED_FREE char *body = NULL;
	SCOPED_BUF out;
	int error;

	buf_init(&out, 2 * CONVERT_MAX);
	if (size > CONVERT_MAX)
		return -E2BIG;
	body = xmalloc((size_t)size + 1);
	error = blob_read(blob, line, body, (size_t)size);
	if (error < 0)
		return error;
	error = convert(record, facts, (struct str){ body, (size_t)size }, &out);
	if (error == 0)
		reply_text(r, 200, NULL, buf_str(&out));
	return error;
}

static void set_fields(struct infer *i, struct request *q, const struct record *record, bool is_stream,
		       bool is_stale, struct reply *r)
{
	int64_t age = clock_wall_s(i->opts.clock) - record->made_at;
	char date[HTTP_DATE_MAX];

	(void)headers_set(&r->headers, STR("Content-Type"),
			  is_stream && record->form != FORM_STREAM    ? STR("text/event-stream")
			  : !is_stream && record->form == FORM_STREAM ? STR("application/json")
			  : record->type                              ? str_from(record->type)
								      : STR("application/octet-stream"));
	(void)headers_set(&r->headers, STR("Cache-Control"),
			  is_stream ? STR("no-cache") : STR("private, no-cache"));
	(void)headers_set(&r->headers, STR("X-Compute-Type"), STR("cache"));
	(void)headers_set(&r->headers, STR("X-Cache"), is_stale ? STR("STALE") : STR("HIT"));
	(void)headers_set(&r->headers, STR("X-Inference-Backend"),
			  record->served_by ? str_from(record->served_by) : STR("upstream"));
	if (is_stream)
		(void)headers_set(&r->headers, STR("X-Accel-Buffering"), STR("no"));
	if (record->compute_time)
		(void)headers_set(&r->headers, STR("X-Compute-Time"), str_from(record->compute_time));
	if (record->sha)
		(void)headers_set(&r->headers, STR("X-Sha"), str_from(record->sha));
	if (record->request_id)
		(void)headers_set(&r->headers, STR("X-Original-Request-Id"), str_from(record->request_id));
	if (is_stale) {
		http_date_format(record->made_at, date);
		(void)headers_addf(&r->headers, "X-HF-Warning", "hfcached; replayed answer from %s", date);
	}
	r->age_s = age > 0 ? age : 0;
	r->cache_status = is_stale ? "hit; detail=replay" : "hit";
	q->result = is_stale ? RESULT_STALE_HIT : RESULT_HIT;
}

int record_give(struct infer *i, struct request *q, const struct record *record, struct blob *take_blob,
		size_t line, const struct call_facts *facts, bool is_stale, struct reply *r)
{
	bool is_stream = record->form == FORM_STREAM;
	int error = 0;

	if (must_convert(record, facts)) {
		error = give_converted(record, facts, take_blob, line, r);
		is_stream = facts->wants_stream && is_convertible(record->dialect);
		blob_unref(take_blob);
	} else {
		reply_blob(r, 200, take_blob, line, blob_size(take_blob) - line);
	}
	if (error < 0)
		return error;
	set_fields(i, q, record, is_stream, is_stale, r);
	return 0;
}
