/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/lfs_text - reading with the tree of values, editing along the text itself.
 */
#include "hub/lfs_text.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/json.h"

#include "common/banned.h"

#define HREF_MAX 8192

static int oid_of(const struct json *object, struct digest *ret_oid)
{
	struct str hex = json_string(json_get(object, "oid"));

	return str_is_lower_hex(hex) ? parse_hex(hex, ret_oid->bytes, SHA256_BYTES) : -EINVAL;
}

/* --- the question --- */

static enum lfs_operation operation_of(const struct json *root)
{
	struct str operation = json_string(json_get(root, "operation"));
	const struct json *algorithm = json_get(root, "hash_algo");

	if (!json_is_array(json_get(root, "objects")))
		return LFS_OTHER;
	if (str_eq(operation, STR("upload")))
		return LFS_UPLOAD;
	if (!str_eq(operation, STR("download")) ||
	    (algorithm && !str_eq(json_string(algorithm), STR("sha256")) &&
	     !str_eq(json_string(algorithm), STR("sha_256"))) /* as one client spells it */)
		return LFS_OTHER;
	return LFS_DOWNLOAD;
}

static void read_objects(const struct json *list, struct lfs_question *q)
{
	size_t count = json_count(list);

	q->objects = count ? xcalloc(count, sizeof(*q->objects)) : NULL;
	q->is_plain = count > 0;
	for (const struct json *o = json_first(list); o; o = json_next(o)) {
		struct lfs_wanted *wanted = &q->objects[q->count];

		if (json_is_object(o) && oid_of(o, &wanted->oid) == 0 &&
		    json_u64(json_get(o, "size"), &wanted->size) == 0)
			q->count++;
		else
			q->is_plain = false;
	}
}

void lfs_question_read(struct str text, struct lfs_question *ret_question)
{
	SCOPED(json_free) struct json *root = NULL;
	struct lfs_question q = { 0 };

	if (json_parse(text, &root) == 0 && json_is_object(root))
		q.operation = operation_of(root);
	if (q.operation == LFS_DOWNLOAD && json_find_member(text, "objects", &q.written) == 0) {
		read_objects(json_get(root, "objects"), &q);
		if (json_find_member(text, "ref", &q.ref) < 0)
			q.ref = STR("");
	} else if (q.operation == LFS_DOWNLOAD) {
		q.operation = LFS_OTHER;
	}
	*ret_question = q;
}

void lfs_question_done(struct lfs_question *q)
{
	free(q->objects);
	*q = (struct lfs_question){ 0 };
}

int lfs_question_write(const struct lfs_question *q, struct buf *out)
{
	buf_append_str(out, STR("{\"operation\":\"download\",\"transfers\":[\"basic\"],"));
	if (q->ref.len) {
		buf_append_str(out, STR("\"ref\":"));
		buf_append_str(out, q->ref);
		buf_append_char(out, ',');
	}
	buf_append_str(out, STR("\"objects\":"));
	buf_append_str(out, q->written);
	return buf_append_str(out, STR(",\"hash_algo\":\"sha256\"}"));
}

int lfs_question_write_one(const struct digest *oid, uint64_t size, struct buf *out)
{
	struct lfs_question q = { 0 };
	char hex[2 * SHA256_BYTES + 1];
	SCOPED_BUF objects;

	buf_init(&objects, 256);
	format_hex(oid->bytes, SHA256_BYTES, hex);
	buf_appendf(&objects, "[{\"oid\":\"%s\",\"size\":%llu}]", hex, (unsigned long long)size);
	q.written = buf_str(&objects);
	return lfs_question_write(&q, out);
}

/* --- the answer --- */

static int64_t expiry_of(const struct json *action, int64_t now)
{
	struct str text = json_string(json_get(action, "expires_at"));
	int64_t at = INT64_MAX;
	uint64_t seconds;

	if (text.len && lfs_time_parse(text, &at) < 0)
		at = now; /* a time that cannot be read is over */
	if (json_u64(json_get(action, "expires_in"), &seconds) == 0 && seconds > 0 && seconds < INT32_MAX &&
	    now + (int64_t)seconds < at)
		at = now + (int64_t)seconds;
	return at;
}

static bool read_given(const struct json *object, int64_t now, struct lfs_given *g)
{
	const struct json *action = json_get(json_get(object, "actions"), "download"),
			  *error = json_get(object, "error");
	uint64_t code;

	*g = (struct lfs_given){ .expires_at = INT64_MAX };
	if (!json_is_object(object) || oid_of(object, &g->oid) < 0)
		return false;
	(void)json_u64(json_get(object, "size"), &g->size);
	g->error_message = json_string(json_get(error, "message"));
	if (json_u64(json_get(error, "code"), &code) == 0 && code >= 400 && code <= 599)
		g->error_code = (int)code;
	if (json_is_object(action) && json_string(json_get(action, "href")).len && !g->error_code) {
		g->href = json_string(json_get(action, "href"));
		g->expires_at = expiry_of(action, now);
		return json_u64(json_get(object, "size"), &g->size) == 0;
	}
	return true;
}

int lfs_answer_each(struct str text, int64_t now, int (*visit)(void *ctx, const struct lfs_given *given),
		    void *ctx)
{
	SCOPED(json_free) struct json *root = NULL;
	struct str transfer;
	int r = 0;

	if (json_parse(text, &root) < 0 || !json_is_object(root) || !json_is_array(json_get(root, "objects")))
		return -EINVAL;
	transfer = json_string(json_get(root, "transfer"));
	if (transfer.len && !str_eq(transfer, STR("basic")))
		return -EINVAL;
	for (const struct json *o = json_first(json_get(root, "objects")); o && r == 0; o = json_next(o)) {
		struct lfs_given given;

		if (read_given(o, now, &given))
			r = visit(ctx, &given);
	}
	return r;
}

struct edit {
	void (*url)(void *ctx, const struct lfs_wanted *object, struct buf *out);
	void *ctx;
	const char *copied; /* all of the text before it has been written */
	struct buf *out;
};

static void copy_until(struct edit *e, const char *to)
{
	buf_append(e->out, e->copied, (size_t)(to - e->copied));
	e->copied = to;
}

/* Writes the action, with another href. action is a part of the text that is being copied. */
static int edit_action(struct edit *e, struct str action, const struct lfs_wanted *object)
{
	static const char *const stripped[] = { "header" };
	SCOPED_BUF bare, url;
	struct str href;

	buf_init(&bare, action.len);
	buf_init(&url, HREF_MAX);
	if (json_strip_members(action, stripped, 1, &bare) < 0 ||
	    json_find_member(buf_str(&bare), "href", &href) < 0)
		return -EINVAL;
	e->url(e->ctx, object, &url);
	if (buf_error(&url))
		return buf_error(&url);
	copy_until(e, action.ptr);
	e->copied = action.ptr + action.len;
	buf_append_str(e->out, str_from_range(buf_str(&bare).ptr, href.ptr));
	json_write_string(e->out, buf_str(&url));
	return buf_append_str(e->out,
			      str_from_range(href.ptr + href.len, buf_str(&bare).ptr + buf_str(&bare).len));
}

static int edit_object(struct edit *e, struct str object)
{
	struct str actions, action, raw;
	struct lfs_wanted wanted = { 0 };
	SCOPED_BUF hex;

	buf_init(&hex, 256);
	if (object.len == 0 || object.ptr[0] != '{' || json_find_member(object, "actions", &actions) < 0 ||
	    actions.ptr[0] != '{' || json_find_member(actions, "download", &action) < 0 ||
	    action.ptr[0] != '{')
		return 0;
	if (json_find_member(object, "oid", &raw) < 0 || json_unquote(raw, &hex) < 0 ||
	    !str_is_lower_hex(buf_str(&hex)) || parse_hex(buf_str(&hex), wanted.oid.bytes, SHA256_BYTES) < 0)
		return -EINVAL;
	if (json_find_member(object, "size", &raw) == 0)
		(void)parse_u64(raw, &wanted.size);
	return edit_action(e, action, &wanted);
}

int lfs_answer_edit(struct str text, void (*url)(void *ctx, const struct lfs_wanted *object, struct buf *out),
		    void *ctx, struct buf *out)
{
	SCOPED(json_free) struct json *root = NULL;
	struct edit e = { .url = url, .ctx = ctx, .copied = text.ptr, .out = out };
	struct str list, object;
	int r;

	if (json_parse(text, &root) < 0 || !json_is_object(root) || !json_is_array(json_get(root, "objects")))
		return -EINVAL;
	if (json_find_member(text, "objects", &list) < 0 || list.ptr[0] != '[')
		return -EINVAL;
	list = str_from_range(list.ptr + 1, list.ptr + list.len);
	while ((r = json_next_element(&list, &object)) == 1) {
		r = edit_object(&e, object);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return -EINVAL;
	copy_until(&e, text.ptr + text.len);
	return buf_error(out);
}

/* --- times --- */

/* Digits of a fixed number from the front of *s. -1: they are not there. */
static int take_number(struct str *s, size_t digits)
{
	uint64_t value;

	if (s->len < digits || parse_u64((struct str){ s->ptr, digits }, &value) < 0)
		return -1;
	*s = (struct str){ s->ptr + digits, s->len - digits };
	return (int)value;
}

static bool take_char(struct str *s, char c)
{
	if (s->len == 0 || s->ptr[0] != c)
		return false;
	*s = (struct str){ s->ptr + 1, s->len - 1 };
	return true;
}

/* Days from 1970-01-01 in the Gregorian calendar. */
static int64_t days_before(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 + of_year - 719468;
}

static bool take_fraction(struct str *s)
{
	if (!take_char(s, '.'))
		return true;
	if (take_number(s, 1) < 0)
		return false;
	while (take_number(s, 1) >= 0)
		;
	return true;
}

/* "Z" or "+01:00"; seconds to take off. */
static int take_zone(struct str *s, int64_t *ret_offset)
{
	bool is_east;
	int hours, minutes;

	*ret_offset = 0;
	if (take_char(s, 'Z') || take_char(s, 'z'))
		return 0;
	is_east = take_char(s, '+');
	if (!is_east && !take_char(s, '-'))
		return -EINVAL;
	hours = take_number(s, 2);
	if (!take_char(s, ':'))
		return -EINVAL;
	minutes = take_number(s, 2);
	if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
		return -EINVAL;
	*ret_offset = (is_east ? 1 : -1) * (hours * 3600 + minutes * 60);
	return 0;
}

int lfs_time_parse(struct str s, int64_t *ret_at)
{
	static const struct {
		size_t digits;
		int min, max;
		char end; /* what stands behind it; 0: nothing of its own */
	} parts[] = { { 4, 1970, 9999, '-' }, { 2, 1, 12, '-' }, { 2, 1, 31, 0 },
		      { 2, 0, 23, ':' },      { 2, 0, 59, ':' }, { 2, 0, 60, 0 } };
	int value[6];
	int64_t offset;

	for (size_t i = 0; i < 6; i++) {
		if (i == 3 && !take_char(&s, 'T') && !take_char(&s, 't') && !take_char(&s, ' '))
			return -EINVAL;
		value[i] = take_number(&s, parts[i].digits);
		if (value[i] < parts[i].min || value[i] > parts[i].max)
			return -EINVAL;
		if (parts[i].end && !take_char(&s, parts[i].end))
			return -EINVAL;
	}
	if (!take_fraction(&s) || take_zone(&s, &offset) < 0 || s.len)
		return -EINVAL;
	*ret_at = days_before(value[0], value[1], value[2]) * 86400 + value[3] * 3600 + value[4] * 60 +
		  value[5] - offset;
	return 0;
}
