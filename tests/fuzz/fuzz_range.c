/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for Range. Input: a size in decimal, a newline, the value. Whatever it is, no byte outside of
 * the size.
 */
#include <assert.h>

#include "common/http/range.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str line, value;
	struct byte_range range = { 0 };
	uint64_t bytes = 100;
	enum range_verdict verdict;

	if (!str_cut((struct str){ (const char *)data, size }, '\n', &line, &value))
		value = line;
	else
		(void)parse_u64(line, &bytes); /* stays 100 if it is no number */
	verdict = range_parse(value, bytes, &range);
	if (verdict == RANGE_ONE) {
		assert(range.first < range.end);
		assert(range.end <= bytes);
	}
	if (bytes == 0)
		assert(verdict == RANGE_NONE);
	else if (range_is_open(value))
		assert(verdict != RANGE_NONE);
	return 0;
}
