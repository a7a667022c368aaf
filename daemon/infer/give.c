/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/give - a kept answer in the form that this client wants (inference-protocol 3.5, 3.7).
 *
 * What was kept in the wanted form goes out as it came, a large one from its file. Another form is made from it once, and lies
 * ready on the shelf.
 */
#include "infer/priv.h"

#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"
#include "common/http/date.h"

/* What may be turned into another form, in memory; and what goes on the shelf. */
#define CONVERT_MAX ((uint64_t)32 << 20)
#define SHELVED_MAX ((uint64_t)256 << 10)

char wanted_form(const struct call *c)
{
	if (c->path.dialect == DIALECT_EMBEDDINGS)
		return c->facts.wants_base64 ? 'b' : 'n';
	if (!c->facts.wants_stream)
		return 'w';
	return c->facts.wants_usage ? 'u' : 's';
}

/* Opens the blob and reads its line. */
static int open_record(struct infer *i, const struct digest *digest, struct kept **ret)
{
	char line[RECORD_LINE_MAX];
	struct kept *k = kept_new(digest);
	ssize_t n = -1;
	int r = store_open_blob(i->opts.store, digest, &k->blob);

	if (r == 0) {
		size_t len = blob_size(k->blob) < sizeof(line) ? (size_t)blob_size(k->blob) : sizeof(line);

		n = blob_read(k->blob, 0, line, len) == 0 ? record_read((struct str){ line, len }, &k->record)
							  : -1;
	}
	/* -ENODATA: it made room for others */
	if (r == -EBADMSG || (r == 0 && n < 0))
		i->opts.on_corrupt(i->opts.ctx, digest);
	if (n <= 0) {
		kept_unref(k);
		return -ENODATA;
	}
	k->line = (size_t)n;
	*ret = k;
	return 0;
}

int record_find(struct infer *i, const struct digest *key, char form, struct kept **ret)
{
	char name[2 + 2 * SHA256_BYTES + 1] = "m:";
	struct doc doc = { 0 };
	int r = 0;

	format_hex(key->bytes, SHA256_BYTES, name + 2);
	if (index_find_doc(i->opts.index, STR(INFER_REPO), str_from(name), &doc) < 0)
		return -ENODATA;
	*ret = shelf_find(&i->shelf, &doc.body, form);
	if (!*ret)
		r = open_record(i, &doc.body, ret);
	if (r == 0)
		index_touch_blob(i->opts.index, &doc.body, clock_wall_s(i->opts.clock));
	doc_done(&doc);
	return r;
}

static bool is_convertible(enum dialect d)
{
	return d != DIALECT_EMBEDDINGS && d != DIALECT_AUDIO && d != DIALECT_OTHER;
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
	return r->form == FORM_STREAM && r->has_usage && !facts->wants_usage &&
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

/* The body in memory, in the wanted form. */
static int make_body(const struct kept *k, const struct call_facts *facts, bool converts, struct bytes **ret)
{
	size_t size = (size_t)(blob_size(k->blob) - k->line), len;
	SCOPED_FREE char *body = xmalloc(size + 1);
	SCOPED_BUF out;
	char *data;
	int r = blob_read(k->blob, k->line, body, size);

	buf_init(&out, 2 * CONVERT_MAX);
	if (r == 0 && converts)
		r = convert(&k->record, facts, (struct str){ body, size }, &out);
	if (r < 0)
		return r;
	data = converts ? buf_take(&out, &len) : TAKE_PTR(body);
	*ret = bytes_new_take(data, converts ? len : size);
	return 0;
}

/* Brings the body into memory where it must change, or is short; it then lies on the shelf for the next who asks. */
static int prepare(struct infer *i, struct kept *k, const struct call *c)
{
	bool converts = must_convert(&k->record, &c->facts);
	uint64_t size = k->blob ? blob_size(k->blob) - k->line : 0;
	int r;

	if (k->body || (!converts && size > SHELVED_MAX))
		return 0;
	if (size > CONVERT_MAX)
		return -E2BIG;
	r = make_body(k, &c->facts, converts, &k->body);
	if (r < 0)
		return r;
	k->blob = blob_unref(k->blob);
	if (bytes_str(k->body).len <= SHELVED_MAX)
		shelf_put(&i->shelf, k, wanted_form(c));
	return 0;
}

void expose_fields(struct reply *r)
{
	(void)headers_set(
		&r->headers, STR("Access-Control-Expose-Headers"),
		STR("X-Request-Id,X-Original-Request-Id,X-Compute-Type,X-Compute-Time,X-Sha,X-Cache,"
		    "X-Inference-Backend,X-HF-Warning,X-Error-Message,Cache-Status,Age,Retry-After,"
		    "Content-Length"));
}

/* What the caches behind us have said of an answer that came now. We are the nearest to the client, and stand last (RFC 9211 2). */
#define HEARD_MAX 2048
static void put_heard(const struct headers *heard, struct buf *out)
{
	for (size_t i = 0; heard && i < heard->count; i++)
		if (str_eq_nocase(str_from(heard->fields[i].name), STR("Cache-Status"))) {
			buf_append_str(out, str_from(heard->fields[i].value));
			buf_append_str(out, STR(", "));
		}
	if (buf_error(out))
		buf_reset(out); /* nobody reads a list as long as that */
}

void set_cache_status(struct reply *r, const char *words, const struct call *c, const struct headers *heard)
{
	char key[17] = "";
	SCOPED_BUF list;

	if (c && c->key_count)
		format_hex(c->keys[0].bytes, 8, key);
	headers_remove(&r->headers, STR("Cache-Status"));
	buf_init(&list, HEARD_MAX);
	put_heard(heard, &list);
	if (key[0])
		(void)headers_addf(&r->headers, "Cache-Status", "%.*shfcache; %s; key=\"%s\"",
				   STR_ARGS(buf_str(&list)), words, key);
	else
		(void)headers_addf(&r->headers, "Cache-Status", "%.*shfcache; %s", STR_ARGS(buf_str(&list)),
				   words);
	r->cache_status = NULL;
}

static struct str type_of(const struct record *record, bool is_stream)
{
	if (is_stream && record->form != FORM_STREAM)
		return STR("text/event-stream");
	if (!is_stream && record->form == FORM_STREAM)
		return STR("application/json");
	return record->type ? str_from(record->type) : STR("application/octet-stream");
}

static void set_optional(struct reply *r, struct str name, const char *value)
{
	if (value)
		(void)headers_set(&r->headers, name, str_from(value));
}

static void set_fields(struct infer *i, struct request *q, const struct call *c, const struct record *record,
		       bool is_stream, bool is_stale, struct reply *r)
{
	int64_t age = clock_wall_s(i->opts.clock) - record->made_at;
	char date[HTTP_DATE_MAX], words[48] = "hit";

	(void)headers_set(&r->headers, STR("Content-Type"), type_of(record, is_stream));
	(void)headers_set(&r->headers, STR("Cache-Control"),
			  is_stream ? STR("no-cache") : STR("private, no-cache"));
	(void)headers_set(&r->headers, STR("X-Compute-Type"), STR("cache"));
	(void)headers_set(&r->headers, STR("X-Cache"), is_stale ? STR("STALE") : STR("HIT"));
	set_optional(r, STR("X-Inference-Backend"), record->served_by ? record->served_by : "upstream");
	if (is_stream)
		(void)headers_set(&r->headers, STR("X-Accel-Buffering"), STR("no"));
	set_optional(r, STR("X-Compute-Time"), record->compute_time);
	set_optional(r, STR("X-Sha"), record->sha);
	set_optional(r, STR("X-Original-Request-Id"), record->request_id);
	if (is_stale) {
		http_date_format(record->made_at, date);
		(void)headers_addf(&r->headers, "X-HF-Warning", "hfcached; replayed answer from %s", date);
	}
	if (request_header(q, STR("Origin")).ptr)
		expose_fields(r);
	r->age_s = age > 0 ? age : 0;
	if (record->repeat == REPEAT_SEEDED && !is_stale)
		(void)snprintf(words, sizeof(words), "hit; ttl=%lld", (long long)(SAMPLE_TTL_S - age));
	set_cache_status(r, is_stale ? "hit; detail=replay" : words, c, NULL);
	q->result = is_stale ? RESULT_STALE_HIT : RESULT_HIT;
}

int record_give(struct infer *i, struct request *q, const struct call *c, struct kept *kept, bool is_stale,
		struct reply *r)
{
	const struct record *record = &kept->record;
	bool is_stream = is_convertible(record->dialect) && record->form != FORM_RAW
				 ? c->facts.wants_stream
				 : record->form == FORM_STREAM;
	int error = prepare(i, kept, c);

	if (error < 0)
		return error;
	if (kept->body)
		reply_bytes(r, 200, NULL, kept->body);
	else
		reply_blob(r, 200, blob_ref(kept->blob), kept->line, blob_size(kept->blob) - kept->line);
	set_fields(i, q, c, record, is_stream, is_stale, r);
	return 0;
}
