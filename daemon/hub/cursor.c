/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/cursor - where the next page of a listing begins, in the Hub's own form:
 *
 *   base64( base64( {"file_name":"the last path before it", …} ) ":" limit )
 *
 * Some clients make one themselves from the last path they saw (hub-protocol 5.1). Pure.
 */
#include "hub/priv.h"

#include <errno.h>
#include "common/json.h"

#define CURSOR_MAX 16384

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_encode(struct str text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i += 3) {
		size_t left = text.len - i;
		uint32_t group = 0;

		for (size_t k = 0; k < 3; k++)
			group = group << 8 | (k < left ? (unsigned char)text.ptr[i + k] : 0);
		buf_append_char(out, digits[group >> 18]);
		buf_append_char(out, digits[group >> 12 & 63]);
		buf_append_char(out, left > 1 ? digits[group >> 6 & 63] : '=');
		buf_append_char(out, left > 2 ? digits[group & 63] : '=');
	}
}

/* With or without padding. */
static int base64_decode(struct str text, struct buf *out)
{
	uint32_t group = 0;
	unsigned bits = 0;

	while (text.len > 0 && text.ptr[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		const char *digit = text.ptr[i] ? strchr(digits, text.ptr[i]) : NULL;

		if (!digit)
			return -EINVAL;
		group = group << 6 | (uint32_t)(digit - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_append_char(out, (char)(group >> bits));
		}
	}
	return buf_error(out);
}

int cursor_read(struct str parameter, struct buf *ret_path)
{
	SCOPED_BUF outer, coded, inner;
	SCOPED(json_free) struct json *json = NULL;
	struct str text, name;

	buf_init(&outer, CURSOR_MAX);
	buf_init(&coded, CURSOR_MAX);
	buf_init(&inner, CURSOR_MAX);
	buf_init(ret_path, CURSOR_MAX);
	if (uri_decode_segment(parameter, &coded) < 0 || base64_decode(buf_str(&coded), &outer) < 0)
		return -EINVAL;
	str_cut(buf_str(&outer), ':', &text, &name);
	if (base64_decode(text, &inner) < 0 || json_parse(buf_str(&inner), &json) < 0)
		return -EINVAL;
	name = json_string(json_get(json, "file_name"));
	return name.len ? buf_append_str(ret_path, name) : -EINVAL;
}

int cursor_write(struct str path, uint64_t limit, struct buf *out)
{
	SCOPED_BUF inner, coded, outer;

	buf_init(&inner, CURSOR_MAX);
	buf_init(&coded, CURSOR_MAX);
	buf_init(&outer, 2 * CURSOR_MAX);
	buf_append_str(&inner, STR("{\"file_name\":"));
	json_write_string(&inner, path);
	buf_append_char(&inner, '}');
	base64_encode(buf_str(&inner), &coded);
	buf_appendf(&coded, ":%llu", (unsigned long long)limit);
	base64_encode(buf_str(&coded), &outer);
	if (buf_error(&inner) || buf_error(&coded) || buf_error(&outer))
		return -E2BIG;
	return uri_encode(buf_str(&outer), NULL, out);
}
