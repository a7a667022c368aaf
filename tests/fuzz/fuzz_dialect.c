/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for what inference servers send: events are cut without losing a byte, and whatever is converted is JSON.
 */
#include <assert.h>

#include "dialect/dialect.h"

#include "common/banned.h"

#define OUT_BYTES_MAX (16 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_events(struct str text)
{
	struct stream_watch w = { .dialect = DIALECT_CHAT };
	struct str rest = text;
	struct sse_event e;
	size_t seen = 0;
	SCOPED_BUF scratch;

	buf_init(&scratch, OUT_BYTES_MAX);
	while (sse_next(&rest, &scratch, &e) == 1) {
		seen += e.raw.len;
		stream_watch_event(&w, &e);
	}
	assert(seen + rest.len == text.len);
	(void)stream_is_whole(&w);
}

static void check_json(int error, const struct buf *out)
{
	SCOPED(json_free) struct json *root = NULL;

	if (error == 0)
		assert(json_parse(buf_str(out), &root) == 0);
}

static void check_forms(enum dialect d, struct str text)
{
	SCOPED_BUF out;

	buf_init(&out, OUT_BYTES_MAX);
	check_json(stream_merge(d, text, &out), &out);
	buf_reset(&out);
	if (whole_split(d, text, true, &out) == 0)
		check_events(buf_str(&out));
}

static void check_form(struct str text)
{
	struct str rest = text, boundary = STR("x");
	struct form_part part;
	struct digest digest;
	struct call_facts facts;
	size_t before;

	do {
		before = rest.len;
	} while (form_next(&rest, boundary, &part) == 1 && rest.len < before);
	(void)form_boundary(text);
	(void)form_digest(text, boundary, &digest);
	call_read_form(DIALECT_AUDIO, boundary, text, &facts);
	call_facts_done(&facts);
	(void)media_sniff(text);
}

/* A body, a zero byte, and a refusal of it: what is left is an object. */
static void check_unknown(struct str text)
{
	const char *nul = text.len ? memchr(text.ptr, 0, text.len) : NULL;
	struct str body = nul ? str_from_range(text.ptr, nul) : text;
	struct str refusal = nul ? str_from_range(nul + 1, text.ptr + text.len) : text;
	SCOPED_BUF names;
	SCOPED_BUF out;

	buf_init(&names, OUT_BYTES_MAX);
	buf_init(&out, OUT_BYTES_MAX);
	if (unknown_members(body, refusal, &names) == 0)
		check_json(without_members(body, buf_str(&names), &out), &out);
}

/* What passes here is walked without being read again: the library must take it too. */
static void check_json_text(struct str text)
{
	SCOPED(json_free) struct json *json = NULL;
	struct token_usage usage = { 0 };

	(void)usage_find(text, &usage);
	if (whole_is_answer(DIALECT_OTHER, text))
		assert(json_parse(text, &json) == 0);
	if (whole_is_answer(DIALECT_OTHER, text) || whole_is_error(text))
		(void)usage_read(text, &usage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = { (const char *)data, size };
	struct call_facts facts;
	SCOPED_BUF out;

	check_events(text);
	check_form(text);
	check_json_text(text);
	check_unknown(text);
	for (enum dialect d = DIALECT_TASK; d <= DIALECT_OTHER; d++) {
		check_forms(d, text);
		call_read(d, STR("text-generation"), text, &facts);
		call_facts_done(&facts);
		(void)whole_is_answer(d, text);
	}
	buf_init(&out, OUT_BYTES_MAX);
	check_json(embeddings_convert(text, size % 2, &out), &out);
	buf_reset(&out);
	(void)stream_without_usage(text, &out);
	buf_reset(&out);
	(void)stream_rename(text, STR("m"), &out);
	return 0;
}
