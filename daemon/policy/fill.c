/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill - how much of a file to fetch for one reader, and whom to wait for. Pure; tests in tests/unit/test_policy.c.
 */
#include <assert.h>

#include "policy/policy.h"

#include "common/banned.h"

/* Fetched whole whatever was asked for: two round trips cost as much as this many bytes. */
#define SMALL_FILE_MAX (8u << 20)
/* Readers of headers and indices ask next for what lies right behind; a second request costs more than these bytes. */
#define WINDOW_MIN (256u << 10)
/* What is held back until the digest matches (reliability B.4): no client takes a body without it for complete. */
#define HELD_BACK_BYTES (64u << 10)
/* A request of its own costs about this long until its first byte. */
#define NEW_TRANSFER_MS 250
/* Near enough to wait for, whatever the speed: what the next read brings; and while the speed is not known yet. */
#define NEAR_BYTES (16u << 10)
#define NEAR_BYTES_UNKNOWN (512u << 10)

enum fill_plan policy_fill_plan(struct byte_range wanted, bool is_open, uint64_t size,
				struct byte_range *ret_window)
{
	uint64_t bytes;

	assert(wanted.first < wanted.end && wanted.end <= size);
	bytes = wanted.end - wanted.first;
	if (is_open || size <= SMALL_FILE_MAX || bytes >= size - bytes) {
		*ret_window = (struct byte_range){ 0, size };
		return FILL_WHOLE;
	}
	/* Never begins before what was asked for: on a slow line the reader would wait for bytes that it does not need. */
	*ret_window = wanted;
	if (bytes < WINDOW_MIN)
		ret_window->end = size - wanted.first > WINDOW_MIN ? wanted.first + WINDOW_MIN : size;
	return FILL_WINDOW;
}

bool policy_worth_waiting(uint64_t offset, uint64_t position, uint64_t bytes_per_s)
{
	uint64_t near = NEAR_BYTES_UNKNOWN;

	if (position > offset)
		return false; /* it has passed by and will not come back */
	if (bytes_per_s > 0)
		near = bytes_per_s / 1000 * NEW_TRANSFER_MS + bytes_per_s % 1000 * NEW_TRANSFER_MS / 1000;
	if (near < NEAR_BYTES)
		near = NEAR_BYTES;
	return offset - position <= near;
}

uint64_t policy_held_back_bytes(uint64_t size)
{
	return size < HELD_BACK_BYTES ? size : HELD_BACK_BYTES;
}
