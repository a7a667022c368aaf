/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader - what one reader may have, and how it waits for more.
 *
 * Never     does I/O; holds the flight's lock while it asks the store.
 * Threads   a reader belongs to one request, whose calls come one at a time, from any thread.
 * Promises  (1) no news is lost: whoever changes what a reader may see counts fl->news up under the lock and wakes after
 *               that; reader_wait() looks, and registers under the lock only if nothing was counted since.
 *           (2) bytes are given out only if the part was not emptied while the store was asked; once a reader was given
 *               some, the part is not emptied under it (fed_count): the flight fails instead.
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "flight/priv.h"

#include "common/banned.h"

/* What is in the way of this reader for good; 0: nothing. */
static int error_locked(const struct reader *r)
{
	const struct flight *fl = r->flight;

	if (r->error)
		return r->error;
	/* refused for its own token, and nothing promised yet: its own answer, whatever others get (F.2) */
	if (r->source->is_refused && !r->is_started)
		return r->source->error;
	return fl->state == FLIGHT_FAILED ? fl->error : 0;
}

/* The small start ends when somebody has really taken something. */
static bool note_progress_locked(struct reader *r, uint64_t offset)
{
	struct flight *fl = r->flight;

	if (offset > r->at)
		r->at = offset;
	if (r->stays_mono_ms && flight_now(fl) >= r->stays_mono_ms)
		r->has_stayed = true;
	if (fl->is_off || (reader_taken_locked(r) - r->range.first < FIRST_BYTES && r->at < r->range.end))
		return false;
	fl->is_off = true;
	return true;
}

static uint64_t clip_locked(const struct reader *r, uint64_t offset, uint64_t held)
{
	const struct flight *fl = r->flight;
	uint64_t end = r->range.end, tail = fl->id.size - policy_held_back_bytes(fl->id.size);

	if (r->is_held_back && !fl->is_tail_free && end > tail)
		end = tail;
	if (offset >= end)
		return 0;
	return held < end - offset ? held : end - offset;
}

/* What others brought may be there already; but who has begun must be able to end. */
static bool is_waiting_for_room_locked(const struct reader *r)
{
	return !r->has_room && !r->is_started && r->flight->state != FLIGHT_LANDED;
}

static void mark_fed_locked(struct reader *r)
{
	r->waiting_mono_ms = 0;
	if (!r->is_fed) {
		r->is_fed = true;
		r->flight->fed_count++;
	}
}

/*
 * how_far  bytes held from offset, as the store said in `generation`
 * Returns what may be sent, 0, or -errno; notes it.
 */
static int64_t judge(struct reader *r, uint64_t offset, uint64_t held, uint64_t generation)
{
	struct flight *fl = r->flight;
	uint64_t ready = 0;

	SCOPED_LOCK(&fl->lock);

	if (error_locked(r))
		return error_locked(r);
	if (fl->state == FLIGHT_LANDED)
		ready = r->range.end - offset;
	else if (!is_waiting_for_room_locked(r) && fl->generation == generation && !fl->wants_reset)
		ready = clip_locked(r, offset, held);
	if (ready > 0)
		mark_fed_locked(r);
	else if (!r->waiting_mono_ms)
		r->waiting_mono_ms = flight_now(fl);
	return (int64_t)ready;
}

int64_t reader_ready(struct reader *r, uint64_t offset)
{
	struct flight *fl = r->flight;
	struct part *part = NULL;
	uint64_t held = 0, generation;
	bool is_off;

	assert(offset >= r->range.first && offset <= r->range.end);
	lock_take(&fl->lock);
	is_off = note_progress_locked(r, offset);
	generation = fl->generation;
	if (fl->part && !flight_is_over_locked(fl) && offset < r->range.end)
		part = flight_use_part_locked(fl);
	lock_drop(&fl->lock);
	if (is_off)
		flight_post_turn(fl);
	if (part) {
		held = part_held_from(part, offset);
		flight_leave_part(fl);
	}
	if (offset == r->range.end)
		return 0;
	return judge(r, offset, held, generation);
}

/* Has the answer that brings this reader's bytes begun? */
static bool is_agreed_locked(const struct reader *r)
{
	const struct flight *fl = r->flight;

	if (fl->state == FLIGHT_VERIFYING || fl->state == FLIGHT_LANDED)
		return true;
	if (fl->wants_reset)
		return false;
	LIST_EACH(it, (struct list *)&fl->segments) {
		const struct segment *s = LIST_ENTRY(it, struct segment, node);

		if (s->has_agreed && s->asked_first <= r->at && r->at < s->stop)
			return true;
	}
	return false;
}

static int started(struct reader *r, bool is_asked)
{
	struct flight *fl = r->flight;
	int64_t ready = reader_ready(r, r->at);

	SCOPED_LOCK(&fl->lock);

	if (ready < 0)
		return (int)ready;
	if (r->is_started)
		return 0;
	if (ready == 0 && (is_waiting_for_room_locked(r) || !is_agreed_locked(r)))
		return -EAGAIN;
	if (is_asked) {
		r->is_started = true;
		fl->started_count++;
	}
	return 0;
}

/* Those who are still there ask again, and by that have stayed. */
static void call_the_roll(void *ctx)
{
	struct flight *fl = ctx;

	lock_take(&fl->lock);
	fl->news++;
	lock_drop(&fl->lock);
	flight_wake(fl);
	flight_unref(fl);
}

/* Its head goes out now: in a moment it has left, or stays. */
static void wait_whether_it_stays(struct reader *r)
{
	struct flight *fl = r->flight;
	bool is_first;

	lock_take(&fl->lock);
	is_first = r->stays_mono_ms == 0;
	if (is_first)
		r->stays_mono_ms = flight_now(fl) + LEAVE_MS;
	lock_drop(&fl->lock);
	if (is_first)
		fetch_call(fl->all->opts.fetch, LEAVE_MS + 1, call_the_roll, flight_ref(fl));
}

int reader_started(struct reader *r)
{
	int error = started(r, true);

	if (error == 0 && r->may_leave)
		wait_whether_it_stays(r);
	return error;
}

bool reader_wait(struct reader *r, uint64_t offset, struct waiter *w)
{
	struct flight *fl = r->flight;
	uint64_t seen;
	bool is_told;

	for (;;) {
		lock_take(&fl->lock);
		seen = fl->news;
		is_told = r->is_started;
		lock_drop(&fl->lock);
		if (reader_ready(r, offset) != 0 || (!is_told && started(r, false) != -EAGAIN))
			return false;
		lock_take(&fl->lock);
		if (fl->news == seen) {
			waiters_add(&fl->waiters, w);
			lock_drop(&fl->lock);
			return true;
		}
		lock_drop(&fl->lock);
	}
}

int reader_upstream_status(struct reader *r)
{
	struct flight *fl = r->flight;

	SCOPED_LOCK(&fl->lock);

	if (r->source->is_refused)
		return r->source->status;
	return fl->state == FLIGHT_FAILED ? fl->status : 0;
}

int reader_fd(const struct reader *r)
{
	struct flight *fl = r->flight;

	SCOPED_LOCK(&fl->lock);

	return fl->fd;
}

bool reader_has_joined(const struct reader *r)
{
	return r->has_joined;
}

bool reader_may_leave(const struct reader *r)
{
	return r->may_leave;
}

void reader_free(struct reader *r)
{
	struct flight *fl;

	if (!r)
		return;
	fl = r->flight;
	lock_take(&fl->lock);
	list_remove(&r->node);
	assert(fl->reader_count > 0);
	fl->reader_count--;
	fl->fed_count -= r->is_fed;
	fl->started_count -= r->is_started;
	lock_drop(&fl->lock);
	metrics_gauge_add(fl->all->opts.metrics, METRIC_FILL_WAITERS, 0, -1);
	flight_post_turn(fl);
	(void)source_unref(r->source);
	free(r);
	flight_unref(fl);
}
