/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/space_text - the rules in space_text.h. No I/O.
 *
 * A small machine reads the text byte by byte; what it does not touch is copied in spans. Names are told from values by the colon
 * behind them, so that no stack is needed; a line end outside of JSON ends whatever a line that is no JSON has begun.
 */
#include "hub/space_text.h"

#include <errno.h>

#define MARK "window.gradio_"
#define MARK_LEN (sizeof(MARK) - 1)

void space_text_init(struct space_text *t, enum space_form form, const struct space_rule *rule)
{
	*t = (struct space_text){ .form = form, .rule = *rule };
}

/* --- a value that is held ------------------------------------------------------------------------------- */

static void begin_hold(struct space_text *t)
{
	t->is_held = true;
	t->hold_len = t->seen = 0;
	for (unsigned i = 0; i < SPACE_FROM_MAX; i++) {
		t->is_alive[i] = t->rule.from[i].len > 0;
		t->end[i] = 0;
	}
}

static bool ends_address(char c)
{
	return c == '/' || c == '?' || c == '#';
}

/* What follows `to`'s own origin may be the rest of `to`: then it is ours already. */
static struct str own_rest(const struct space_text *t, unsigned i)
{
	struct str from = t->rule.from[i], to = t->rule.to;

	if (!str_starts_with(to, from))
		return (struct str){ NULL, 0 };
	return str_from_range(to.ptr + from.len, to.ptr + to.len);
}

/* The next byte that the value stands for. */
static void compare(struct space_text *t, char c)
{
	for (unsigned i = 0; i < SPACE_FROM_MAX; i++) {
		struct str from = t->rule.from[i];

		if (!t->is_alive[i])
			continue;
		if (t->seen < from.len)
			t->is_alive[i] = from.ptr[t->seen] == c;
		else if (t->seen == from.len)
			t->is_alive[i] = ends_address(c);
		if (t->is_alive[i] && t->seen + 1 == from.len)
			t->end[i] = t->hold_len;
	}
	t->plain[t->seen++] = c;
}

/* How many bytes must have been seen to know: all of an address, and what could make it ours already. */
static bool is_decided(const struct space_text *t)
{
	bool is_open = false;

	for (unsigned i = 0; i < SPACE_FROM_MAX; i++)
		if (t->is_alive[i] && t->seen <= t->rule.from[i].len + own_rest(t, i).len)
			is_open = true;
	return !is_open || t->hold_len == SPACE_HOLD_MAX;
}

static bool is_ours_already(const struct space_text *t, unsigned i)
{
	size_t len = t->rule.from[i].len;
	struct str rest = own_rest(t, i), after = { t->plain + len, t->seen - len };

	return rest.len > 0 && str_starts_with(after, rest) &&
	       (after.len == rest.len || ends_address(after.ptr[rest.len]));
}

static int end_hold(struct space_text *t, struct buf *out)
{
	size_t from = 0;

	t->is_held = false;
	for (unsigned i = 0; i < SPACE_FROM_MAX && from == 0; i++)
		if (t->is_alive[i] && t->end[i] && !is_ours_already(t, i))
			from = t->end[i];
	if (from)
		buf_append_str(out, t->rule.to);
	return buf_append(out, t->hold + from, t->hold_len - from);
}

/* --- the machine ---------------------------------------------------------------------------------------- */

static bool is_known_name(const struct space_text *t)
{
	struct str name = { t->name, t->name_len };

	return !t->has_long &&
	       (str_eq(name, STR("root")) || str_eq(name, STR("url")) || str_eq(name, STR("path")));
}

static void begin_string(struct space_text *t)
{
	t->in_string = true;
	t->is_escaped = t->has_long = false;
	t->name_len = 0;
	if (t->is_value)
		begin_hold(t);
	t->is_known = t->is_value = false;
}

static void reset_line(struct space_text *t)
{
	t->in_string = t->is_escaped = t->is_known = t->is_value = false;
}

static void outside(struct space_text *t, char c)
{
	switch (c) {
	case '"':
		begin_string(t);
		return;
	case ' ':
	case '\t':
	case '\r':
		return;
	case '\n':
		reset_line(t);
		return;
	case ':':
		t->is_value = t->is_known;
		break;
	case '{':
	case '[':
		t->depth++;
		t->is_value = false;
		break;
	case '}':
	case ']':
		t->depth -= t->depth > 0;
		t->is_value = false;
		t->is_script = t->depth > 0;
		break;
	case ';':
	case '<':
		t->is_script = t->depth > 0;
		t->is_value = false;
		break;
	default:
		t->is_value = false;
	}
	t->is_known = false;
}

/* Returns true when the string is over. */
static bool inside(struct space_text *t, char c)
{
	bool was_escaped = t->is_escaped;

	t->is_escaped = !was_escaped && c == '\\';
	if (c == '\n') {
		reset_line(t);
		return true;
	}
	if (c == '"' && !was_escaped) {
		t->in_string = false;
		t->is_known = is_known_name(t);
		return true;
	}
	if (t->name_len < sizeof(t->name))
		t->name[t->name_len++] = c;
	else
		t->has_long = true;
	if (t->is_held) {
		t->hold[t->hold_len++] = c;
		/* of all that may be escaped only the slash is part of an address */
		if (!t->is_escaped)
			compare(t, was_escaped && c != '/' ? '\0' : c);
	}
	return false;
}

static bool passes_mark(struct space_text *t, char c)
{
	if (c == MARK[t->mark_len])
		t->mark_len++;
	else if (t->mark_len == 6 && c == MARK[1])
		t->mark_len = 2; /* the second w was a first one */
	else
		t->mark_len = c == MARK[0];
	if (t->mark_len < MARK_LEN)
		return false;
	t->mark_len = 0;
	reset_line(t);
	t->depth = 0;
	return t->is_script = true;
}

int space_text_feed(struct space_text *t, struct str piece, struct buf *out)
{
	size_t start = 0;

	for (size_t i = 0; i < piece.len; i++) {
		char c = piece.ptr[i];
		bool was_held = t->is_held;

		if (t->form == SPACE_HTML && !t->is_script) {
			(void)passes_mark(t, c);
			continue;
		}
		if (!t->in_string) {
			outside(t, c);
			if (t->is_held) { /* all up to its quote goes out as it is */
				buf_append(out, piece.ptr + start, i + 1 - start);
				start = i + 1;
			}
			continue;
		}
		if (inside(t, c) && was_held) {
			end_hold(t, out);
			start = i;
		} else if (was_held && is_decided(t)) {
			end_hold(t, out);
			start = i + 1;
		} else if (was_held) {
			start = i + 1;
		}
	}
	return buf_append(out, piece.ptr + start, piece.len - start);
}

int space_text_end(struct space_text *t, struct buf *out)
{
	if (t->is_held)
		buf_append(out, t->hold, t->hold_len);
	t->is_held = false;
	return buf_error(out);
}

/* --- single fields -------------------------------------------------------------------------------------- */

static bool is_attribute(struct str part, const char *name)
{
	struct str word, value;

	(void)str_cut(part, '=', &word, &value);
	return str_eq_nocase(str_trim(word), str_from(name));
}

/* A browser takes SameSite=None, and Partitioned, only with Secure. */
static bool is_dropped(struct str part, bool is_tls)
{
	struct str word, value;

	if (is_attribute(part, "domain") || is_attribute(part, "path"))
		return true;
	if (is_tls)
		return false;
	(void)str_cut(part, '=', &word, &value);
	return is_attribute(part, "secure") || is_attribute(part, "partitioned") ||
	       (is_attribute(part, "samesite") && str_eq_nocase(str_trim(value), STR("none")));
}

int space_cookie_out(struct str value, struct str tag, struct str path, bool is_tls, struct buf *out)
{
	struct str pair, rest, name, content;

	(void)str_cut(value, ';', &pair, &rest);
	pair = str_trim(pair);
	if (!str_cut(pair, '=', &name, &content) || str_trim(name).len == 0)
		return -EINVAL;
	buf_append_str(out, tag);
	buf_append_str(out, pair);
	while (rest.len) {
		struct str part;

		(void)str_cut(rest, ';', &part, &rest);
		part = str_trim(part);
		if (part.len && !is_dropped(part, is_tls)) {
			buf_append_str(out, STR("; "));
			buf_append_str(out, part);
		}
	}
	buf_append_str(out, STR("; Path="));
	return buf_append_str(out, path);
}

int space_cookie_in(struct str value, struct str tag, struct buf *out)
{
	while (value.len) {
		struct str pair;

		(void)str_cut(value, ';', &pair, &value);
		pair = str_trim(pair);
		if (pair.len <= tag.len || !str_starts_with(pair, tag))
			continue;
		if (out->len)
			buf_append_str(out, STR("; "));
		buf_append_str(out, str_from_range(pair.ptr + tag.len, pair.ptr + pair.len));
	}
	return buf_error(out);
}
