/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/room - who may take how much disk, and whether the disk is well.
 *
 * Owns      used, reserved and the claims on names.
 * Never     deletes a blob to make room: it says how much is missing, and the keeper evicts.
 * Threads   any.
 *
 * What counts. Every file is charged with its size rounded up to a block of 4096 bytes, a blob with one block more for its
 * sidecar. `used` is blobs, sidecars, journals, quarantine, and parts that nobody has open (with the blocks they really
 * take); `reserved` is what open parts hold and are about to write: each has taken its granted blocks, and one for its map or
 * sidecar. The index is left out: it is small beside them, and its room cannot be planned here.
 * The last 1/64 of the limit (at most 64 MiB) is not given to parts: it is the slack for documents and journals, so that a
 * full store can still write down what it learns. Documents leave the last quarter of it to the journals. When half of it is taken,
 * the keeper is told how much must go for all of it to be free again (store_missing_slack).
 */
#include "store/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/log.h"
#include "common/path.h"

#include "common/banned.h"

#define SLACK_MAX (UINT64_C(64) << 20)
#define SLACK_SHARE 64
/* D05: so many errors in so long a time, and the disk is taken to be dying. */
#define IO_ERRORS_MAX 3
#define IO_ERRORS_MS (10 * 60 * 1000)

uint64_t file_charge(uint64_t size)
{
	if (size > UINT64_MAX - STORE_BLOCK)
		return UINT64_MAX - STORE_BLOCK + 1;
	return (size + STORE_BLOCK - 1) / STORE_BLOCK * STORE_BLOCK;
}

uint64_t blob_charge(uint64_t size)
{
	uint64_t bytes = file_charge(size);

	return bytes > UINT64_MAX - SIDECAR_CHARGE ? bytes : bytes + SIDECAR_CHARGE;
}

static uint64_t slack(uint64_t limit)
{
	uint64_t share = limit / SLACK_SHARE;

	return share < SLACK_MAX ? share : SLACK_MAX;
}

static uint64_t without(uint64_t all, uint64_t part)
{
	return all > part ? all - part : 0;
}

void store_show_locked(struct store *s)
{
	assert(lock_is_mine(&s->lock));
	if (!s->metrics)
		return;
	metrics_gauge_set(s->metrics, METRIC_STORAGE_USED, 0, (int64_t)s->used);
	metrics_gauge_set(s->metrics, METRIC_STORAGE_OBJECTS, 0, (int64_t)s->objects);
	metrics_gauge_set(s->metrics, METRIC_STORAGE_LIMIT, 0, (int64_t)s->size_max);
	metrics_gauge_set(
		s->metrics, METRIC_STORAGE_PARTIAL, 0,
		(int64_t)(s->idle_part_bytes + atomic_load_explicit(&s->held_bytes, memory_order_relaxed)));
}

/* Free bytes of the disk; all there can be when the file system does not say. */
static uint64_t disk_free(struct store *s)
{
	uint64_t free_bytes, total;

	if (fs_room(s->root_fd, &free_bytes, &total) < 0)
		return UINT64_MAX;
	if (s->metrics)
		metrics_gauge_set(s->metrics, METRIC_STORAGE_FREE, 0, (int64_t)free_bytes);
	return free_bytes;
}

/* What is reserved and not yet on disk is as good as gone. */
static uint64_t missing_locked(struct store *s, uint64_t charge, uint64_t free_bytes)
{
	uint64_t limit = s->size_max ? s->size_max - slack(s->size_max) : 0;

	if (store_is_failing_locked(s))
		return UINT64_MAX;
	return policy_bytes_to_free(s->used, s->reserved, charge, limit,
				    without(free_bytes, s->reserved - s->allocated), s->disk_reserve);
}

/* --- the room of open parts --- */

static int try_raise(struct part *p, uint64_t charge, uint64_t *ret_taken, uint64_t *ret_missing)
{
	struct store *s = p->store;
	uint64_t free_bytes = disk_free(s);
	uint64_t need, missing;
	SCOPED_LOCK(&s->lock);

	if (p->state != PART_OPEN)
		return -ECANCELED; /* what it had was given back */
	need = without(charge, p->reserved);
	missing = need ? missing_locked(s, need, free_bytes) : 0;
	if (missing) {
		*ret_missing = missing;
		return -ENOSPC;
	}
	p->reserved += need;
	s->reserved += need;
	*ret_taken = need;
	return 0;
}

int room_raise(struct part *p, uint64_t charge, uint64_t *ret_taken, uint64_t *ret_missing)
{
	int r = try_raise(p, charge, ret_taken, ret_missing);

	while (r == -ENOSPC && *ret_missing != UINT64_MAX && idle_part_evict(p->store, *ret_missing))
		r = try_raise(p, charge, ret_taken, ret_missing);
	return r;
}

static void lower_locked(struct part *p, uint64_t bytes)
{
	struct store *s = p->store;

	assert(lock_is_mine(&s->lock));
	assert(p->reserved >= bytes && s->reserved >= bytes); /* promise 2: given back once */
	p->reserved -= bytes;
	s->reserved -= bytes;
}

void room_lower(struct part *p, uint64_t bytes)
{
	SCOPED_LOCK(&p->store->lock);

	if (p->state != PART_GONE) /* else all of it was given back */
		lower_locked(p, bytes);
}

void room_note_allocated(struct part *p, uint64_t bytes)
{
	SCOPED_LOCK(&p->store->lock);

	if (p->state == PART_GONE)
		return;
	/* some may have been paid before: an idle file is charged with the file system's own blocks too */
	if (bytes > p->reserved - p->allocated)
		bytes = p->reserved - p->allocated;
	p->allocated += bytes;
	p->store->allocated += bytes;
}

void room_take_over_locked(struct part *p, uint64_t charge)
{
	assert(lock_is_mine(&p->store->lock));
	p->reserved = p->allocated = charge;
	p->store->reserved += charge;
	p->store->allocated += charge;
}

void room_leave_locked(struct part *p)
{
	assert(p->store->allocated >= p->allocated && p->reserved >= p->allocated);
	lower_locked(p, p->reserved);
	p->store->allocated -= p->allocated;
	p->allocated = 0;
}

static int take_used(struct store *s, uint64_t bytes, uint64_t disk_reserve, uint64_t limit)
{
	uint64_t free_bytes = disk_free(s);
	SCOPED_LOCK(&s->lock);

	if (free_bytes < disk_reserve || free_bytes - disk_reserve < bytes)
		return -ENOSPC;
	if (limit && (bytes > limit || s->used + s->reserved > limit - bytes))
		return -ENOSPC;
	room_add_used_locked(s, bytes);
	return 0;
}

int room_take_used(struct store *s, uint64_t bytes, uint64_t disk_reserve)
{
	return take_used(s, bytes, disk_reserve, s->size_max);
}

int room_take_document(struct store *s, uint64_t bytes)
{
	return take_used(s, bytes, s->disk_reserve, s->size_max - slack(s->size_max) / 4);
}

uint64_t store_missing_slack(struct store *s, uint64_t wanted)
{
	uint64_t all = slack(s->size_max), taken, missing = 0;
	SCOPED_LOCK(&s->lock);

	taken = s->used + s->reserved;
	if (s->size_max == 0)
		return 0;
	if (taken > s->size_max - all / 2)
		missing = taken - (s->size_max - all);
	/* what is asked for may be more than the slack is */
	if (wanted > s->size_max - (taken < s->size_max ? taken : s->size_max) && wanted <= s->size_max / 2 &&
	    wanted > missing)
		missing = wanted;
	return missing;
}

void room_add_used_locked(struct store *s, uint64_t bytes)
{
	assert(lock_is_mine(&s->lock));
	s->used += bytes;
	store_show_locked(s);
}

/* Never below zero: an administrator may have let files grow that we counted when they were small. */
void room_sub_used_locked(struct store *s, uint64_t bytes)
{
	assert(lock_is_mine(&s->lock));
	s->used = without(s->used, bytes);
	store_show_locked(s);
}

void room_sub_used(struct store *s, uint64_t bytes)
{
	SCOPED_LOCK(&s->lock);

	room_sub_used_locked(s, bytes);
}

void store_usage(struct store *s, struct store_usage *ret_usage)
{
	uint64_t free_bytes = disk_free(s), open;
	SCOPED_LOCK(&s->lock);

	store_show_locked(s);
	open = atomic_load_explicit(&s->held_bytes, memory_order_relaxed);
	*ret_usage = (struct store_usage){
		.used = s->used,
		.reserved = s->reserved,
		.limit = s->size_max,
		.objects = s->objects,
		.partial = s->idle_part_bytes + open,
		.open = open,
		.disk_free = free_bytes,
	};
}

/* --- the disk's health --- */

bool store_is_failing_locked(struct store *s)
{
	uint64_t oldest = s->io_error_mono_ms[s->io_errors % IO_ERRORS_MAX];

	static_assert(sizeof(s->io_error_mono_ms) / sizeof(s->io_error_mono_ms[0]) == IO_ERRORS_MAX,
		      "one for each");
	assert(lock_is_mine(&s->lock));
	return s->io_errors >= IO_ERRORS_MAX && clock_mono_ms(s->clock) - oldest < IO_ERRORS_MS;
}

int store_error(struct store *s, int r)
{
	bool is_failing;

	if (r != -EIO)
		return r;
	if (s->metrics)
		metrics_inc(s->metrics, METRIC_STORAGE_IO_ERRORS);
	lock_take(&s->lock);
	s->io_error_mono_ms[s->io_errors++ % IO_ERRORS_MAX] = clock_mono_ms(s->clock);
	is_failing = store_is_failing_locked(s);
	lock_drop(&s->lock);
	if (is_failing)
		log_error("store",
			  "the disk under storage.path is failing: nothing more is written for ten minutes",
			  LOG_END);
	return r;
}

bool store_is_failing(struct store *s)
{
	SCOPED_LOCK(&s->lock);

	return store_is_failing_locked(s);
}

/* --- claims --- */

bool claim_try_locked(struct store *s, struct str name)
{
	assert(lock_is_mine(&s->lock));
	if (map_get(s->claims, name))
		return false;
	(void)map_put(s->claims, name, s); /* any pointer: only its being there counts */
	return true;
}

void claim_take(struct store *s, struct str name)
{
	SCOPED_LOCK(&s->lock);

	while (!claim_try_locked(s, name))
		(void)pthread_cond_wait(&s->freed, &s->lock.mutex);
}

void claim_drop(struct store *s, struct str name)
{
	SCOPED_LOCK(&s->lock);
	void *was_claimed = map_take(s->claims, name);

	assert(was_claimed);
	(void)pthread_cond_broadcast(&s->freed);
}
