/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for targets, percent coding and references. Input: a base URL, a newline, anything.
 */
#include <assert.h>

#include "common/http/uri.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was decoded, encoded and decoded again is the same: there is one name for it. */
static void check_coding(struct str raw)
{
	SCOPED_BUF decoded = { 0 }, encoded = { 0 }, again = { 0 };
	int r;

	buf_init(&decoded, raw.len);
	if (uri_decode_segment(raw, &decoded) < 0) {
		assert(decoded.len == 0);
		return;
	}
	(void)uri_is_clean_path(buf_str(&decoded));
	buf_init(&encoded, 3 * decoded.len);
	buf_init(&again, decoded.len);
	r = uri_encode(buf_str(&decoded), NULL, &encoded);
	assert(r == 0);
	r = uri_decode_segment(buf_str(&encoded), &again);
	assert(r == 0);
	assert(str_eq(buf_str(&again), buf_str(&decoded)));
}

static void check_params(struct str target)
{
	struct str path, query, name, value, cursor;

	uri_split_target(target, &path, &query);
	cursor = query;
	while (uri_next_param(&cursor, &name, &value))
		assert(uri_param(query, name).ptr);
}

/* Promise: a resolved URL parses, and resolving it once more changes nothing. */
static void check_resolving(struct str base, struct str reference)
{
	SCOPED_BUF first = { 0 }, second = { 0 };
	struct origin origin;
	struct str rest;
	int r;

	(void)origin_parse(reference, &origin, &rest);
	buf_init(&first, base.len + reference.len + 16);
	if (uri_resolve(base, reference, &first) < 0) {
		assert(first.len == 0);
		return;
	}
	r = origin_parse(buf_str(&first), &origin, &rest);
	assert(r == 0);
	assert(rest.ptr[0] == '/');
	assert(!strpbrk(origin.host, "/@#?\\ "));
	buf_init(&second, first.len);
	r = uri_resolve(base, buf_str(&first), &second);
	assert(r == 0);
	assert(str_eq(buf_str(&first), buf_str(&second)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str all = { (const char *)data, size };
	struct str base, text;

	check_coding(all);
	check_params(all);
	check_resolving(STR("https://huggingface.co/a/b/c?d=e"), all);
	if (str_cut(all, '\n', &base, &text))
		check_resolving(base, text);
	return 0;
}
