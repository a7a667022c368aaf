/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply - setters, and the fields that every answer carries or may pass on.
 */
#include "reply/errors.h"

#include <assert.h>
#include "common/alloc.h"

void reply_init(struct reply *r)
{
	*r = (struct reply){ .status = 500, .kind = REPLY_EMPTY, .head_length = -1, .age_s = -1 };
	headers_init(&r->headers);
}

static void drop_body(struct reply *r)
{
	r->bytes = r->bytes ? bytes_unref(r->bytes) : NULL;
	r->blob = r->blob ? blob_unref(r->blob) : NULL;
	reader_free(TAKE_PTR(r->reader));
	relay_free(TAKE_PTR(r->relay));
	ear_free(TAKE_PTR(r->ear));
	dial_free(TAKE_PTR(r->dial));
	r->kind = REPLY_EMPTY;
	r->offset = r->length = 0;
	r->head_length = -1;
}

void reply_done(struct reply *r)
{
	drop_body(r);
	headers_done(&r->headers);
}

void reply_bytes(struct reply *r, int status, const char *content_type, struct bytes *bytes)
{
	drop_body(r);
	r->status = status;
	r->kind = REPLY_BYTES;
	r->bytes = bytes_ref(bytes);
	r->length = bytes_str(bytes).len;
	if (content_type)
		headers_set(&r->headers, STR("Content-Type"), str_from(content_type));
}

void reply_text(struct reply *r, int status, const char *content_type, struct str body)
{
	struct bytes *bytes = bytes_new_copy(body);

	reply_bytes(r, status, content_type, bytes);
	bytes_unref(bytes);
}

void reply_blob(struct reply *r, int status, struct blob *take_blob, uint64_t offset, uint64_t length)
{
	struct bytes *memory = blob_bytes(take_blob);

	assert(offset <= blob_size(take_blob) && length <= blob_size(take_blob) - offset);
	if (memory && length == blob_size(take_blob)) {
		reply_bytes(r, status, NULL, memory);
		blob_unref(take_blob);
		return;
	}
	drop_body(r);
	r->status = status;
	if (memory) {
		struct str all = bytes_str(memory);

		r->kind = REPLY_BYTES;
		r->bytes = bytes_new_copy((struct str){ all.ptr + offset, length });
		r->length = length;
		blob_unref(take_blob);
		return;
	}
	r->kind = REPLY_BLOB;
	r->blob = take_blob;
	r->offset = offset;
	r->length = length;
}

void reply_reader(struct reply *r, int status, struct request *from, uint64_t offset, uint64_t length)
{
	drop_body(r);
	r->status = status;
	r->kind = REPLY_READER;
	r->reader = TAKE_PTR(from->reader);
	r->offset = offset;
	r->length = length;
}

/* Clients take a 3xx without Location for a defect of their own (R14). Whoever passes one on has set it by now. */
static bool is_lost_redirect(int status, const struct headers *headers)
{
	return status >= 300 && status < 400 && status != 304 && !headers_get(headers, STR("Location")).ptr;
}

void reply_relay(struct reply *r, struct request *from, int status, const struct headers *upstream,
		 int64_t content_length)
{
	drop_body(r);
	if (is_lost_redirect(status, &r->headers)) {
		reply_refuse(r, ENDPOINT_API, 502, "upstream sent a redirect that leads nowhere; try again");
		return;
	}
	r->status = status;
	reply_copy_allowed(&r->headers, upstream);
	/* what one token was told is nobody else's, also not for caches between us and the client (hub-protocol 4.3 rule 8) */
	if (from->subject.token)
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	r->kind = REPLY_RELAY;
	r->relay = TAKE_PTR(from->relay);
	r->head_length = content_length;
}

void reply_put_first(struct reply *r, struct bytes *bytes)
{
	assert(r->kind == REPLY_RELAY && !r->bytes);
	r->bytes = bytes_ref(bytes);
}

void reply_ear(struct reply *r, struct request *from, int status, const struct headers *upstream,
	       int64_t content_length)
{
	drop_body(r);
	r->status = status;
	reply_copy_allowed(&r->headers, upstream);
	r->kind = REPLY_EAR;
	r->ear = TAKE_PTR(from->ear);
	r->head_length = content_length;
}

void reply_dial(struct reply *r, struct request *from)
{
	drop_body(r);
	r->status = 101;
	r->kind = REPLY_DIAL;
	r->dial = TAKE_PTR(from->dial);
}

void reply_abort(struct reply *r)
{
	drop_body(r);
	r->kind = REPLY_ABORT;
	r->close = true;
}

/*
 * What upstream may tell our client through us. Never Set-Cookie, Strict-Transport-Security, Alt-Svc,
 * Server, Date, framing
 * fields, Access-Control-* (ours), CDN chatter, or anything that announces Xet. Link and Location are
 * rewritten by hub/.
 */
static const char *const allowed_fields[] = {
	"Accept-Ranges",
	"Allow",
	"Cache-Control",
	"Content-Disposition",
	"Content-Encoding",
	"Content-Language",
	"Content-Range",
	"Content-Type",
	"Docker-Content-Digest",
	"Docker-Distribution-API-Version",
	"ETag",
	"Expires",
	"Last-Modified",
	"RateLimit",
	"RateLimit-Policy",
	"Retry-After",
	"Vary",
	"WWW-Authenticate",
	"LFS-Authenticate",
};
static const char *const refused_prefixes[] = { "X-Xet-",      "X-Amz-Cf", "X-Cache",     "X-Powered-By",
						"X-Hub-Cache", "X-Frame-", "X-Request-Id" };

static bool is_allowed(struct str name)
{
	for (size_t i = 0; i < sizeof(allowed_fields) / sizeof(allowed_fields[0]); i++)
		if (str_eq_nocase(name, str_from(allowed_fields[i])))
			return true;
	if (name.len < 2 || !str_eq_nocase((struct str){ name.ptr, 2 }, STR("X-")))
		return false;
	for (size_t i = 0; i < sizeof(refused_prefixes) / sizeof(refused_prefixes[0]); i++) {
		struct str prefix = str_from(refused_prefixes[i]);

		if (name.len >= prefix.len && str_eq_nocase((struct str){ name.ptr, prefix.len }, prefix))
			return false;
	}
	return true;
}

void reply_copy_allowed(struct headers *to, const struct headers *from)
{
	for (size_t i = 0; i < from->count; i++) {
		struct str name = str_from(from->fields[i].name);

		if (is_allowed(name) && !header_is_hop_by_hop(from, name))
			(void)headers_add(
				to, name,
				str_from(from->fields[i].value)); /* a value we cannot repeat is left out */
	}
}

static void set_default(struct reply *r, struct str name, struct str value)
{
	if (!headers_get(&r->headers, name).ptr)
		(void)headers_add(&r->headers, name, value);
}

static bool names_field(struct str list, struct str field)
{
	struct str word;

	while (list.len) {
		(void)str_cut(list, ',', &word, &list);
		if (str_eq_nocase(str_trim(word), field) || str_eq(str_trim(word), STR("*")))
			return true;
	}
	return false;
}

/* Whatever upstream says: what we answer depends on who asks, and on the page that asks. */
static void add_to_vary(struct reply *r, struct str field)
{
	struct str vary = headers_get(&r->headers, STR("Vary"));
	SCOPED_BUF value = { 0 };

	buf_init(&value, 4096);
	if (!vary.ptr || names_field(vary, field))
		return;
	buf_append_str(&value, vary);
	buf_append_str(&value, STR(", "));
	buf_append_str(&value, field);
	(void)headers_set(&r->headers, STR("Vary"), buf_error(&value) ? STR("*") : buf_str(&value));
}

void reply_add_standard(struct reply *r, const struct request *q)
{
	if (r->kind == REPLY_DIAL)
		return;
	set_default(r, STR("X-Content-Type-Options"), STR("nosniff"));
	set_default(r, STR("Content-Security-Policy"), STR("default-src 'none'; sandbox"));
	set_default(r, STR("Cross-Origin-Resource-Policy"), STR("same-origin"));
	set_default(r, STR("Vary"), STR("Accept, Authorization, Origin"));
	add_to_vary(r, STR("Authorization"));
	add_to_vary(r, STR("Origin"));
	if (request_header(q, STR("Origin")).ptr && !q->is_not_for_pages) {
		set_default(r, STR("Access-Control-Allow-Origin"), STR("*"));
		set_default(r, STR("Access-Control-Expose-Headers"),
			    STR("X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,"
				"Link,Accept-Ranges,"
				"Content-Range,Content-Length,X-Linked-Size,X-Linked-ETag"));
	}
}
