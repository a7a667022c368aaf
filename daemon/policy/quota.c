/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota - how much must go before something comes. Pure; tests in tests/unit/test_policy.c.
 */
#include "policy/policy.h"

#include "common/banned.h"

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t above(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

uint64_t policy_bytes_to_free(uint64_t used, uint64_t reserved, uint64_t wanted, uint64_t limit,
			      uint64_t disk_free, uint64_t disk_reserve)
{
	uint64_t over_limit = limit ? above(add(add(used, reserved), wanted), limit) : 0;
	/* what is reserved has been taken from the disk already: parts are preallocated */
	uint64_t over_disk = above(add(wanted, disk_reserve), disk_free);
	uint64_t over = over_limit > over_disk ? over_limit : over_disk;

	/* only what is used can be freed: throwing everything away in vain would be worse than saying no */
	return over > used ? UINT64_MAX : over;
}
