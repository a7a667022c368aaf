/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room - a reader's bytes are asked for only when there is room for them: its window, or the whole file.
 *
 * Owns      reader->has_room, and the one question to opts.on_need_room that a flight has open.
 * Never     takes more than the readers that are here need; gives room back before the part ends.
 * Threads   flight_run_room() is a job; the keeper's answer comes on any thread; flight_take_from_start() on
 *           fetch.
 * Promises  (1) a reader that has begun is not told -ENOSPC, unless upstream turned out to ignore ranges.
 *           (2) who cannot have room is told so alone: a whole fill that does not fit leaves windows in
 *               peace.
 */
#include <errno.h>

#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

/* Others may take what was evicted for us: a few times, then the store is simply too busy. */
#define ROOM_TRIES_MAX 3

/* With an upstream that always sends everything, all that lies before is written as well. */
static struct byte_range need_locked(const struct flight *fl, const struct reader *r)
{
	return (struct byte_range){ fl->is_from_start ? 0 : r->wanted.first, r->wanted.end };
}

/* Windows first: they cost little, and shall not wait for what a whole fill must evict. */
static bool next_need_locked(const struct flight *fl, struct byte_range *ret_need)
{
	bool is_found = false;

	LIST_EACH(it, (struct list *)&fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->has_room || r->error || !r->is_settled || (is_found && r->is_whole))
			continue;
		*ret_need = need_locked(fl, r);
		is_found = true;
		if (!r->is_whole)
			break;
	}
	return is_found;
}

static bool is_within(struct byte_range inner, struct byte_range outer)
{
	return inner.first >= outer.first && inner.end <= outer.end;
}

static void grant(struct flight *fl, struct byte_range range)
{
	lock_take(&fl->lock);
	fl->room_tries = 0;
	fl->has_all_room |= range.first == 0 && range.end == fl->id.size;
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		r->has_room |= is_within(need_locked(fl, r), range);
	}
	if (fl->state == FLIGHT_WAITING)
		fl->state = FLIGHT_ASKING;
	fl->news++;
	lock_drop(&fl->lock);
	flight_wake(fl);
	flight_post_turn(fl);
}

/* Readers that need this and cannot have it are told; the flight ends when nobody else is there. */
static void refuse(struct flight *fl, struct byte_range range)
{
	unsigned told = 0, left = 0;

	lock_take(&fl->lock);
	fl->room_tries = 0;
	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (!r->has_room && !r->error && r->is_settled && is_within(range, need_locked(fl, r))) {
			r->error = -ENOSPC;
			told++;
		}
		left += !r->error;
	}
	fl->news += told > 0;
	lock_drop(&fl->lock);
	if (told > 0 && left == 0) {
		flight_end(fl, FLIGHT_FAILED, -ENOSPC, 0, false);
		return;
	}
	flight_wake(fl);
	flight_post_turn(fl);
}

static void on_room(void *ctx, int error)
{
	struct flight *fl = ctx;
	struct flights *f = flights_ref(fl->all);
	struct byte_range asked;

	lock_take(&fl->lock);
	asked = fl->room_asked;
	fl->is_room_asked = false;
	lock_drop(&fl->lock);
	if (error < 0)
		refuse(fl, asked);
	flight_kick_job(fl);
	flight_unref(fl);
	flights_not_busy(f);
	flights_unref(f);
}

static bool may_ask(struct flight *fl, struct byte_range range)
{
	SCOPED_LOCK(&fl->lock);

	if (flight_is_over_locked(fl) || fl->room_tries++ >= ROOM_TRIES_MAX)
		return false;
	fl->room_asked = range;
	fl->is_room_asked = true;
	return true;
}

static bool take_need(struct flight *fl, struct byte_range *ret_need, bool *ret_is_there)
{
	SCOPED_LOCK(&fl->lock);

	fl->wants_room = next_need_locked(fl, ret_need);
	*ret_is_there = fl->has_all_room;
	return fl->wants_room;
}

void flight_run_room(struct flight *fl)
{
	struct flights *f = fl->all;
	uint64_t missing = UINT64_MAX;
	struct byte_range need;
	bool is_there;
	int r;

	if (!take_need(fl, &need, &is_there))
		return;
	r = is_there ? 0 : part_reserve(fl->part, need, &missing);
	if (r == 0) {
		grant(fl, is_there ? (struct byte_range){ 0, fl->id.size } : need);
	} else if (r == -ENOSPC && missing != UINT64_MAX && may_ask(fl, need)) {
		flights_busy(f);
		f->opts.on_need_room(f->opts.ctx, missing, on_room, flight_ref(fl));
	} else {
		if (r != -ENOSPC)
			log_warning("flight", "the store cannot take a file", LOG_ERR("error", r), LOG_END);
		refuse(fl, need);
	}
}

void flight_take_from_start(struct flight *fl)
{
	lock_take(&fl->lock);
	if (!fl->is_from_start && !fl->has_all_room) {
		fl->is_from_start = fl->wants_room = true;
		LIST_EACH(it, &fl->readers) {
			struct reader *r = LIST_ENTRY(it, struct reader, node);

			r->has_room = r->is_held;
		}
	}
	lock_drop(&fl->lock);
	flight_kick_job(fl);
	flight_post_turn(fl); /* it may bring more than anybody needs */
}
