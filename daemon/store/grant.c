/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/grant - the room of an open part: which blocks it may write, and that they are paid for.
 *
 * Owns      part->granted. The sums are room.c's.
 * Never     grants a byte that is not reserved: what a part reserved is at least its granted blocks and one
 *           for its map, in whose place the sidecar comes.
 * Threads   part_reserve: any but fetch, for it may wait for the disk, one call for a part at a time.
 *           part_room_from: any.
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>

#include "common/banned.h"

/* What a range takes on the disk; the last block of the file counts as a whole one. */
static struct byte_range blocks_of(struct byte_range range)
{
	return (struct byte_range){ range.first / STORE_BLOCK * STORE_BLOCK, file_charge(range.end) };
}

void grant_blocks(const struct ranges *held, struct ranges *ret_blocks)
{
	*ret_blocks = (struct ranges){ .at = NULL };
	for (size_t i = 0; i < held->count; i++)
		ranges_add(ret_blocks, blocks_of(held->at[i]));
}

uint64_t grant_charge(const struct ranges *blocks)
{
	return blocks->bytes + SIDECAR_CHARGE;
}

/* The blocks of range that are not granted yet. Returns what the part is charged with when they are. */
static uint64_t list_missing(struct part *p, struct byte_range range, struct ranges *ret_missing)
{
	struct byte_range want = blocks_of(range), gap = { 0, want.first };
	SCOPED_LOCK(&p->lock);

	*ret_missing = (struct ranges){ .at = NULL };
	while (ranges_next_gap(&p->granted, gap.end, want.end, &gap))
		ranges_add(ret_missing, gap);
	return grant_charge(&p->granted) + ret_missing->bytes;
}

static int allocate_one(struct part *p, struct byte_range blocks)
{
	uint64_t end = blocks.end < p->id.size ? blocks.end : p->id.size;
	int r;

	do
		r = fallocate(p->fd, FALLOC_FL_KEEP_SIZE, (off_t)blocks.first, (off_t)(end - blocks.first));
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int part_allocate(struct part *p, const struct ranges *blocks, bool *ret_is_allocated)
{
	int r = 0;

	for (size_t i = 0; i < blocks->count && r == 0; i++)
		r = allocate_one(p, blocks->at[i]);
	*ret_is_allocated = r == 0;
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		return 0;
	return r == -EFBIG || r == -EDQUOT ? -ENOSPC : r;
}

static void grant(struct part *p, const struct ranges *blocks)
{
	SCOPED_LOCK(&p->lock);

	for (size_t i = 0; i < blocks->count; i++)
		ranges_add(&p->granted, blocks->at[i]);
}

int part_reserve(struct part *p, struct byte_range range, uint64_t *ret_missing)
{
	SCOPED_RANGES blocks;
	uint64_t taken, charge;
	bool is_allocated;
	int r;

	assert(range.first <= range.end && range.end <= p->id.size);
	charge = list_missing(p, range, &blocks);
	r = room_raise(p, charge, &taken, ret_missing);
	if (r < 0)
		return r;
	r = part_allocate(p, &blocks, &is_allocated);
	if (r < 0) {
		room_lower(p, taken);
		*ret_missing = UINT64_MAX; /* the quota is not what is in the way */
		return store_error(p->store, r);
	}
	if (is_allocated)
		room_note_allocated(p, blocks.bytes);
	grant(p, &blocks);
	return 0;
}

uint64_t part_room_from(struct part *p, uint64_t offset)
{
	uint64_t room;
	SCOPED_LOCK(&p->lock);

	if (offset >= p->id.size)
		return 0;
	room = ranges_held_from(&p->granted, offset);
	return room < p->id.size - offset ? room : p->id.size - offset;
}
