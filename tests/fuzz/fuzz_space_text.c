/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for what an app of a Space says: the text in one piece and in small ones becomes the same, and what was turned once
 * is not turned again. The first byte says what it is, and how small the pieces are.
 */
#include <assert.h>

#include "common/http/uri.h"
#include "hub/space_text.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void turn(struct str text, enum space_form form, size_t piece, struct buf *out)
{
	static const struct space_rule rule = { .from = { STR("https://a.hf.space"), STR("http://c") },
						.to = STR("http://c/_space/a/b") };
	struct space_text t;

	space_text_init(&t, form, &rule);
	while (text.len) {
		struct str now = { text.ptr, text.len < piece ? text.len : piece };

		(void)space_text_feed(&t, now, out);
		assert(t.hold_len <= SPACE_HOLD_MAX);
		text = str_from_range(text.ptr + now.len, text.ptr + text.len);
	}
	(void)space_text_end(&t, out);
}

/* Where a client goes that is told this: to another server, or to the Space. */
static void check_location(const struct space_place *place, struct str location)
{
	struct origin own, to;
	struct str path;
	SCOPED_BUF whole;

	buf_init(&whole, 1 << 20);
	if (uri_resolve(STR("http://127.0.0.1:80/_space/a/b/x/y?z"), location, &whole) < 0)
		return; /* "app:x": nowhere on the web */
	assert(origin_parse(place->base, &own, &path) == 0);
	assert(origin_parse(buf_str(&whole), &to, &path) == 0);
	assert(!origin_eq(&own, &to) || str_starts_with(path, place->prefix));
}

static void check_fields(struct str text)
{
	static const struct space_place place = { .app = STR("http://127.0.0.1:7860/inner"),
						  .rest = STR("/x/y?z"),
						  .base = STR("http://127.0.0.1:80"),
						  .prefix = STR("/_space/a/b"),
						  .is_told_base = true };
	SCOPED_BUF out;

	buf_init(&out, 1 << 20);
	if (space_map_location(&place, text, &out) == 0)
		check_location(&place, buf_str(&out));
	else
		assert(out.len == 0);
	buf_reset(&out);
	(void)space_cookie_out(text, STR("T-"), STR("/_space/a/b/"), false, &out);
	buf_reset(&out);
	(void)space_cookie_in(text, STR("T-"), &out);
	assert(out.len <= text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum space_form form = size && data[0] & 1 ? SPACE_HTML : SPACE_JSON;
	size_t piece = size ? 1 + (data[0] >> 1) % 40 : 1;
	struct str text = { (const char *)data, size };
	SCOPED_BUF whole = { 0 }, pieces = { 0 }, again = { 0 };

	if (size > 65536)
		return 0;
	buf_init(&whole, 64 << 20);
	buf_init(&pieces, 64 << 20);
	buf_init(&again, 64 << 20);
	turn(text, form, text.len ? text.len : 1, &whole);
	turn(text, form, piece, &pieces);
	assert(str_eq(buf_str(&whole), buf_str(&pieces)));
	turn(buf_str(&whole), form, piece, &again);
	assert(str_eq(buf_str(&whole), buf_str(&again)));
	check_fields(text);
	return 0;
}
