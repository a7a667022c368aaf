/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_fact - any bytes as a line of a journal.
 *
 * Proves that a line is refused, or becomes a fact whose own line is printable and means the same fact again.
 */
#include <assert.h>
#include <errno.h>

#include "index/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void assert_is_one_line(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		assert(s.ptr[i] >= ' ' && s.ptr[i] <= '~');
}

/* Returns what fact_decode() did; *line is what the fact says in our own words. */
static int decode(struct str text, struct buf *line)
{
	SCOPED_BUF scratch = { 0 };
	struct fact fact = { .kind = FACT_USE };
	struct doc doc = { 0 };
	int r;

	buf_init(&scratch, 2 * text.len + 64);
	r = fact_decode(STR("models/acme/pub"), text, &scratch, &fact, &doc);
	assert(r == 0 || r == -EINVAL);
	assert((r == 0) == (fact.kind != FACT_USE));
	if (r == 0) {
		int written = fact_encode(&fact, line);

		assert(written == 1);
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SCOPED_BUF first = { 0 };
	SCOPED_BUF second = { 0 };

	buf_init(&first, 3 * size + 1024);
	buf_init(&second, 3 * size + 1024);
	if (decode((struct str){ (const char *)data, size }, &first) < 0)
		return 0;
	assert_is_one_line(buf_str(&first));
	if (decode(buf_str(&first), &second) < 0)
		assert(!"our own line is refused");
	assert(str_eq(buf_str(&first), buf_str(&second)));
	return 0;
}
