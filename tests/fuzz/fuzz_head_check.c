/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_head_check - any bytes, in any cuts: the verdict does not depend on how they were cut, and no byte of a request
 * at fault is let through that was fed in one piece with its beginning. Behind the head of an upgrade nothing is let through.
 */
#include "server/head_check.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct head_check whole, bytewise;
	const char *text = (const char *)data;
	size_t good, passed = 0;

	head_check_init(&whole);
	head_check_init(&bytewise);
	good = head_check_feed(&whole, text, size);
	for (size_t i = 0; i < size; i++)
		passed += head_check_feed(&bytewise, text + i, 1);
	assert(whole.fault == bytewise.fault && whole.heads == bytewise.heads);
	if (head_check_waits(&whole)) {
		assert(head_check_waits(&bytewise) && good == passed);
		assert(head_check_feed(&whole, text, size) == 0);
		head_check_go_on(&whole);
		assert(!whole.fault && !head_check_in_head(&whole) && !head_check_in_body(&whole));
		return 0;
	}
	assert(whole.fault ? good <= passed && passed < size : good == size && passed == size);
	if (!whole.fault)
		return 0;
	assert(head_fault_answer((enum head_fault)whole.fault)->status >= 400);
	assert(head_check_feed(&whole, text, size) == 0);
	return 0;
}
