/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for Content-Range. What is accepted must not contradict itself.
 */
#include <assert.h>

#include "common/http/range.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct content_range range;

	if (content_range_parse((struct str){ (const char *)data, size }, &range) < 0)
		return 0;
	if (range.end == 0) {
		assert(range.first == 0);
		assert(range.has_size);
		return 0;
	}
	assert(range.first < range.end);
	if (range.has_size)
		assert(range.end <= range.size);
	return 0;
}
