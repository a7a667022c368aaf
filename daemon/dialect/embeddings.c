/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/embeddings - numbers and base64 of little-endian floats. Some clients ask for the one without being told, others read
 * only the other (inference-protocol 3.3).
 */
#include "dialect/priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/banned.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_base64(struct buf *out, const unsigned char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += 3) {
		unsigned n = (unsigned)bytes[i] << 16;

		n |= i + 1 < len ? (unsigned)bytes[i + 1] << 8 : 0;
		n |= i + 2 < len ? bytes[i + 2] : 0;
		buf_append_char(out, digits[n >> 18]);
		buf_append_char(out, digits[n >> 12 & 63]);
		buf_append_char(out, i + 1 < len ? digits[n >> 6 & 63] : '=');
		buf_append_char(out, i + 2 < len ? digits[n & 63] : '=');
	}
}

int take_base64(struct str text, struct buf *out)
{
	unsigned n = 0, bits = 0;

	while (text.len && text.ptr[text.len - 1] == '=')
		text.len--;
	for (size_t i = 0; i < text.len; i++) {
		const char *found = text.ptr[i] ? strchr(digits, text.ptr[i]) : NULL;

		if (!found)
			return -EPROTO;
		n = n << 6 | (unsigned)(found - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_append_char(out, (char)(n >> bits));
		}
	}
	return buf_error(out) ? -E2BIG : 0;
}

static void put_float(struct buf *out, float value)
{
	uint32_t bits;
	char bytes[4];

	memcpy(&bits, &value, sizeof(bits));
	for (unsigned i = 0; i < 4; i++)
		bytes[i] = (char)(bits >> 8 * i);
	buf_append(out, bytes, 4);
}

static float float_at(const char *at)
{
	uint32_t bits = 0;
	float value;

	for (unsigned i = 0; i < 4; i++)
		bits |= (uint32_t)(unsigned char)at[i] << 8 * i;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* "[0.1,-2e-3]" as written: its floats. */
static int take_numbers(struct str raw, struct buf *floats)
{
	struct str rest = { raw.ptr + 1, raw.len - 1 }, element;
	char copy[64];
	int r;

	while ((r = json_next_element(&rest, &element)) == 1) {
		if (element.len >= sizeof(copy))
			return -EPROTO;
		memcpy(copy, element.ptr, element.len);
		copy[element.len] = '\0';
		put_float(floats, strtof(copy, NULL));
	}
	return r < 0 ? -EPROTO : buf_error(floats) ? -E2BIG : 0;
}

/* The shortest text that is read as the same float. */
static void put_number(struct buf *out, float value)
{
	char text[48];

	for (int precision = 6; precision <= 9; precision++) {
		(void)snprintf(text, sizeof(text), "%.*g", precision, (double)value);
		if (strtof(text, NULL) == value)
			break;
	}
	buf_append_str(out, str_from(text));
}

static int to_base64(struct str raw, struct buf *out)
{
	SCOPED_BUF floats;
	int r;

	buf_init(&floats, out->bytes_max);
	r = take_numbers(raw, &floats);
	if (r < 0)
		return r;
	buf_append_char(out, '"');
	put_base64(out, (const unsigned char *)buf_str(&floats).ptr, floats.len);
	buf_append_char(out, '"');
	return 0;
}

static int to_numbers(struct str raw, struct buf *out)
{
	SCOPED_BUF plain, floats;
	int r;

	buf_init(&plain, out->bytes_max);
	buf_init(&floats, out->bytes_max);
	r = json_unquote(raw, &plain);
	if (r == 0)
		r = take_base64(buf_str(&plain), &floats);
	if (r < 0)
		return r;
	if (floats.len % 4)
		return -EPROTO;
	buf_append_char(out, '[');
	for (size_t i = 0; i < floats.len; i += 4) {
		float value = float_at(floats.bytes + i);

		if (!isfinite(value))
			return -EPROTO;
		if (i)
			buf_append_char(out, ',');
		put_number(out, value);
	}
	buf_append_char(out, ']');
	return 0;
}

static int convert(struct str raw, bool wants_base64, struct buf *out)
{
	if (wants_base64 && raw.len && raw.ptr[0] == '[')
		return to_base64(raw, out);
	if (!wants_base64 && raw_is_string(raw))
		return to_numbers(raw, out);
	return buf_append_str(out, raw);
}

int embeddings_convert(struct str whole, bool wants_base64, struct buf *out)
{
	struct str data, rest, item, raw;
	const char *copied = whole.ptr;
	int r;

	if (!raw_is_json(whole))
		return -EPROTO;
	data = raw_get(whole, "data");
	if (!data.len || data.ptr[0] != '[')
		return -EPROTO;
	rest = (struct str){ data.ptr + 1, data.len - 1 };
	while (json_next_element(&rest, &item) == 1) {
		raw = item.ptr[0] == '{' ? raw_get(item, "embedding") : (struct str){ 0 };
		if (!raw.len)
			continue;
		buf_append_str(out, str_from_range(copied, raw.ptr));
		r = convert(raw, wants_base64, out);
		if (r < 0)
			return r;
		copied = raw.ptr + raw.len;
	}
	buf_append_str(out, str_from_range(copied, whole.ptr + whole.len));
	return buf_error(out) ? -E2BIG : 0;
}
