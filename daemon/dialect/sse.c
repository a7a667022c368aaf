/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/sse - text/event-stream, cut at its blank lines. What stands in an event is not changed: it is forwarded and
 * replayed as it came.
 */
#include "dialect/priv.h"

#include <errno.h>

#include "common/banned.h"

/* The line at the front of *rest, without its end. Returns false when the text ends before the line does. */
static bool take_line(struct str *rest, struct str *ret_line)
{
	for (size_t i = 0; i < rest->len; i++) {
		size_t end = i + 1;

		if (rest->ptr[i] != '\n' && rest->ptr[i] != '\r')
			continue;
		if (rest->ptr[i] == '\r') {
			if (end == rest->len)
				return false; /* an LF may follow */
			end += rest->ptr[end] == '\n';
		}
		*ret_line = (struct str){ rest->ptr, i };
		*rest = str_from_range(rest->ptr + end, rest->ptr + rest->len);
		return true;
	}
	return false;
}

/* The value of a line of this field; one blank after the colon is not part of it. */
static bool is_field(struct str line, struct str name, struct str *ret_value)
{
	struct str head, tail;
	bool has_colon = str_cut(line, ':', &head, &tail);

	if (!str_eq(head, name))
		return false;
	if (has_colon && tail.len && tail.ptr[0] == ' ')
		tail = (struct str){ tail.ptr + 1, tail.len - 1 };
	*ret_value = has_colon ? tail : STR("");
	return true;
}

static void add_data(struct sse_event *e, struct str value, struct buf *scratch)
{
	if (!e->data.ptr) {
		e->data = value;
		return;
	}
	if (scratch->len == 0)
		buf_append_str(scratch, e->data);
	buf_append_char(scratch, '\n');
	buf_append_str(scratch, value);
	e->data = buf_str(scratch);
}

int sse_next(struct str *rest, struct buf *scratch, struct sse_event *ret)
{
	struct str left = *rest, line, value;
	struct sse_event e = { .name = STR("") };

	if (rest->len == 0)
		return 0;
	buf_reset(scratch);
	while (take_line(&left, &line)) {
		if (line.len == 0) {
			if (buf_error(scratch))
				return -E2BIG;
			e.raw = str_from_range(rest->ptr, left.ptr);
			*ret = e;
			*rest = left;
			return 1;
		}
		if (is_field(line, STR("data"), &value))
			add_data(&e, value, scratch);
		else if (is_field(line, STR("event"), &value))
			e.name = value;
	}
	return -EAGAIN;
}

bool sse_is_done_mark(const struct sse_event *e)
{
	return str_eq(str_trim(e->data), STR("[DONE]"));
}
