/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/check - is this one JSON value? Without building anything: it is asked of every body and of every event of a stream.
 *
 * As strict as json_parse(), and with its bounds: whatever passes may be walked by the raw_ calls, and is read by that library.
 */
#include "dialect/priv.h"

#include "common/banned.h"

#define DEPTH_MAX 64u
#define VALUES_MAX (2u << 20)

struct check {
	const char *at, *end;
	unsigned depth, values;
	char open[DEPTH_MAX + 1]; /* the brackets that are open */
};

static void skip_blanks(struct check *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
		c->at++;
}

static bool take(struct check *c, char byte)
{
	if (c->at == c->end || *c->at != byte)
		return false;
	c->at++;
	return true;
}

static bool is_hex(char b)
{
	return (b >= '0' && b <= '9') || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F');
}

static bool check_escape(struct check *c)
{
	if (c->at == c->end)
		return false;
	if (*c->at != 'u')
		return strchr("\"\\/bfnrt", *c->at) && *c->at++;
	if (c->end - c->at < 5)
		return false;
	for (unsigned i = 1; i < 5; i++)
		if (!is_hex(c->at[i]))
			return false;
	c->at += 5;
	return true;
}

static bool check_string(struct check *c)
{
	while (c->at < c->end) {
		unsigned char b = (unsigned char)*c->at++;

		if (b == '"')
			return true;
		if (b < ' ' || (b == '\\' && !check_escape(c)))
			return false;
	}
	return false;
}

static bool check_digits(struct check *c)
{
	const char *first = c->at;

	while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
		c->at++;
	return c->at > first;
}

static bool check_number(struct check *c)
{
	(void)take(c, '-');
	if (!take(c, '0') && !check_digits(c))
		return false;
	if (take(c, '.') && !check_digits(c))
		return false;
	if (!take(c, 'e') && !take(c, 'E'))
		return true;
	if (!take(c, '+'))
		(void)take(c, '-');
	return check_digits(c);
}

static bool check_word(struct check *c, struct str word)
{
	if ((size_t)(c->end - c->at) < word.len || memcmp(c->at, word.ptr, word.len) != 0)
		return false;
	c->at += word.len;
	return true;
}

static bool check_scalar(struct check *c)
{
	switch (c->at < c->end ? *c->at : '\0') {
	case '"':
		c->at++;
		return check_string(c);
	case 't':
		return check_word(c, STR("true"));
	case 'f':
		return check_word(c, STR("false"));
	case 'n':
		return check_word(c, STR("null"));
	default:
		return check_number(c);
	}
}

static bool check_name(struct check *c)
{
	skip_blanks(c);
	if (!take(c, '"') || !check_string(c))
		return false;
	skip_blanks(c);
	return take(c, ':');
}

/* A value, or its beginning; *ret_is_open: it is a bracket, with something in it. */
static bool check_value(struct check *c, bool *ret_is_open)
{
	char bracket;

	*ret_is_open = false;
	skip_blanks(c);
	if (++c->values > VALUES_MAX)
		return false;
	if (c->at == c->end || (*c->at != '{' && *c->at != '['))
		return check_scalar(c);
	bracket = *c->at++;
	if (c->depth == DEPTH_MAX)
		return false;
	skip_blanks(c);
	if (take(c, bracket == '{' ? '}' : ']'))
		return true;
	c->open[c->depth++] = bracket;
	*ret_is_open = true;
	return bracket == '[' || check_name(c);
}

/* Behind a value: brackets close, or a comma leads to the next one. Returns false at the end, or when neither is so. */
static bool check_more(struct check *c, bool *ret_is_wrong)
{
	while (c->depth > 0) {
		char bracket = c->open[c->depth - 1];

		skip_blanks(c);
		if (take(c, ',')) {
			*ret_is_wrong = bracket == '{' && !check_name(c);
			return !*ret_is_wrong;
		}
		if (!take(c, bracket == '{' ? '}' : ']')) {
			*ret_is_wrong = true;
			return false;
		}
		c->depth--;
	}
	return false;
}

bool raw_is_json(struct str text)
{
	struct check c = { .at = text.ptr, .end = text.ptr + text.len };
	bool is_open, is_wrong = false;

	do {
		do
			if (!check_value(&c, &is_open))
				return false;
		while (is_open);
	} while (check_more(&c, &is_wrong));
	skip_blanks(&c);
	return !is_wrong && c.at == c.end;
}
