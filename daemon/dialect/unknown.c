/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/unknown - a server refuses a call since it does not know some of its parameters: which, and the call without them
 * (inference-protocol 4.2).
 *
 * Servers say it in many ways, and name what they do not know. A member counts as unknown when its name stands in the refusal as a
 * word and the refusal says that something is not known; what a call is about is never left away.
 */
#include "dialect/priv.h"

#include <errno.h>
#include <strings.h>

#include "common/banned.h"

static bool has_words(struct str text, const char *words)
{
	size_t len = strlen(words);

	for (size_t i = 0; i + len <= text.len; i++)
		if (strncasecmp(text.ptr + i, words, len) == 0)
			return true;
	return false;
}

static bool is_about_unknown(struct str refusal)
{
	static const char *const ways[] = { "unknown",        "unrecognized",         "unrecognised",
					    "not permitted",  "extra inputs",         "extra fields",
					    "unexpected",     "unsupported",          "not supported",
					    "not recognized", "not used by the model" };

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (has_words(refusal, ways[i]))
			return true;
	return false;
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool stands_in(struct str text, struct str name)
{
	const char *at = text.ptr, *end = text.ptr + text.len;

	while (name.len && at < end && (at = memmem(at, (size_t)(end - at), name.ptr, name.len))) {
		bool begins = at == text.ptr || !is_name_byte(at[-1]);

		at += name.len;
		if (begins && (at == end || !is_name_byte(*at)))
			return true;
	}
	return false;
}

/* What the call is about; and names of our own that stand in many a sentence. */
static bool is_needed(struct str name)
{
	static const char *const names[] = { "model",  "messages",   "prompt", "input",  "inputs",
					     "query",  "texts",      "text",   "source", "documents",
					     "stream", "parameters", "tokens", "options" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq(name, str_from(names[i])))
			return true;
	return false;
}

static void list_unknown(struct str object, struct str refusal, struct buf *out)
{
	struct str rest, name, value;

	if (!object.len || object.ptr[0] != '{' || json_members(object, &rest) < 0)
		return;
	while (json_next_member(&rest, &name, &value) == 1) {
		struct str inside = raw_inside(name);

		if (!inside.len || memchr(inside.ptr, '\\', inside.len) || is_needed(inside) ||
		    !stands_in(refusal, inside))
			continue;
		buf_append_str(out, inside);
		buf_append_char(out, '\n');
	}
}

int unknown_members(struct str body, struct str refusal, struct buf *out)
{
	body = raw_trim(body);
	if (!body.len || body.ptr[0] != '{' || !raw_is_json(body) || !is_about_unknown(refusal))
		return -ENODATA;
	list_unknown(body, refusal, out);
	list_unknown(raw_get(body, "parameters"), refusal, out);
	return buf_error(out) ? -E2BIG : out->len ? 0 : -ENODATA;
}

static bool is_listed(struct str names, struct str name)
{
	struct str one;

	while (names.len) {
		(void)str_cut(names, '\n', &one, &names);
		if (one.len && str_eq(one, raw_inside(name)))
			return true;
	}
	return false;
}

static int put_without(struct str object, struct str names, bool is_outermost, struct buf *out)
{
	struct str rest, name, value;

	if (json_members(object, &rest) < 0)
		return -EINVAL;
	buf_append_char(out, '{');
	while (json_next_member(&rest, &name, &value) == 1) {
		bool is_inner = is_outermost && json_is_name(name, "parameters") && value.ptr[0] == '{';

		if (is_listed(names, name))
			continue;
		put_raw(out, name, is_inner ? STR("") : value);
		if (is_inner && put_without(value, names, false, out) < 0)
			return -EINVAL;
	}
	return buf_append_char(out, '}');
}

int without_members(struct str body, struct str names, struct buf *out)
{
	body = raw_trim(body);
	if (!body.len || body.ptr[0] != '{' || !raw_is_json(body))
		return -EINVAL;
	return put_without(body, names, true, out) < 0 ? -EINVAL : buf_error(out) ? -E2BIG : 0;
}
