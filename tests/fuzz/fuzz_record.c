/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the line of a kept answer: what is read can be written, and is read again as the same.
 */
#include <assert.h>

#include "infer/priv.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool same(const char *a, const char *b)
{
	return a && b ? str_eq(str_from(a), str_from(b)) : a == b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record first, again;
	SCOPED_BUF text;
	ssize_t n = record_read((struct str){ (const char *)data, size }, &first);

	buf_init(&text, 65536);
	if (n < 0)
		return 0;
	assert((size_t)n <= size && data[n - 1] == '\n');
	record_write(&first, &text);
	if (!buf_error(&text) && text.len < RECORD_LINE_MAX) {
		assert(record_read(buf_str(&text), &again) == (ssize_t)text.len);
		assert(again.form == first.form && again.dialect == first.dialect &&
		       again.made_at == first.made_at);
		assert(same(again.type, first.type) && same(again.model, first.model) &&
		       same(again.sha, first.sha));
		record_done(&again);
	}
	record_done(&first);
	return 0;
}
