/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str - strings with a length, and the checked parsers of numbers, hex, sizes and times.
 *
 * Owns      nothing; only str_dup() allocates.
 * Never     looks at the locale.
 * Threads   any.
 * Promises  (1) a parser that fails leaves its result as it was.
 */
#include "common/str.h"

#include <errno.h>
#include <stdio.h>

#include "common/alloc.h"

#include "common/banned.h"

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool str_eq_nocase(struct str a, struct str b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.ptr[i]) != lower(b.ptr[i]))
			return false;
	return true;
}

bool str_starts_with(struct str s, struct str prefix)
{
	return s.len >= prefix.len && str_eq((struct str){ s.ptr, prefix.len }, prefix);
}

bool str_ends_with(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_eq((struct str){ s.ptr + s.len - suffix.len, suffix.len }, suffix);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

struct str str_trim(struct str s)
{
	while (s.len && is_blank(s.ptr[0])) {
		s.ptr++;
		s.len--;
	}
	while (s.len && is_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool str_cut(struct str s, char at, struct str *ret_head, struct str *ret_tail)
{
	const char *found = s.len ? memchr(s.ptr, at, s.len) : NULL;

	if (!found) {
		*ret_head = s;
		*ret_tail = (struct str){ s.ptr ? s.ptr + s.len : NULL, 0 };
		return false;
	}
	*ret_head = str_from_range(s.ptr, found);
	*ret_tail = str_from_range(found + 1, s.ptr + s.len);
	return true;
}

struct str str_from_range(const char *begin, const char *end)
{
	return (struct str){ begin, (size_t)(end - begin) };
}

char *str_dup(struct str s)
{
	return xstrndup(s.ptr, s.len);
}

/*
 * Length of a sequence by its first byte, 0 for one that cannot start a sequence; *ret_code gets its payload
 * bits.
 */
static size_t utf8_lead(unsigned char c, uint32_t *ret_code)
{
	if (c < 0x80) {
		*ret_code = c;
		return 1;
	}
	if (c >= 0xc2 && c <= 0xdf) {
		*ret_code = c & 0x1f;
		return 2;
	}
	if (c >= 0xe0 && c <= 0xef) {
		*ret_code = c & 0x0f;
		return 3;
	}
	if (c >= 0xf0 && c <= 0xf4) {
		*ret_code = c & 0x07;
		return 4;
	}
	return 0;
}

size_t str_utf8_next(struct str s, uint32_t *ret_code)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code = 0;
	size_t len;

	if (s.len == 0)
		return 0;
	len = utf8_lead((unsigned char)s.ptr[0], &code);
	if (len == 0 || len > s.len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if ((c & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (c & 0x3f);
	}
	/* overlong forms, halves of UTF-16 pairs, and what lies above Unicode */
	if (code < smallest[len] || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
		return 0;
	*ret_code = code;
	return len;
}

int parse_u64(struct str s, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (s.len == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s.ptr[i] - '0'), &value))
			return -EINVAL;
	}
	*ret_value = value;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int parse_hex(struct str s, uint8_t *ret_bytes, size_t bytes)
{
	if (s.len % 2 || s.len / 2 != bytes)
		return -EINVAL;
	for (size_t i = 0; i < s.len; i++)
		if (hex_digit(s.ptr[i]) < 0)
			return -EINVAL;
	for (size_t i = 0; i < bytes; i++)
		ret_bytes[i] = (uint8_t)(hex_digit(s.ptr[2 * i]) << 4 | hex_digit(s.ptr[2 * i + 1]));
	return 0;
}

bool str_is_lower_hex(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (hex_digit(s.ptr[i]) < 0 || (s.ptr[i] >= 'A' && s.ptr[i] <= 'F'))
			return false;
	return s.len > 0;
}

void format_hex(const uint8_t *bytes, size_t count, char *ret_text)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		ret_text[2 * i] = digits[bytes[i] >> 4];
		ret_text[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret_text[2 * count] = 0;
}

struct unit {
	struct str name;
	uint64_t factor;
};

/* A number directly followed by one of the units. 0 needs none: it means the same in all of them. */
static int parse_with_unit(struct str s, const struct unit *units, size_t unit_count, uint64_t *ret_value)
{
	size_t digits = 0;
	uint64_t value;
	struct str unit;

	while (digits < s.len && s.ptr[digits] >= '0' && s.ptr[digits] <= '9')
		digits++;
	if (parse_u64((struct str){ s.ptr, digits }, &value) < 0)
		return -EINVAL;
	unit = (struct str){ s.ptr + digits, s.len - digits };
	if (unit.len == 0 && value == 0) {
		*ret_value = 0;
		return 0;
	}
	for (size_t i = 0; i < unit_count; i++) {
		if (!str_eq(unit, units[i].name))
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return -EINVAL;
		*ret_value = value;
		return 0;
	}
	return -EINVAL;
}

int parse_size(struct str s, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
		{ STR("B"), 1 },          { STR("K"), 1ULL << 10 }, { STR("M"), 1ULL << 20 },
		{ STR("G"), 1ULL << 30 }, { STR("T"), 1ULL << 40 }, { STR("P"), 1ULL << 50 },
	};

	return parse_with_unit(s, units, sizeof(units) / sizeof(units[0]), ret_bytes);
}

int parse_duration_ms(struct str s, uint64_t *ret_ms)
{
	static const struct unit units[] = {
		{ STR("ms"), 1 },
		{ STR("s"), 1000 },
		{ STR("m"), 60 * 1000 },
		{ STR("h"), 60 * 60 * 1000 },
		{ STR("d"), 24 * 60 * 60 * 1000 },
	};

	return parse_with_unit(s, units, sizeof(units) / sizeof(units[0]), ret_ms);
}

const char *format_size(uint64_t bytes, char ret_text[16])
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	/* 1023.95 would print as 1024.0 */
	while (value >= (unit ? 1023.95 : 1024) && unit < 6) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(ret_text, 16, unit ? "%.1f %s" : "%.0f %s", value, names[unit]);
	return ret_text;
}
