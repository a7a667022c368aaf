/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for reading and editing JSON text. What was JSON stays JSON, and says the same but for what was
 * edited.
 */
#include <assert.h>

#include "common/json.h"

#include "common/banned.h"

#define OUT_BYTES_MAX (64 * 1024 * 1024)

static const char *const names[] = { "xetHash", "x" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(const struct json *v)
{
	uint64_t number;

	(void)json_u64(v, &number);
	(void)json_string(v);
	for (const struct json *c = json_first(v); c; c = json_next(c)) {
		if (json_is_object(v))
			for (size_t i = 0; i < 2; i++)
				assert(!str_eq(json_name(c), str_from(names[i])));
		check_tree(c);
	}
}

static void check_strip(struct str text, bool is_json)
{
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_BUF once, twice;
	int r;

	buf_init(&once, OUT_BYTES_MAX);
	buf_init(&twice, OUT_BYTES_MAX);
	r = json_strip_members(text, names, 2, &once);
	if (r < 0)
		return;
	assert(once.len <= text.len);
	r = json_strip_members(buf_str(&once), names, 2, &twice);
	assert(r == 0);
	assert(str_eq(buf_str(&once), buf_str(&twice)));
	if (!is_json)
		return;
	r = json_parse(buf_str(&once), &root);
	assert(r == 0);
	check_tree(root);
}

static bool edit_all(void *ctx, struct str member, struct str value, struct buf *out)
{
	buf_append_str(out, value);
	return true;
}

static bool edit_none(void *ctx, struct str member, struct str value, struct buf *out)
{
	buf_append_str(out, value);
	return false;
}

static void check_edits(struct str text, bool is_json)
{
	SCOPED(json_free) struct json *root = NULL;
	SCOPED_BUF out;

	buf_init(&out, OUT_BYTES_MAX);
	if (json_edit_strings(text, edit_none, NULL, &out) == 0)
		assert(str_eq(buf_str(&out), text));
	buf_reset(&out);
	if (json_edit_strings(text, edit_all, NULL, &out) == 0 && is_json) {
		int r = json_parse(buf_str(&out), &root);

		assert(r == 0);
	}
}

/* Each element, as written, is what the tree has in its place; and each member of it is found in its text. */
static void check_element(struct str element, const struct json *want)
{
	SCOPED(json_free) struct json *got = NULL;
	SCOPED_BUF text;
	struct str raw;
	int r = json_parse(element, &got);

	buf_init(&text, OUT_BYTES_MAX);
	assert(r == 0);
	assert(json_count(got) == json_count(want));
	if (json_is_object(want) && json_get(want, "path")) {
		r = json_find_member(element, "path", &raw);
		assert(r == 0);
		if (json_is_string(json_get(want, "path")))
			assert(json_unquote(raw, &text) == 0);
	}
}

static void check_scan(struct str text, const struct json *root)
{
	struct str rest = text, element, raw;
	const struct json *want = json_first(root);
	int r;

	if (!root || !json_is_array(root)) {
		/* whatever it is, nothing may be read beyond its end */
		while (json_next_element(&rest, &element) == 1)
			(void)json_find_member(element, "path", &raw);
		return;
	}
	rest.ptr = (const char *)memchr(text.ptr, '[', text.len) + 1;
	rest.len = text.len - (size_t)(rest.ptr - text.ptr);
	for (; (r = json_next_element(&rest, &element)) == 1; want = json_next(want))
		check_element(element, want);
	assert(r == 0);
	assert(!want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	SCOPED(json_free) struct json *root = NULL;
	bool is_json = json_parse(text, &root) == 0;

	check_strip(text, is_json);
	check_edits(text, is_json);
	check_scan(text, root);
	return 0;
}
