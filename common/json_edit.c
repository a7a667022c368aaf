/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_edit - small edits of foreign JSON text that keep every byte they are not about. The second part of
 * common/json.h.
 *
 * A scanner of our own walks the text once and copies lazily: what was passed is only written when an edit is
 * due or at the end, so an untouched text is one copy. Parsing and printing again would change the forms of
 * numbers (2^53!), the order and the escapes.
 * Owns      nothing beyond a call.
 * Threads   any.
 * Promises  (1) JSON in, JSON out. (2) at most 64 levels deep: the recursion is bounded by that.
 */
#include "common/json.h"

#include <errno.h>

#include "common/banned.h"

#define DEPTH_MAX 64

struct editor {
	const char *at, *end; /* the scanner */
	const char *copied;   /* all before it was written or left out */
	unsigned depth;
	struct buf *out;
	/* one of the two kinds of edit: of members, or of string values */
	const char *const *names;
	size_t name_count;
	const struct json_swap *swaps;
	size_t swap_count;
	bool (*edit)(void *ctx, struct str path_member, struct str value, struct buf *out);
	void *ctx;
};

static int edit_value(struct editor *e, struct str member, bool is_left_out);

static void copy_until(struct editor *e, const char *to)
{
	buf_append(e->out, e->copied, (size_t)(to - e->copied));
	e->copied = to;
}

static void leave_out(struct editor *e, const char *from, const char *to)
{
	copy_until(e, from);
	e->copied = to;
}

static void skip_blanks(struct editor *e)
{
	while (e->at < e->end && (*e->at == ' ' || *e->at == '\n' || *e->at == '\r' || *e->at == '\t'))
		e->at++;
}

static bool take(struct editor *e, char c)
{
	if (e->at >= e->end || *e->at != c)
		return false;
	e->at++;
	return true;
}

/*
 * Steps over a string; *ret_raw is what stands between its quotes. The escapes are checked when somebody
 * reads them.
 */
static int take_string(struct editor *e, struct str *ret_raw)
{
	const char *start;

	if (!take(e, '"'))
		return -EINVAL;
	start = e->at;
	while (e->at < e->end && *e->at != '"') {
		if ((unsigned char)*e->at < ' ')
			return -EINVAL;
		if (*e->at == '\\' && ++e->at == e->end)
			return -EINVAL;
		e->at++; /* after a backslash: whatever it escapes, a quote too */
	}
	if (e->at >= e->end)
		return -EINVAL;
	*ret_raw = str_from_range(start, e->at);
	e->at++;
	return 0;
}

static int append_utf8(struct buf *out, uint32_t code)
{
	char bytes[4];

	if (code < 0x80)
		return buf_append_char(out, (char)code);
	if (code < 0x800) {
		bytes[0] = (char)(0xc0 | code >> 6);
		bytes[1] = (char)(0x80 | (code & 0x3f));
		return buf_append(out, bytes, 2);
	}
	if (code < 0x10000) {
		bytes[0] = (char)(0xe0 | code >> 12);
		bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
		bytes[2] = (char)(0x80 | (code & 0x3f));
		return buf_append(out, bytes, 3);
	}
	bytes[0] = (char)(0xf0 | code >> 18);
	bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
	bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
	bytes[3] = (char)(0x80 | (code & 0x3f));
	return buf_append(out, bytes, 4);
}

/* Four hex digits after "\u" at the front of *raw; takes them off. */
static int take_code_unit(struct str *raw, uint32_t *ret_unit)
{
	uint8_t bytes[2];

	if (raw->len < 6 || raw->ptr[0] != '\\' || raw->ptr[1] != 'u' ||
	    parse_hex((struct str){ raw->ptr + 2, 4 }, bytes, 2) < 0)
		return -EINVAL;
	raw->ptr += 6;
	raw->len -= 6;
	*ret_unit = (uint32_t)bytes[0] << 8 | bytes[1];
	return 0;
}

static int unescape_unicode(struct str *raw, struct buf *out)
{
	uint32_t high, low;
	struct str after;

	if (take_code_unit(raw, &high) < 0)
		return -EINVAL;
	after = *raw;
	if (high >= 0xd800 && high <= 0xdbff && take_code_unit(&after, &low) == 0 && low >= 0xdc00 &&
	    low <= 0xdfff) {
		*raw = after;
		return append_utf8(out, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
	}
	return append_utf8(out, high >= 0xd800 && high <= 0xdfff ? 0xfffd : high);
}

static int unescape(struct str raw, struct buf *out)
{
	static const char letters[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";

	while (raw.len) {
		const char *backslash = memchr(raw.ptr, '\\', raw.len);
		size_t before = backslash ? (size_t)(backslash - raw.ptr) : raw.len;
		const char *letter;

		buf_append(out, raw.ptr, before);
		raw = (struct str){ raw.ptr + before, raw.len - before };
		if (!backslash)
			break;
		if (raw.len < 2 || !raw.ptr[1])
			return -EINVAL;
		if (raw.ptr[1] == 'u') {
			int r = unescape_unicode(&raw, out);

			if (r < 0)
				return r;
			continue;
		}
		letter = strchr(letters, raw.ptr[1]);
		if (!letter)
			return -EINVAL;
		buf_append_char(out, plain[letter - letters]);
		raw = (struct str){ raw.ptr + 2, raw.len - 2 };
	}
	return buf_error(out);
}

int json_unquote(struct str raw, struct buf *out)
{
	if (raw.len < 2 || raw.ptr[0] != '"' || raw.ptr[raw.len - 1] != '"')
		return -EINVAL;
	return unescape((struct str){ raw.ptr + 1, raw.len - 2 }, out);
}

/* *ret_text is raw itself when it has no escapes, else what was written to room. */
static int read_string(struct str raw, struct buf *room, struct str *ret_text)
{
	int r;

	*ret_text = raw;
	if (!raw.len || !memchr(raw.ptr, '\\', raw.len))
		return 0;
	buf_init(room, raw.len); /* unescaped text is never longer */
	r = unescape(raw, room);
	*ret_text = buf_str(room);
	return r;
}

/*
 * Is this a member to strip (1), or one whose value may be swapped (0 with *ret_swap)? -EINVAL. A name may be
 * written with escapes and still be the name.
 */
static int find_edit(struct editor *e, struct str raw_name, const struct json_swap **ret_swap)
{
	SCOPED_BUF room = { 0 };
	struct str name;
	int r;

	if (e->name_count + e->swap_count == 0)
		return 0;
	r = read_string(raw_name, &room, &name);
	if (r < 0)
		return r;
	for (size_t i = 0; i < e->name_count; i++)
		if (str_eq(name, str_from(e->names[i])))
			return 1;
	for (size_t i = 0; i < e->swap_count; i++)
		if (str_eq(name, str_from(e->swaps[i].name)))
			*ret_swap = &e->swaps[i];
	return 0;
}

/* Over a value that may be swapped. */
static int swap_value(struct editor *e, struct str name, const struct json_swap *swap)
{
	const char *start;
	int r;

	skip_blanks(e);
	start = e->at;
	r = edit_value(e, name, false);
	if (r < 0 || !str_eq(str_from_range(start, e->at), str_from(swap->from)))
		return r;
	leave_out(e, start, e->at);
	return buf_append_str(e->out, str_from(swap->to));
}

static int offer_string(struct editor *e, struct str raw_member, struct str raw, const char *start)
{
	SCOPED_BUF member_room = { 0 }, value_room = { 0 }, edited = { 0 };
	struct str member, value;
	int r = read_string(raw_member, &member_room, &member);

	if (r == 0)
		r = read_string(raw, &value_room, &value);
	if (r < 0)
		return r;
	buf_init(&edited, e->out->bytes_max);
	if (!e->edit(e->ctx, member, value, &edited))
		return 0;
	if (buf_error(&edited))
		return buf_error(&edited);
	leave_out(e, start, e->at);
	return json_write_string(e->out, buf_str(&edited));
}

/*
 * One member, from its name on. If it is to go, a comma goes with it: the one before when a member that stays
 * stands before (comma is not NULL), else the one after. White space around a comma that stays is left alone.
 */
static int edit_member(struct editor *e, const char *comma, bool is_left_out, bool *ret_has_gone)
{
	const struct json_swap *swap = NULL;
	const char *start = e->at;
	struct str name;
	int goes, r;

	r = take_string(e, &name);
	if (r < 0)
		return r;
	skip_blanks(e);
	if (!take(e, ':'))
		return -EINVAL;
	goes = is_left_out ? 0 : find_edit(e, name, &swap);
	if (goes < 0)
		return goes;
	if (goes)
		copy_until(e, comma ? comma : start);
	r = swap ? swap_value(e, name, swap) : edit_value(e, name, is_left_out || goes);
	if (r < 0)
		return r;
	if (goes)
		e->copied = e->at;
	*ret_has_gone = goes;
	return 0;
}

static int edit_object(struct editor *e, bool is_left_out)
{
	const char *comma = NULL; /* the one before this member, when some member that stays is before it */
	bool has_kept = false;

	e->at++;
	skip_blanks(e);
	if (take(e, '}'))
		return 0;
	for (;;) {
		bool has_gone = false;
		int r = edit_member(e, has_kept ? comma : NULL, is_left_out, &has_gone);

		if (r < 0)
			return r;
		skip_blanks(e);
		has_kept |= !has_gone;
		if (take(e, '}'))
			return 0;
		comma = e->at;
		if (!take(e, ','))
			return -EINVAL;
		if (has_gone && !has_kept)
			leave_out(e, comma, e->at);
		skip_blanks(e);
	}
}

static int edit_array(struct editor *e, struct str member, bool is_left_out)
{
	e->at++;
	skip_blanks(e);
	if (take(e, ']'))
		return 0;
	for (;;) {
		int r = edit_value(e, member, is_left_out);

		if (r < 0)
			return r;
		skip_blanks(e);
		if (take(e, ']'))
			return 0;
		if (!take(e, ','))
			return -EINVAL;
	}
}

/* true, false, null, or something made of the bytes of numbers: "well formed enough". */
static int take_scalar(struct editor *e)
{
	static const struct str words[] = { STR("true"), STR("false"), STR("null") };
	struct str rest = str_from_range(e->at, e->end);
	const char *start = e->at;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_starts_with(rest, words[i])) {
			e->at += words[i].len;
			return 0;
		}
	while (e->at < e->end && *e->at && strchr("+-.0123456789eE", *e->at))
		e->at++;
	return e->at > start ? 0 : -EINVAL;
}

/*
 * member: raw name of the innermost member that holds the value. is_left_out: it is not copied, so nothing to
 * edit.
 */
static int edit_value(struct editor *e, struct str member, bool is_left_out)
{
	const char *start;
	struct str raw;
	int r;

	skip_blanks(e);
	if (e->at >= e->end)
		return -EINVAL;
	if (*e->at == '"') {
		start = e->at;
		r = take_string(e, &raw);
		return r < 0 || is_left_out || !e->edit ? r : offer_string(e, member, raw, start);
	}
	if (*e->at != '{' && *e->at != '[')
		return take_scalar(e);
	if (++e->depth > DEPTH_MAX)
		return -EINVAL;
	r = *e->at == '{' ? edit_object(e, is_left_out) : edit_array(e, member, is_left_out);
	e->depth--;
	return r;
}

static int edit_text(struct editor *e, struct str text)
{
	int r;

	e->at = e->copied = text.ptr;
	e->end = text.ptr + text.len;
	r = edit_value(e, STR(""), false);
	if (r < 0)
		return r;
	skip_blanks(e);
	if (e->at != e->end)
		return -EINVAL;
	copy_until(e, e->end);
	return buf_error(e->out);
}

int json_edit_members(struct str text, const char *const *names, size_t name_count,
		      const struct json_swap *swaps, size_t swap_count, struct buf *out)
{
	struct editor e = {
		.out = out, .names = names, .name_count = name_count, .swaps = swaps, .swap_count = swap_count
	};

	return text.len ? edit_text(&e, text) : -EINVAL;
}

int json_strip_members(struct str text, const char *const *names, size_t name_count, struct buf *out)
{
	return json_edit_members(text, names, name_count, NULL, 0, out);
}

int json_edit_strings(struct str text,
		      bool (*edit)(void *ctx, struct str path_member, struct str value, struct buf *out),
		      void *ctx, struct buf *out)
{
	struct editor e = { .out = out, .edit = edit, .ctx = ctx };

	return text.len ? edit_text(&e, text) : -EINVAL;
}
