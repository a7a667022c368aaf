/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz entry for the canonical spelling of JSON. What has one is JSON, and its spelling is its own spelling.
 */
#include <assert.h>

#include "common/json.h"
#include "common/json_canonical.h"

#include "common/banned.h"

#define OUT_BYTES_MAX (64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool leave_out(void *ctx, const struct json_member *m)
{
	return m->depth <= 2 && (str_eq(m->value, STR("null")) || str_eq(m->name, STR("stream")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	SCOPED_BUF once, twice, less;

	buf_init(&once, OUT_BYTES_MAX);
	buf_init(&twice, OUT_BYTES_MAX);
	buf_init(&less, OUT_BYTES_MAX);
	if (json_canonical((struct str){ (const char *)data, size }, NULL, NULL, &once) < 0)
		return 0;
	assert(json_canonical(buf_str(&once), NULL, NULL, &twice) == 0);
	assert(str_eq(buf_str(&once), buf_str(&twice)));
	assert(json_canonical(buf_str(&once), leave_out, NULL, &less) == 0);
	assert(less.len <= once.len);
	return 0;
}
