/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz entry for what an inference server says of its models. */
#include <assert.h>

#include "backend/priv.h"

#include "common/banned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct served served;
	int r = inventory_read((struct str){ (const char *)data, size }, &served);

	assert(served.count <= SERVED_MAX);
	assert(r == 0 || served.count == 0);
	served_done(&served);
	return 0;
}
