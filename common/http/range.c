/* SPDX-License-Identifier: Apache-2.0 */
/*
 * range - the Range field and Content-Range (RFC 9110 section 14). Pure.
 *
 * Promises  (1) a range that is returned lies inside the representation and is not empty, whatever the
 *               numbers were.
 * Threads   any.
 */
#include "common/http/range.h"

#include <assert.h>
#include <errno.h>

#include "common/banned.h"

/* Digits only; what does not fit is UINT64_MAX, which lies past the end of everything. */
static bool parse_position(struct str s, uint64_t *ret_value)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < '0' || s.ptr[i] > '9')
			return false;
	if (s.len == 0)
		return false;
	if (parse_u64(s, ret_value) < 0)
		*ret_value = UINT64_MAX;
	return true;
}

struct range_spec {
	enum { SPEC_FROM_TO, SPEC_FROM, SPEC_SUFFIX } kind;
	uint64_t first, last; /* last: inclusive, or the length of a suffix */
};

static bool parse_spec(struct str s, struct range_spec *ret_spec)
{
	struct str from, to;

	if (!str_cut(s, '-', &from, &to))
		return false;
	if (from.len == 0) {
		ret_spec->kind = SPEC_SUFFIX;
		return parse_position(to, &ret_spec->last);
	}
	if (!parse_position(from, &ret_spec->first))
		return false;
	if (to.len == 0) {
		ret_spec->kind = SPEC_FROM;
		return true;
	}
	ret_spec->kind = SPEC_FROM_TO;
	return parse_position(to, &ret_spec->last) && ret_spec->first <= ret_spec->last;
}

/* The one spec of "bytes=spec". Lists may have empty elements (RFC 9110 5.6.1.2): they do not count. */
static bool parse_single(struct str value, struct range_spec *ret_spec)
{
	struct str unit, list, item, only = { NULL, 0 };

	if (!str_cut(str_trim(value), '=', &unit, &list) || !str_eq_nocase(unit, STR("bytes")))
		return false;
	while (list.len) {
		str_cut(list, ',', &item, &list);
		item = str_trim(item);
		if (item.len == 0)
			continue;
		if (only.len)
			return false; /* several: everything is a right answer to that too (B07) */
		only = item;
	}
	return parse_spec(only, ret_spec);
}

enum range_verdict range_parse(struct str value, uint64_t size, struct byte_range *ret_range)
{
	struct range_spec spec = { 0 };
	uint64_t first, end = size;

	if (!value.ptr || !parse_single(value, &spec) || size == 0)
		return RANGE_NONE;
	if (spec.kind == SPEC_SUFFIX) {
		if (spec.last == 0)
			return RANGE_UNSATISFIABLE;
		first = spec.last < size ? size - spec.last : 0;
	} else {
		first = spec.first;
		if (first >= size)
			return RANGE_UNSATISFIABLE;
		if (spec.kind == SPEC_FROM_TO && spec.last < size - 1)
			end = spec.last + 1;
	}
	assert(first < end);
	assert(end <= size);
	*ret_range = (struct byte_range){ .first = first, .end = end };
	return RANGE_ONE;
}

bool range_is_open(struct str value)
{
	struct range_spec spec;

	return value.ptr && parse_single(value, &spec) && spec.kind == SPEC_FROM;
}

/* "a-b" with a <= b and b + 1 countable. */
static int parse_extent(struct str s, struct content_range *ret_range)
{
	struct str from, to;
	uint64_t first, last;

	if (!str_cut(s, '-', &from, &to) || parse_u64(from, &first) < 0 || parse_u64(to, &last) < 0)
		return -EINVAL;
	if (first > last || last == UINT64_MAX)
		return -EINVAL;
	ret_range->first = first;
	ret_range->end = last + 1;
	return 0;
}

int content_range_parse(struct str value, struct content_range *ret_range)
{
	struct content_range range = { 0 };
	struct str unit, rest, extent, size;
	bool has_extent;

	if (!str_cut(str_trim(value), ' ', &unit, &rest) || !str_eq_nocase(unit, STR("bytes")))
		return -EINVAL;
	if (!str_cut(str_trim(rest), '/', &extent, &size))
		return -EINVAL;
	range.has_size = !str_eq(size, STR("*"));
	if (range.has_size && parse_u64(size, &range.size) < 0)
		return -EINVAL;
	has_extent = !str_eq(extent, STR("*"));
	if (!has_extent && !range.has_size)
		return -EINVAL;
	if (has_extent && parse_extent(extent, &range) < 0)
		return -EINVAL;
	if (has_extent && range.has_size && range.end > range.size)
		return -EINVAL;
	*ret_range = range;
	return 0;
}
