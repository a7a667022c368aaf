/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for what is said to inference servers of one's own, and what they say: a byte for the adapter, a call, a NUL, an
 * answer. A call that is passed on is JSON, and an answer becomes the same however its bytes arrive.
 */
#include <assert.h>
#include <string.h>

#include "dialect/adapt.h"

#include "common/banned.h"

#define OUT_BYTES_MAX (16 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int begin(uint8_t choice, struct str body, struct adapted **ret)
{
	struct adapt_call c = { .how = choice % ADAPT_COUNT,
				.body = body,
				.asked = STR("acme/asked"),
				.name = STR("served"),
				.labels = STR("{\"0\":\"NEG\"}") };
	SCOPED(json_free) struct json *root = NULL;
	struct call_facts facts;
	SCOPED_BUF out;
	SCOPED_BUF type;
	int r;

	buf_init(&out, OUT_BYTES_MAX);
	buf_init(&type, 1024);
	call_read(DIALECT_TASK, STR(""), body, &facts);
	c.is_json = facts.is_json;
	call_facts_done(&facts);
	r = adapt_request(&c, &out, &type, ret);
	if (r == 0 && c.how != ADAPT_TRANSCRIBE)
		assert(json_parse(buf_str(&out), &root) == 0);
	return r;
}

static int hear(uint8_t choice, struct str body, struct str answer, size_t piece, struct buf *out)
{
	struct adapted *a = NULL;
	struct headers fields;
	int r = begin(choice, body, &a);

	if (r < 0)
		return r;
	headers_init(&fields);
	(void)headers_add(&fields, STR("Content-Type"),
			  choice & 0x80 ? STR("text/event-stream") : STR("application/json"));
	r = adapt_head(a, choice & 0x40 ? 400 : 200, &fields);
	headers_done(&fields);
	while (r == 0 && answer.len) {
		size_t len = answer.len < piece ? answer.len : piece;

		r = adapt_piece(a, (struct str){ answer.ptr, len }, out);
		answer = (struct str){ answer.ptr + len, answer.len - len };
	}
	if (r == 0)
		r = adapt_end(a, out);
	adapted_free(a);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1, *nul;
	struct str body, answer = STR("");
	SCOPED_BUF whole;
	SCOPED_BUF pieces;
	int r;

	buf_init(&whole, OUT_BYTES_MAX);
	buf_init(&pieces, OUT_BYTES_MAX);
	if (size < 2)
		return 0;
	nul = memchr(text, 0, size - 1);
	body = (struct str){ text, nul ? (size_t)(nul - text) : size - 1 };
	if (nul)
		answer = (struct str){ nul + 1, size - 2 - body.len };
	r = hear(data[0], body, answer, SIZE_MAX, &whole);
	assert(hear(data[0], body, answer, 3, &pieces) == r);
	if (r == 0)
		assert(str_eq(buf_str(&whole), buf_str(&pieces)));
	return 0;
}
