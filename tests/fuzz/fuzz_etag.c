/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for entity tags. Input: an opaque tag, a newline, a field value.
 */
#include <assert.h>

#include "common/http/etag.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str opaque, value, parsed;
	bool is_weak;

	str_cut((struct str){ (const char *)data, size }, '\n', &opaque, &value);
	if (etag_parse(value, &parsed, &is_weak) == 0) {
		/* a single tag is a list of one, and strong ones are good for If-Range */
		assert(etag_list_matches(value, parsed));
		assert(etag_if_range_matches(value, parsed) == !is_weak);
		assert(etag_list_matches(value, opaque) == str_eq(parsed, opaque));
	} else {
		assert(!etag_if_range_matches(value, opaque));
		(void)etag_list_matches(value, opaque);
	}
	return 0;
}
