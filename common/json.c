/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json - reading trees, and writing strings. Over cJSON.
 *
 * The only file that includes cJSON.h. It reads more than JSON (control bytes, any white space), cuts strings
 * at \u0000, refuses halves of UTF-16 pairs, which JavaScript's JSON.stringify() writes, and recurses up to
 * 1000 deep. So a scan of our own comes first: it refuses the former, mends the latter, and knows depth and
 * size before anything is allocated.
 * Threads   a tree belongs to one thread at a time; reading it from several is fine.
 */
#include "common/json.h"

#include <cjson/cJSON.h>
#include <errno.h>

#include "common/banned.h"

#define DEPTH_MAX 64
/*
 * A node takes some 80 bytes: 160 MB at the very worst. The largest listings we know have 10^5 values (U06).
 */
#define VALUES_MAX 2000000
#define U64_EXACT_MAX 9007199254740992.0 /* 2^53: above it a double no longer tells neighbours apart */

/* struct json has no body: it is a cJSON node under a name that others may say. */
static const cJSON *node(const struct json *v)
{
	return (const cJSON *)v;
}

static const struct json *value(const cJSON *n)
{
	return (const struct json *)n;
}

struct scan {
	struct str text;
	size_t at;
	char *mended; /* owned; a copy of text with mended escapes, or NULL while there was nothing to mend */
};

/* The code of a \uXXXX at this offset, or -1. */
static int escape_at(struct str text, size_t at)
{
	uint8_t code[2];

	if (text.len - at < 6 || text.ptr[at] != '\\' || text.ptr[at + 1] != 'u')
		return -1;
	if (parse_hex((struct str){ text.ptr + at + 2, 4 }, code, 2) < 0)
		return -1;
	return code[0] << 8 | code[1];
}

static bool is_high_half(int code)
{
	return code >= 0xd800 && code <= 0xdbff;
}

static bool is_low_half(int code)
{
	return code >= 0xdc00 && code <= 0xdfff;
}

/* At "\u": steps over the escape, mending it if need be. The replacement is as long as what it replaces. */
static int scan_unicode_escape(struct scan *s)
{
	int code = escape_at(s->text, s->at);

	if (code < 0)
		return -EINVAL;
	if (is_high_half(code) && s->text.len - s->at >= 12 && is_low_half(escape_at(s->text, s->at + 6))) {
		s->at += 12;
		return 0;
	}
	if (code == 0 || is_high_half(code) || is_low_half(code)) {
		if (!s->mended)
			s->mended = str_dup(s->text);
		memcpy(s->mended + s->at, "\\ufffd", 6);
	}
	s->at += 6;
	return 0;
}

/* After the opening quote; leaves s->at after the closing one. */
static int scan_string(struct scan *s)
{
	while (s->at < s->text.len) {
		unsigned char c = (unsigned char)s->text.ptr[s->at];

		if (c == '"') {
			s->at++;
			return 0;
		}
		if (c < ' ')
			return -EINVAL;
		if (c != '\\') {
			s->at++;
			continue;
		}
		if (s->at + 1 >= s->text.len)
			return -EINVAL;
		if (s->text.ptr[s->at + 1] != 'u')
			s->at += 2;
		else if (scan_unicode_escape(s) < 0)
			return -EINVAL;
	}
	return -EINVAL;
}

/* Not the grammar, which cJSON checks: only what must be known before it runs. */
static int scan_text(struct scan *s)
{
	unsigned depth = 0;
	size_t values = 1;

	while (s->at < s->text.len) {
		unsigned char c = (unsigned char)s->text.ptr[s->at++];

		if (c == '"') {
			if (scan_string(s) < 0)
				return -EINVAL;
		} else if (c == '{' || c == '[') {
			if (++depth > DEPTH_MAX || ++values > VALUES_MAX)
				return -EINVAL;
		} else if (c == '}' || c == ']') {
			if (depth-- == 0)
				return -EINVAL;
		} else if (c == ',') {
			if (++values > VALUES_MAX)
				return -EINVAL;
		} else if (c < ' ' && c != '\n' && c != '\r' && c != '\t') {
			return -EINVAL;
		}
	}
	return 0;
}

static bool is_blank(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!strchr(" \t\r\n", s.ptr[i]) || !s.ptr[i])
			return false;
	return true;
}

int json_parse(struct str text, struct json **ret_root)
{
	struct scan s = { .text = text };
	SCOPED_FREE char *mended = NULL;
	const char *end = NULL;
	cJSON *root;
	int r = scan_text(&s);

	mended = s.mended;
	if (r < 0 || text.len == 0)
		return -EINVAL;
	if (mended)
		text.ptr = mended;
	root = cJSON_ParseWithLengthOpts(text.ptr, text.len, &end, 0);
	if (!root)
		return -EINVAL;
	if (!is_blank(str_from_range(end, text.ptr + text.len))) {
		cJSON_Delete(root);
		return -EINVAL;
	}
	*ret_root = (struct json *)root;
	return 0;
}

void json_free(struct json *root)
{
	cJSON_Delete((cJSON *)root);
}

bool json_is_object(const struct json *v)
{
	return cJSON_IsObject(node(v));
}

bool json_is_array(const struct json *v)
{
	return cJSON_IsArray(node(v));
}

bool json_is_string(const struct json *v)
{
	return cJSON_IsString(node(v));
}

const struct json *json_get(const struct json *v, const char *member)
{
	if (!json_is_object(v))
		return NULL;
	return value(cJSON_GetObjectItemCaseSensitive(node(v), member));
}

struct str json_string(const struct json *v)
{
	return json_is_string(v) ? str_from(node(v)->valuestring) : STR("");
}

bool json_is_true(const struct json *v)
{
	return cJSON_IsTrue(node(v));
}

bool json_is_false(const struct json *v)
{
	return cJSON_IsFalse(node(v));
}

int json_u64(const struct json *v, uint64_t *ret_value)
{
	double number;

	if (!cJSON_IsNumber(node(v)))
		return -EINVAL;
	number = node(v)->valuedouble;
	/* written so that a NaN fails too */
	if (!(number >= 0 && number <= U64_EXACT_MAX) || (double)(uint64_t)number != number)
		return -EINVAL;
	*ret_value = (uint64_t)number;
	return 0;
}

size_t json_count(const struct json *v)
{
	size_t count = 0;

	for (const struct json *c = json_first(v); c; c = json_next(c))
		count++;
	return count;
}

const struct json *json_first(const struct json *v)
{
	return json_is_object(v) || json_is_array(v) ? value(node(v)->child) : NULL;
}

const struct json *json_next(const struct json *v)
{
	return v ? value(node(v)->next) : NULL;
}

struct str json_name(const struct json *v)
{
	return v && node(v)->string ? str_from(node(v)->string) : STR("");
}

static void write_escaped(struct buf *out, unsigned char c)
{
	static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *found = c ? strchr(plain, c) : NULL;

	if (found)
		buf_appendf(out, "\\%c", letters[found - plain]);
	else
		buf_appendf(out, "\\u%04x", c);
}

int json_write_string(struct buf *out, struct str s)
{
	buf_append_char(out, '"');
	while (s.len) {
		unsigned char c = (unsigned char)s.ptr[0];
		uint32_t code;
		size_t len = str_utf8_next(s, &code);

		if (len == 0) {
			buf_append_str(out, STR("\xef\xbf\xbd")); /* U+FFFD for each byte that is no text */
			len = 1;
		} else if (c < ' ' || c == '"' || c == '\\' || c == 0x7f) {
			write_escaped(out, c);
		} else {
			buf_append(out, s.ptr, len);
		}
		s.ptr += len;
		s.len -= len;
	}
	return buf_append_char(out, '"');
}
