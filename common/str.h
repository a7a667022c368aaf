/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str - a string with a length, owned by somebody else; and the checked parsers of numbers and hex.
 *
 * Every string from outside travels as struct str: it need not end in NUL and may contain one.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

struct str {
	const char *ptr; /* borrowed */
	size_t len;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })
/* For printf("%.*s", STR_ARGS(s)). */
#define STR_ARGS(s) (int)(s).len, (s).ptr

static inline struct str str_from(const char *s)
{
	return (struct str){ s, s ? strlen(s) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII only: header names, schemes, hosts. */
bool str_eq_nocase(struct str a, struct str b);
bool str_starts_with(struct str s, struct str prefix);
bool str_ends_with(struct str s, struct str suffix);
/* Without leading and trailing space and tab. */
struct str str_trim(struct str s);
/* Cuts at the first `at`: *ret_head is before it, *ret_tail after it. Returns false (head = all, tail
 * empty) without one. */
bool str_cut(struct str s, char at, struct str *ret_head, struct str *ret_tail);
struct str str_from_range(const char *begin, const char *end);
/* The caller's copy, with a NUL added; free() it. */
char *str_dup(struct str s);
/* Bytes of the UTF-8 sequence at the start of s; 0 if s does not start with a valid one (then *ret_code
 * stays). */
size_t str_utf8_next(struct str s, uint32_t *ret_code);

/* Decimal digits only: no sign, no space, no overflow. Returns 0 or -EINVAL. */
int parse_u64(struct str s, uint64_t *ret_value);
/* Returns 0 or -EINVAL unless s is exactly 2 * bytes lower or upper case hex digits. */
int parse_hex(struct str s, uint8_t *ret_bytes, size_t bytes);
bool str_is_lower_hex(struct str s);
/* Writes 2 * bytes digits and a NUL. */
void format_hex(const uint8_t *bytes, size_t count, char *ret_text);
/* Sizes "500G", "4T", "64K", "1024B" (powers of 1024; "80%" is not a size) and times "250ms", "30s", "12h",
 * "7d".
 * A bare number other than 0 is -EINVAL. */
int parse_size(struct str s, uint64_t *ret_bytes);
int parse_duration_ms(struct str s, uint64_t *ret_ms);
/* Human form for messages: "90.9 MiB". Writes at most 16 bytes with the NUL. */
const char *format_size(uint64_t bytes, char ret_text[16]);
