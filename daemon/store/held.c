/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/held - the bytes of an open part: writing them, knowing which are held, bringing them to the disk.
 *
 * Never     calls bytes held that were not written through it or listed in a map whose bytes were synced: the blocks of a
 *           preallocated file are no proof of anything.
 * Threads   part_write, part_set_validator, part_reset: fetch. Checkpoints: keeper. The rest any.
 * Promises  (1) a part whose sync failed holds nothing any more, takes nothing, and is deleted.
 */
#include "store/priv.h"

#include <errno.h>
#include <fcntl.h>

#include "common/alloc.h"
#include "common/path.h"

#include "common/banned.h"

int part_fd(const struct part *p)
{
	return p->fd;
}

static void note_dirty_locked(struct part *p, struct byte_range range)
{
	if (p->dirty_bytes == 0 || range.first < p->dirty_first)
		p->dirty_first = range.first;
	if (p->dirty_bytes == 0 || range.end > p->dirty_end)
		p->dirty_end = range.end;
	p->dirty_bytes += range.end - range.first;
	p->unmapped_bytes += range.end - range.first;
	p->is_map_stale = true;
}

static int hold(struct part *p, struct byte_range range)
{
	uint64_t before;
	SCOPED_LOCK(&p->lock);

	if (p->is_closed || p->is_broken)
		return -EIO;
	before = p->held.bytes;
	ranges_add(&p->held, range);
	atomic_fetch_add_explicit(&p->store->held_bytes, p->held.bytes - before, memory_order_relaxed);
	note_dirty_locked(p, range);
	return 0;
}

static int may_write(struct part *p, uint64_t offset, size_t len)
{
	SCOPED_LOCK(&p->lock);

	if (p->is_closed || p->is_broken)
		return -EIO;
	return len <= ranges_held_from(&p->granted, offset) ? 0 : -ENOSPC; /* promise 2 of the store */
}

int part_write(struct part *p, uint64_t offset, const void *bytes, size_t len)
{
	int r;

	if (offset > p->id.size || len > p->id.size - offset)
		return -EINVAL; /* upstream sent more than it promised */
	r = may_write(p, offset, len);
	if (r < 0)
		return r;
	r = fs_pwrite_all(p->fd, bytes, len, offset);
	if (r < 0)
		return r == -EDQUOT ? -ENOSPC : store_error(p->store, r);
	return hold(p, (struct byte_range){ offset, offset + len });
}

uint64_t part_held_from(struct part *p, uint64_t offset)
{
	SCOPED_LOCK(&p->lock);

	return p->is_broken ? 0 : ranges_held_from(&p->held, offset);
}

bool part_next_gap(struct part *p, uint64_t offset, struct byte_range *ret_gap)
{
	SCOPED_LOCK(&p->lock);

	return ranges_next_gap(&p->held, offset, p->id.size, ret_gap);
}

bool part_is_complete(struct part *p)
{
	struct byte_range gap;

	return !part_next_gap(p, 0, &gap);
}

bool part_is_broken(struct part *p)
{
	SCOPED_LOCK(&p->lock);

	return p->is_broken;
}

void part_set_validator(struct part *p, struct str validator)
{
	SCOPED_LOCK(&p->lock);

	if (validator.len > VALIDATOR_MAX)
		validator = STR(""); /* not worth keeping: it is resumed by its object id */
	if (str_eq(str_from(p->validator), validator))
		return;
	free(p->validator);
	p->validator = str_dup(validator);
	p->is_map_stale = true;
}

struct str part_validator(const struct part *p)
{
	return str_from(p->validator);
}

/* --- checkpoints --- */

bool part_wants_checkpoint(const struct part *p)
{
	struct part *q = (struct part *)p; /* to lock is to write, for C; the part stays as it is */
	SCOPED_LOCK(&q->lock);

	return !q->is_closed && !q->is_broken && q->dirty_bytes >= WRITEBACK_STEP;
}

int part_checkpoint(struct part *p)
{
	uint64_t first, len;
	bool wants_map;

	lock_take(&p->lock);
	first = p->dirty_first;
	len = p->dirty_bytes ? p->dirty_end - p->dirty_first : 0;
	p->dirty_bytes = 0;
	wants_map = p->unmapped_bytes >= MAP_STEP;
	if (p->is_closed || p->is_broken)
		len = 0, wants_map = false;
	lock_drop(&p->lock);
	/* an error shows again in the sync that follows */
	if (len)
		(void)sync_file_range(p->fd, (off_t)first, (off_t)len, SYNC_FILE_RANGE_WRITE);
	return wants_map ? part_map_save(p) : 0;
}

static void forget_held(struct part *p)
{
	SCOPED_LOCK(&p->lock);

	atomic_fetch_sub_explicit(&p->store->held_bytes, p->held.bytes, memory_order_relaxed);
	ranges_done(&p->held);
	free(p->validator);
	p->validator = xstrdup("");
	p->dirty_bytes = p->unmapped_bytes = 0;
	p->is_map_stale = true;
	p->has_map = false;
	p->resets++;
}

static void list_granted(struct part *p, struct ranges *ret_blocks)
{
	SCOPED_LOCK(&p->lock);

	ranges_copy(&p->granted, ret_blocks);
}

int part_reset(struct part *p)
{
	char name[INCOMING_NAME_TEXT];
	SCOPED_RANGES blocks;
	bool is_allocated; /* was said when it was reserved */
	int r;

	forget_held(p);
	/* Not synced: a crash that brings the map back finds bytes that fail their digest, no worse. */
	part_file_name(p->key, ".map", name);
	r = fs_unlink(p->store->incoming_fd, name);
	if (r == 0)
		r = part_make_sparse(p->fd, p->id.size);
	list_granted(p, &blocks);
	if (r == 0)
		r = part_allocate(p, &blocks, &is_allocated);
	if (r == 0)
		return 0;
	lock_take(&p->lock);
	p->is_broken = true;
	lock_drop(&p->lock);
	return r == -EDQUOT ? -ENOSPC : store_error(p->store, r);
}
