/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/ranges - sets of byte ranges: sorted, apart from each other, none empty. Pure.
 *
 * The number of ranges is bounded by who adds: windows are rounded up, so a part has at most size / window of them.
 */
#include "store/priv.h"

#include <assert.h>

#include "common/alloc.h"

#include "common/banned.h"

#define ROOM_MIN 8

void ranges_done(struct ranges *r)
{
	free(r->at);
	*r = (struct ranges){ .at = NULL };
}

/* The first range that ends at or after offset: one that offset lies in or touches, or the next one. */
static size_t find(const struct ranges *r, uint64_t offset)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (r->at[middle].end < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void make_room(struct ranges *r)
{
	if (r->count < r->room)
		return;
	r->room = r->room ? 2 * r->room : ROOM_MIN;
	r->at = xrealloc(r->at, r->room * sizeof(*r->at));
}

void ranges_add(struct ranges *r, struct byte_range add)
{
	size_t first, last;

	assert(add.first <= add.end);
	if (add.first == add.end)
		return;
	first = find(r, add.first);
	/* all that touch it, [first, last), melt into one */
	for (last = first; last < r->count && r->at[last].first <= add.end; last++) {
		if (r->at[last].first < add.first)
			add.first = r->at[last].first;
		if (r->at[last].end > add.end)
			add.end = r->at[last].end;
		r->bytes -= r->at[last].end - r->at[last].first;
	}
	if (first == last) {
		make_room(r);
		memmove(r->at + first + 1, r->at + first, (r->count - first) * sizeof(*r->at));
		r->count++;
	} else {
		memmove(r->at + first + 1, r->at + last, (r->count - last) * sizeof(*r->at));
		r->count -= last - first - 1;
	}
	r->at[first] = add;
	r->bytes += add.end - add.first;
}

uint64_t ranges_held_from(const struct ranges *r, uint64_t offset)
{
	size_t i = find(r, offset);

	if (i < r->count && r->at[i].end == offset)
		i++; /* touches it only */
	if (i == r->count || r->at[i].first > offset)
		return 0;
	return r->at[i].end - offset;
}

bool ranges_next_gap(const struct ranges *r, uint64_t offset, uint64_t size, struct byte_range *ret_gap)
{
	size_t i;

	offset += ranges_held_from(r, offset);
	if (offset >= size)
		return false;
	i = find(r, offset);
	if (i < r->count && r->at[i].end == offset)
		i++;
	*ret_gap =
		(struct byte_range){ offset, i < r->count && r->at[i].first < size ? r->at[i].first : size };
	return true;
}

void ranges_copy(const struct ranges *from, struct ranges *ret_copy)
{
	*ret_copy = (struct ranges){ .count = from->count, .room = from->count, .bytes = from->bytes };
	if (!from->count)
		return;
	ret_copy->at = xmalloc(from->count * sizeof(*from->at));
	memcpy(ret_copy->at, from->at, from->count * sizeof(*from->at));
}
