/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/raw - JSON as written: members are found and put together without being read, so that no number and no string
 * changes its spelling.
 */
#include "dialect/priv.h"

#include "common/banned.h"

struct str raw_get(struct str object, const char *name)
{
	struct str raw;

	return json_find_member(object, name, &raw) == 0 ? raw : (struct str){ 0 };
}

struct str raw_trim(struct str text)
{
	while (text.len && strchr(" \t\r\n", text.ptr[0]) && text.ptr[0])
		text = (struct str){ text.ptr + 1, text.len - 1 };
	while (text.len && strchr(" \t\r\n", text.ptr[text.len - 1]) && text.ptr[text.len - 1])
		text.len--;
	return text;
}

bool raw_is_string(struct str raw)
{
	return raw.len >= 2 && raw.ptr[0] == '"';
}

bool raw_is_null(struct str raw)
{
	return raw.len == 0 || str_eq(raw, STR("null"));
}

struct str raw_inside(struct str raw)
{
	return raw_is_string(raw) ? (struct str){ raw.ptr + 1, raw.len - 2 } : STR("");
}

uint64_t raw_u64(struct str raw, uint64_t fallback)
{
	uint64_t value;

	return parse_u64(raw, &value) == 0 ? value : fallback;
}

void put_member(struct buf *out, const char *name, struct str raw)
{
	if (out->len && out->bytes[out->len - 1] != '{')
		buf_append_char(out, ',');
	buf_appendf(out, "\"%s\":", name);
	buf_append_str(out, raw);
}

void put_from(struct buf *out, struct str object, const char *name)
{
	struct str raw = raw_get(object, name);

	if (raw.len)
		put_member(out, name, raw);
}

void put_raw(struct buf *out, struct str name, struct str value)
{
	if (out->len && out->bytes[out->len - 1] != '{')
		buf_append_char(out, ',');
	buf_append_str(out, name);
	buf_append_char(out, ':');
	buf_append_str(out, value);
}

void put_event(struct buf *out, struct str data)
{
	buf_append_str(out, STR("data: "));
	buf_append_str(out, data);
	buf_append_str(out, STR("\n\n"));
}

void put_named_event(struct buf *out, const char *name, struct str data)
{
	buf_appendf(out, "event: %s\n", name);
	put_event(out, data);
}
