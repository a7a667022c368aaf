/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etag - entity tags and the conditions on them (RFC 9110 8.8.3, 13.1). Pure, one pass over the value (P17).
 *
 * Threads   any.
 */
#include "common/http/etag.h"

#include <errno.h>

#include "common/banned.h"

static bool is_etag_char(unsigned char c)
{
	return c == 0x21 || (c >= 0x23 && c <= 0x7e) || c >= 0x80;
}

/* One tag at the start of s. Returns the bytes it takes, 0 if there is none. */
static size_t scan_tag(struct str s, struct str *ret_opaque, bool *ret_is_weak)
{
	bool is_weak = str_starts_with(s, STR("W/")); /* case-sensitive: w/ is no tag */
	size_t open = is_weak ? 2 : 0;
	size_t at;

	if (open >= s.len || s.ptr[open] != '"')
		return 0;
	at = open + 1;
	while (at < s.len && is_etag_char((unsigned char)s.ptr[at]))
		at++;
	if (at >= s.len || s.ptr[at] != '"')
		return 0;
	*ret_opaque = str_from_range(s.ptr + open + 1, s.ptr + at);
	*ret_is_weak = is_weak;
	return at + 1;
}

int etag_parse(struct str value, struct str *ret_opaque, bool *ret_is_weak)
{
	struct str trimmed = str_trim(value);
	struct str opaque;
	bool is_weak;

	if (trimmed.len == 0 || scan_tag(trimmed, &opaque, &is_weak) != trimmed.len)
		return -EINVAL;
	*ret_opaque = opaque;
	if (ret_is_weak)
		*ret_is_weak = is_weak;
	return 0;
}

/* Takes the next element off the list: a tag may hold commas, so the list cannot just be cut at them. */
static bool next_element(struct str *list, struct str *ret_opaque)
{
	struct str rest = str_trim(*list);
	struct str junk;
	bool is_weak;
	size_t used = scan_tag(rest, ret_opaque, &is_weak);

	rest.ptr += used;
	rest.len -= used;
	str_cut(rest, ',', &junk, list);
	return used > 0 && str_trim(junk).len == 0;
}

bool etag_list_matches(struct str list, struct str opaque)
{
	struct str tag;

	list = str_trim(list);
	if (str_eq(list, STR("*")))
		return true;
	while (list.len)
		if (next_element(&list, &tag) && str_eq(tag, opaque))
			return true;
	return false;
}

bool etag_if_range_matches(struct str value, struct str opaque)
{
	struct str tag;
	bool is_weak;

	return etag_parse(value, &tag, &is_weak) == 0 && !is_weak && str_eq(tag, opaque);
}
