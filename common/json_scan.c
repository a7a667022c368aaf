/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan - parts of JSON text as they are written, without a tree: elements, members. The third part of
 * common/json.h.
 *
 * For text that json_parse() has accepted once and that is too long to be read again as a whole. It finds ends
 * by quotes and brackets alone, so it steps over foreign text without ever reading past its end, but does not
 * check it.
 * Owns      nothing beyond a call.
 * Threads   any.
 */
#include "common/json.h"

#include <errno.h>

#include "common/banned.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && is_blank(*at))
		at++;
	return at;
}

/* Behind the quote that ends the string whose first quote is at `at`; NULL when the text ends before. */
static const char *skip_string(const char *at, const char *end)
{
	for (at++; at < end; at++) {
		if (*at == '"')
			return at + 1;
		if (*at == '\\' && ++at == end)
			break;
	}
	return NULL;
}

static bool ends_scalar(char c)
{
	return c == ',' || c == ']' || c == '}' || c == ':' || is_blank(c);
}

/* Behind the value at `at`; NULL when the text ends before it is over. */
static const char *skip_value(const char *at, const char *end)
{
	unsigned depth = 0;

	if (at < end && *at != '"' && *at != '{' && *at != '[') {
		while (at < end && !ends_scalar(*at))
			at++;
		return at < end ? at : NULL;
	}
	while (at < end) {
		if (*at == '"') {
			at = skip_string(at, end);
			if (!at)
				return NULL;
		} else {
			depth += *at == '{' || *at == '[';
			depth -= depth > 0 && (*at == '}' || *at == ']');
			at++;
		}
		if (depth == 0)
			return at;
	}
	return NULL;
}

int json_next_element(struct str *rest, struct str *ret_element)
{
	const char *end = rest->ptr + rest->len, *start = skip_blanks(rest->ptr, end), *after, *next;

	if (start == end)
		return -EAGAIN;
	if (*start == ']')
		return 0;
	after = skip_value(start, end);
	next = after ? skip_blanks(after, end) : end;
	if (next == end)
		return -EAGAIN;
	if (after == start || (*next != ',' && *next != ']'))
		return -EINVAL;
	*ret_element = str_from_range(start, after);
	*rest = str_from_range(*next == ',' ? next + 1 : next, end);
	return 1;
}

/* A name may be written with escapes and still be the name. */
static bool is_name(struct str raw, const char *name)
{
	SCOPED_BUF room = { 0 };

	if (!memchr(raw.ptr, '\\', raw.len))
		return str_eq((struct str){ raw.ptr + 1, raw.len - 2 }, str_from(name));
	buf_init(&room, raw.len);
	return json_unquote(raw, &room) == 0 && str_eq(buf_str(&room), str_from(name));
}

int json_next_member(struct str *rest, struct str *ret_name, struct str *ret_value)
{
	const char *end = rest->ptr + rest->len, *name = skip_blanks(rest->ptr, end), *at, *value, *after,
		   *next;

	if (name == end || *name == '}')
		return 0;
	at = *name == '"' ? skip_string(name, end) : NULL;
	value = at ? skip_blanks(at, end) : end;
	if (value == end || *value != ':')
		return -EINVAL;
	value = skip_blanks(value + 1, end);
	after = skip_value(value, end);
	next = after ? skip_blanks(after, end) : end;
	if (next == end || after == value || (*next != ',' && *next != '}'))
		return -EINVAL;
	*ret_name = str_from_range(name, at);
	*ret_value = str_from_range(value, after);
	*rest = str_from_range(*next == ',' ? next + 1 : next, end);
	return 1;
}

int json_members(struct str object, struct str *ret_rest)
{
	const char *end = object.ptr + object.len, *at = skip_blanks(object.ptr, end);

	if (at == end || *at != '{')
		return -EINVAL;
	*ret_rest = str_from_range(at + 1, end);
	return 0;
}

bool json_is_name(struct str raw, const char *name)
{
	return is_name(raw, name);
}

int json_find_member(struct str object, const char *name, struct str *ret_raw)
{
	struct str rest, key, value;
	int r = json_members(object, &rest);

	if (r < 0)
		return r;
	while ((r = json_next_member(&rest, &key, &value)) == 1)
		if (is_name(key, name)) {
			*ret_raw = value;
			return 0;
		}
	return r < 0 ? r : -ENOENT;
}
