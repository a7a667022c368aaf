/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for HTTP dates and Retry-After. What is read must be written and read back as the same second.
 */
#include <assert.h>
#include <errno.h>

#include "common/http/date.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str value = { (const char *)data, size };
	int64_t wall_s, again, wait_ms;

	if (http_date_parse(value, &wall_s) == 0 && wall_s >= 0) {
		char text[HTTP_DATE_MAX];
		int r;

		http_date_format(wall_s, text);
		r = http_date_parse(str_from(text), &again);
		assert(r == 0);
		/* the leap second after the last year that has four digits cannot be written */
		assert(again == wall_s || wall_s == 253402300800);
	}
	wait_ms = retry_after_ms(value, 784111777, 600000);
	assert(wait_ms == -EINVAL || (wait_ms >= 0 && wait_ms <= 600000));
	return 0;
}
