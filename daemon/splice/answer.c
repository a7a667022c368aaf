/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/answer - the head of the answer to an upgrade, strictly: CR LF, no folding. Pure.
 */
#include "splice/answer.h"

#include <errno.h>

#include "common/banned.h"

#define FIELDS_MAX 100u

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 101 Switching Protocols"; the words may be missing. */
static int parse_status(struct str line)
{
	const char *p = line.ptr;

	if (line.len < strlen("HTTP/1.1 101") || !str_starts_with(line, STR("HTTP/1.")) ||
	    (p[7] != '0' && p[7] != '1') || p[8] != ' ')
		return -EPROTO;
	if (!is_digit(p[9]) || !is_digit(p[10]) || !is_digit(p[11]) || (line.len > 12 && p[12] != ' '))
		return -EPROTO;
	return (p[9] - '0') * 100 + (p[10] - '0') * 10 + p[11] - '0';
}

static int parse_field(struct str line, struct headers *headers)
{
	struct str name, value;

	if (!str_cut(line, ':', &name, &value) || headers->count == FIELDS_MAX)
		return -EPROTO;
	return headers_add(headers, name, str_trim(value)) < 0 ? -EPROTO
							       : 0; /* names, control bytes: there */
}

/* The next line without its end. false: it is not whole, or does not end in CR LF (then *error). */
static bool next_line(struct str *rest, struct str *ret_line, int *error)
{
	if (!str_cut(*rest, '\n', ret_line, rest)) {
		*error = -EAGAIN;
		return false;
	}
	if (ret_line->len == 0 || ret_line->ptr[ret_line->len - 1] != '\r') {
		*error = -EPROTO;
		return false;
	}
	ret_line->len--;
	return true;
}

ssize_t answer_head_parse(struct str text, int *ret_status, struct headers *ret_headers)
{
	struct str rest = text, line;
	int r = 0;

	if (!next_line(&rest, &line, &r))
		return r == -EAGAIN && text.len > ANSWER_HEAD_MAX ? -EPROTO : r;
	*ret_status = parse_status(line);
	if (*ret_status < 100)
		return -EPROTO;
	for (;;) {
		if (!next_line(&rest, &line, &r))
			return r == -EAGAIN && text.len > ANSWER_HEAD_MAX ? -EPROTO : r;
		if ((size_t)(rest.ptr - text.ptr) > ANSWER_HEAD_MAX)
			return -EPROTO;
		if (line.len == 0)
			return rest.ptr - text.ptr;
		r = parse_field(line, ret_headers);
		if (r < 0)
			return r;
	}
}
