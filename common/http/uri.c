/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uri - request targets, percent coding, origins, references. Pure.
 *
 * Never     decodes twice, treats '+' as a space, or normalises Unicode: each would make two names of the Hub
 *           one.
 * Threads   any.
 * Promises  (1) what was decoded is UTF-8 without NUL.
 *           (2) a failed call leaves its buf at the length it had.
 */
#include "common/http/uri.h"

#include <assert.h>
#include <errno.h>

#include "common/banned.h"

#define REPO_PATH_BYTES_MAX 4096

static bool is_utf8(struct str s)
{
	while (s.len) {
		uint32_t code;
		size_t len = (unsigned char)s.ptr[0] < 0x80
				     ? 1
				     : str_utf8_next(s, &code); /* nearly all are ASCII */

		if (len == 0)
			return false;
		s.ptr += len;
		s.len -= len;
	}
	return true;
}

static void truncate_to(struct buf *out, size_t len)
{
	out->len = len;
	if (out->bytes)
		out->bytes[len] = 0;
}

/* Only the bytes; whether they are text is the caller's question. */
static int decode_bytes(struct str raw, struct buf *out)
{
	if (!memchr(raw.ptr, '%', raw.len))
		return memchr(raw.ptr, 0, raw.len) ? -EINVAL : buf_append_str(out, raw);
	for (size_t i = 0; i < raw.len; i++) {
		char c = raw.ptr[i];

		if (c == '%') {
			uint8_t byte;

			if (raw.len - i < 3 || parse_hex((struct str){ raw.ptr + i + 1, 2 }, &byte, 1) < 0)
				return -EINVAL;
			c = (char)byte;
			i += 2;
		}
		if (c == 0)
			return -EINVAL;
		if (buf_append_char(out, c) < 0)
			return buf_error(out);
	}
	return 0;
}

int uri_decode_segment(struct str raw, struct buf *out)
{
	size_t start = out->len;
	int r = decode_bytes(raw, out);

	if (r == 0 && !is_utf8((struct str){ buf_str(out).ptr + start, out->len - start }))
		r = -EINVAL;
	if (r < 0)
		truncate_to(out, start);
	return r;
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
	       c == '.' || c == '_' || c == '~';
}

int uri_encode(struct str text, const char *keep, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t start = out->len;

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		char escape[3] = { '%', digits[c >> 4], digits[c & 15] };

		if (is_unreserved((char)c) || (keep && c && strchr(keep, c)))
			buf_append_char(out, (char)c);
		else
			buf_append(out, escape, sizeof(escape));
	}
	if (buf_error(out))
		truncate_to(out, start);
	return buf_error(out);
}

int uri_encode_path(struct str path, struct buf *out)
{
	return uri_encode(path, "/", out);
}

void uri_split_target(struct str target, struct str *ret_path, struct str *ret_query)
{
	str_cut(target, '?', ret_path, ret_query);
}

bool uri_next_param(struct str *cursor, struct str *ret_name, struct str *ret_value)
{
	struct str param = { NULL, 0 };

	while (cursor->len && param.len == 0)
		str_cut(*cursor, '&', &param, cursor);
	if (param.len == 0)
		return false;
	str_cut(param, '=', ret_name, ret_value);
	return true;
}

struct str uri_param(struct str query, struct str name)
{
	struct str found, value;

	while (uri_next_param(&query, &found, &value))
		if (str_eq(found, name))
			return value;
	return (struct str){ NULL, 0 };
}

static bool is_dots(struct str s)
{
	return str_eq(s, STR(".")) || str_eq(s, STR(".."));
}

/*
 * A name of one level, also for those who take '\' as a separator; a '\' inside a name is the Hub's business.
 */
static bool is_clean_segment(struct str segment)
{
	struct str part;

	if (segment.len == 0 || segment.ptr[0] == '\\')
		return false;
	while (segment.len) {
		str_cut(segment, '\\', &part, &segment);
		if (is_dots(part))
			return false;
	}
	return true;
}

bool uri_is_clean_path(struct str decoded_path)
{
	struct str rest = decoded_path, segment;

	if (rest.len == 0 || rest.len > REPO_PATH_BYTES_MAX || memchr(rest.ptr, 0, rest.len))
		return false;
	while (str_cut(rest, '/', &segment, &rest))
		if (!is_clean_segment(segment))
			return false;
	return is_clean_segment(segment); /* the last one; empty after a trailing slash */
}
