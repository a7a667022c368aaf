/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_canonical - see the header. Recursive descent, at most DEPTH_MAX levels deep; values are written to the output in the
 * order of the text, and the members of an object are put in order when it ends.
 */
#include "common/json_canonical.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define DEPTH_MAX 200
#define NUMBER_MAX 400 /* digits of a number that is looked at; longer ones are refused */
#define WHOLE_MAX 9007199254740992.0
#define DOUBLE_DIGITS 15

struct writer {
	const char *at, *end;
	unsigned depth;
	bool (*leave_out)(void *ctx, const struct json_member *m);
	void *ctx;
	struct buf *out;
};

/* One member of an object that is being read: where its parts lie. */
struct part {
	size_t name, name_len; /* in names */
	size_t from, to;       /* of `"name":value` in the output */
};
struct parts {
	struct part *all; /* owned */
	size_t count, room;
	struct buf names; /* unescaped, one after the other */
};

static int write_value(struct writer *w, struct str parent);

static void skip_blanks(struct writer *w)
{
	while (w->at < w->end && (*w->at == ' ' || *w->at == '\n' || *w->at == '\r' || *w->at == '\t'))
		w->at++;
}

static bool take(struct writer *w, char c)
{
	if (w->at >= w->end || *w->at != c)
		return false;
	w->at++;
	return true;
}

static int error_of(const struct writer *w)
{
	return buf_error(w->out) ? -E2BIG : 0;
}

/* --- strings --- */

static void append_utf8(struct buf *out, uint32_t code)
{
	if (code < 0x80) {
		buf_append_char(out, (char)code);
		return;
	}
	if (code < 0x800) {
		buf_append_char(out, (char)(0xc0 | code >> 6));
	} else {
		if (code < 0x10000) {
			buf_append_char(out, (char)(0xe0 | code >> 12));
		} else {
			buf_append_char(out, (char)(0xf0 | code >> 18));
			buf_append_char(out, (char)(0x80 | (code >> 12 & 0x3f)));
		}
		buf_append_char(out, (char)(0x80 | (code >> 6 & 0x3f)));
	}
	buf_append_char(out, (char)(0x80 | (code & 0x3f)));
}

/* The four digits behind "\u". */
static int take_unit(struct writer *w, uint32_t *ret_unit)
{
	uint8_t bytes[2];

	if (w->end - w->at < 4 || parse_hex((struct str){ w->at, 4 }, bytes, 2) < 0)
		return -EINVAL;
	w->at += 4;
	*ret_unit = (uint32_t)bytes[0] << 8 | bytes[1];
	return 0;
}

static int take_unicode(struct writer *w, uint32_t *ret_code)
{
	uint32_t high, low;

	if (take_unit(w, &high) < 0 || high == 0 || (high >= 0xdc00 && high <= 0xdfff))
		return -EINVAL;
	*ret_code = high;
	if (high < 0xd800 || high > 0xdbff)
		return 0;
	if (!take(w, '\\') || !take(w, 'u') || take_unit(w, &low) < 0 || low < 0xdc00 || low > 0xdfff)
		return -EINVAL;
	*ret_code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return 0;
}

/* Behind the backslash. */
static int take_escape(struct writer *w, uint32_t *ret_code)
{
	static const char letters[] = "\"\\/bfnrt", meaning[] = "\"\\/\b\f\n\r\t";
	const char *found;
	char c;

	if (w->at >= w->end)
		return -EINVAL;
	c = *w->at++;
	if (c == 'u')
		return take_unicode(w, ret_code);
	found = c ? strchr(letters, c) : NULL;
	if (!found)
		return -EINVAL;
	*ret_code = (unsigned char)meaning[found - letters];
	return 0;
}

static int take_char(struct writer *w, uint32_t *ret_code)
{
	size_t len;

	if ((unsigned char)*w->at < ' ')
		return -EINVAL;
	if (take(w, '\\'))
		return take_escape(w, ret_code);
	len = str_utf8_next(str_from_range(w->at, w->end), ret_code);
	if (len == 0)
		return -EINVAL;
	w->at += len;
	return 0;
}

/* Appends what the string at hand stands for. */
static int take_string(struct writer *w, struct buf *text)
{
	if (!take(w, '"'))
		return -EINVAL;
	while (!take(w, '"')) {
		uint32_t code;

		if (w->at >= w->end || take_char(w, &code) < 0)
			return -EINVAL;
		append_utf8(text, code);
	}
	return buf_error(text) ? -E2BIG : 0;
}

static void write_char(struct buf *out, char c)
{
	static const char short_ones[] = "\b\t\n\f\r\"\\", letters[] = "btnfr\"\\";
	const char *found = c ? strchr(short_ones, c) : NULL;

	if (found) {
		buf_append_char(out, '\\');
		buf_append_char(out, letters[found - short_ones]);
	} else if ((unsigned char)c < ' ') {
		buf_appendf(out, "\\u%04x", (unsigned)(unsigned char)c);
	} else {
		buf_append_char(out, c);
	}
}

static void write_quoted(struct buf *out, struct str text)
{
	buf_append_char(out, '"');
	for (size_t i = 0; i < text.len; i++)
		write_char(out, text.ptr[i]);
	buf_append_char(out, '"');
}

static int write_string(struct writer *w)
{
	SCOPED_BUF text;
	int r;

	buf_init(&text, w->out->bytes_max);
	r = take_string(w, &text);
	if (r < 0)
		return r;
	write_quoted(w->out, buf_str(&text));
	return error_of(w);
}

/* --- numbers --- */

static size_t digits_at(const char *at, const char *end)
{
	const char *start = at;

	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return (size_t)(at - start);
}

/* The grammar of RFC 8259: its length, 0: it is none. */
static size_t number_length(const char *at, const char *end)
{
	const char *start = at;
	size_t n;

	if (at < end && *at == '-')
		at++;
	n = digits_at(at, end);
	if (n == 0 || (n > 1 && *at == '0'))
		return 0;
	at += n;
	if (at < end && *at == '.') {
		n = digits_at(++at, end);
		if (n == 0)
			return 0;
		at += n;
	}
	if (at < end && (*at == 'e' || *at == 'E')) {
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		n = digits_at(at, end);
		if (n == 0)
			return 0;
		at += n;
	}
	return (size_t)(at - start);
}

static bool is_plain_whole(struct str digits)
{
	for (size_t i = 0; i < digits.len; i++)
		if ((digits.ptr[i] < '0' || digits.ptr[i] > '9') && !(i == 0 && digits.ptr[i] == '-'))
			return false;
	return true;
}

/* Its digits, without the exponent; *ret_is_zero: is it nothing but zeros? */
static size_t count_digits(struct str number, bool *ret_is_zero)
{
	size_t count = 0;

	*ret_is_zero = true;
	for (size_t i = 0; i < number.len && number.ptr[i] != 'e' && number.ptr[i] != 'E'; i++) {
		count += number.ptr[i] >= '0' && number.ptr[i] <= '9';
		*ret_is_zero &= number.ptr[i] < '1' || number.ptr[i] > '9';
	}
	return count;
}

static int write_number(struct writer *w)
{
	struct str digits = { w->at, number_length(w->at, w->end) };
	char copy[NUMBER_MAX + 1];
	double value;
	size_t count;
	bool is_zero;

	if (digits.len == 0 || digits.len > NUMBER_MAX)
		return -EINVAL;
	w->at += digits.len;
	memcpy(copy, digits.ptr, digits.len);
	copy[digits.len] = '\0';
	value = strtod(copy, NULL);
	if (!isfinite(value))
		return -EINVAL;
	count = count_digits(digits, &is_zero);
	/* a plain whole number keeps its digits: it may have more than a double holds. Of 15 digits a double loses none. */
	if (is_zero)
		buf_append_char(w->out, '0');
	else if (!is_plain_whole(digits) && count <= DOUBLE_DIGITS && value != 0 && fabs(value) < WHOLE_MAX &&
		 value == trunc(value))
		buf_appendf(w->out, "%.0f", value);
	else
		buf_append_str(w->out, digits);
	return error_of(w);
}

/* --- objects --- */

/* The UTF-16 code units of the character at *at; the second is 0 if there is one only. */
static void units_at(struct str s, size_t *at, uint32_t ret_units[2])
{
	uint32_t code = 0;

	*at += str_utf8_next((struct str){ s.ptr + *at, s.len - *at }, &code);
	ret_units[0] = code < 0x10000 ? code : 0xd800 + ((code - 0x10000) >> 10);
	ret_units[1] = code < 0x10000 ? 0 : 0xdc00 + ((code - 0x10000) & 0x3ff);
}

static int compare_names(struct str a, struct str b)
{
	size_t i = 0, j = 0;

	while (i < a.len && j < b.len) {
		uint32_t x[2], y[2];

		units_at(a, &i, x);
		units_at(b, &j, y);
		if (x[0] != y[0])
			return x[0] < y[0] ? -1 : 1;
		if (x[1] != y[1])
			return x[1] < y[1] ? -1 : 1;
	}
	return i < a.len ? 1 : j < b.len ? -1 : 0;
}

static struct str name_of(const struct parts *p, size_t i)
{
	return (struct str){ p->names.bytes ? p->names.bytes + p->all[i].name : "", p->all[i].name_len };
}

static int compare_parts(const void *a, const void *b, void *parts)
{
	const struct parts *p = parts;
	const struct part *x = a, *y = b;
	const char *names = p->names.bytes ? p->names.bytes : "";

	return compare_names((struct str){ names + x->name, x->name_len },
			     (struct str){ names + y->name, y->name_len });
}

static struct part *part_add(struct parts *p)
{
	if (p->count == p->room) {
		p->room = p->room ? 2 * p->room : 8;
		p->all = xrealloc(p->all, p->room * sizeof(p->all[0]));
	}
	p->all[p->count] = (struct part){ .name = p->names.len };
	return &p->all[p->count++];
}

/* One member; what is left out leaves no part behind, but its name counts: it must not be there twice either. */
static int write_member(struct writer *w, struct parts *p, struct str parent)
{
	struct part *part = part_add(p);
	size_t i = p->count - 1, value;
	int r = take_string(w, &p->names);

	if (r < 0)
		return r;
	part->name_len = p->names.len - part->name;
	part->from = w->out->len;
	skip_blanks(w);
	if (!take(w, ':'))
		return -EINVAL;
	write_quoted(w->out, name_of(p, i));
	buf_append_char(w->out, ':');
	value = w->out->len;
	r = write_value(w, name_of(p, i));
	if (r < 0)
		return r;
	p->all[i].to = w->out->len;
	if (w->leave_out && w->leave_out(w->ctx, &(struct json_member){ .depth = w->depth,
									.parent = parent,
									.name = name_of(p, i),
									.value = { w->out->bytes + value,
										   w->out->len - value } })) {
		p->all[i].to = p->all[i].from;
		w->out->len = p->all[i].from;
	}
	return 0;
}

/* From the order of the text into that of the names; the output from `from` on is what the members wrote. */
static int put_in_order(struct writer *w, struct parts *p, size_t from)
{
	SCOPED_BUF text;
	bool is_first = true;

	buf_init(&text, w->out->bytes_max);
	if (p->count > 1)
		qsort_r(p->all, p->count, sizeof(p->all[0]), compare_parts, p);
	for (size_t i = 1; i < p->count; i++)
		if (str_eq(name_of(p, i - 1), name_of(p, i)))
			return -EINVAL;
	buf_append_char(&text, '{');
	for (size_t i = 0; i < p->count; i++) {
		const struct part *part = &p->all[i];

		if (part->to == part->from)
			continue;
		if (!is_first)
			buf_append_char(&text, ',');
		buf_append(&text, w->out->bytes + part->from, part->to - part->from);
		is_first = false;
	}
	buf_append_char(&text, '}');
	if (buf_error(&text))
		return -E2BIG;
	w->out->len = from;
	return buf_append_str(w->out, buf_str(&text)) < 0 ? -E2BIG : 0;
}

static int write_members(struct writer *w, struct parts *p, struct str parent)
{
	skip_blanks(w);
	if (take(w, '}'))
		return 0;
	for (;;) {
		int r;

		skip_blanks(w);
		r = write_member(w, p, parent);
		if (r < 0)
			return r;
		skip_blanks(w);
		if (take(w, '}'))
			return 0;
		if (!take(w, ','))
			return -EINVAL;
	}
}

static int write_object(struct writer *w, struct str parent)
{
	struct parts p = { 0 };
	size_t from = w->out->len;
	int r;

	buf_init(&p.names, w->out->bytes_max);
	w->at++;
	r = write_members(w, &p, parent);
	if (r == 0)
		r = put_in_order(w, &p, from);
	buf_done(&p.names);
	free(p.all);
	return r;
}

static int write_array(struct writer *w)
{
	buf_append_char(w->out, *w->at++);
	skip_blanks(w);
	if (take(w, ']'))
		return buf_append_char(w->out, ']') < 0 ? -E2BIG : 0;
	for (;;) {
		int r = write_value(w, STR(""));

		if (r < 0)
			return r;
		skip_blanks(w);
		if (take(w, ']'))
			return buf_append_char(w->out, ']') < 0 ? -E2BIG : 0;
		if (!take(w, ','))
			return -EINVAL;
		buf_append_char(w->out, ',');
	}
}

static int write_word(struct writer *w)
{
	static const char *const words[] = { "true", "false", "null" };
	struct str rest = str_from_range(w->at, w->end);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_starts_with(rest, str_from(words[i]))) {
			w->at += strlen(words[i]);
			return buf_append_str(w->out, str_from(words[i])) < 0 ? -E2BIG : 0;
		}
	return -EINVAL;
}

static int write_value(struct writer *w, struct str parent)
{
	int r;

	skip_blanks(w);
	if (w->at >= w->end || w->depth >= DEPTH_MAX)
		return -EINVAL;
	w->depth++;
	if (*w->at == '{')
		r = write_object(w, parent);
	else if (*w->at == '[')
		r = write_array(w);
	else if (*w->at == '"')
		r = write_string(w);
	else if (*w->at == '-' || (*w->at >= '0' && *w->at <= '9'))
		r = write_number(w);
	else
		r = write_word(w);
	w->depth--;
	return r;
}

int json_canonical(struct str text, bool (*leave_out)(void *ctx, const struct json_member *m), void *ctx,
		   struct buf *out)
{
	struct writer w = {
		.at = text.ptr, .end = text.ptr + text.len, .leave_out = leave_out, .ctx = ctx, .out = out
	};
	int r = write_value(&w, STR(""));

	if (r < 0)
		return r;
	skip_blanks(&w);
	return w.at == w.end ? error_of(&w) : -EINVAL;
}
