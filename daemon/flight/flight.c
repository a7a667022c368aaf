/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight - the state of one flight: which transfers it needs, how it ends.
 *
 *   WAITING --part and room--> ASKING --a head agreed--> FILLING --all held--> VERIFYING --named--> LANDED
 *      \______________________\__________________________\__________________\------> FAILED
 *   From FILLING and VERIFYING back to ASKING when the part is emptied (wrong bytes, another version) and nobody was fed.
 *
 * Threads   steering and the tick on the fetch thread; flight_end() and flight_post_turn() from any.
 * Promises  those of the door.
 */
#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

#define TICK_MS 1000
/* Order of the words in metrics.c. */
enum outcome { OUTCOME_STORED, OUTCOME_FAILED, OUTCOME_CORRUPT, OUTCOME_ABANDONED };

const char *flight_state_name(enum flight_state state)
{
	static const char *const names[] = {
		"waiting", "asking", "filling", "verifying", "landed", "failed"
	};

	return names[state];
}

/* --- the end ---------------------------------------------------------------------------------------------------- */

static enum outcome outcome_of(const struct flight *fl, enum flight_state state, int error)
{
	if (state == FLIGHT_LANDED)
		return error ? OUTCOME_FAILED : OUTCOME_STORED;
	if (error == -ECANCELED)
		return OUTCOME_ABANDONED;
	return error == -EBADMSG ? OUTCOME_CORRUPT : OUTCOME_FAILED;
}

static void log_end(const struct flight *fl, const struct source *source, enum flight_state state, int error,
		    int status)
{
	struct str label = str_from(source ? source->label : "");

	if (state == FLIGHT_LANDED && error == 0)
		log_info("flight", "landed", LOG_STR("file", label), LOG_U64("bytes", fl->id.size), LOG_END);
	else if (state == FLIGHT_LANDED)
		log_error("flight", "a verified file could not be stored", LOG_STR("file", label),
			  LOG_ERR("error", error), LOG_END);
	else if (error == -ECANCELED || error == -EACCES ||
		 error == -ENOENT) /* nothing to look at: told to who asked */
		log_debug("flight", "stopped", LOG_STR("file", label), LOG_ERR("error", error),
			  LOG_I64("status", status), LOG_END);
	else if (error == -ENOSPC)
		log_warning("flight",
			    "there is no room to keep it: it is passed through; see storage.max-size and the "
			    "disk",
			    LOG_STR("file", label), LOG_U64("bytes", fl->id.size), LOG_END);
	else
		log_warning("flight", "could not be fetched", LOG_STR("file", label), LOG_ERR("error", error),
			    LOG_I64("status", status), LOG_END);
}

void flight_end(struct flight *fl, enum flight_state state, int error, int status, bool drop_part)
{
	struct metrics *metrics = fl->all->opts.metrics;
	SCOPED(source_unref) struct source *source = NULL;
	bool is_first;

	lock_take(&fl->lock);
	is_first = !flight_is_over_locked(fl);
	if (is_first) {
		fl->state = state;
		fl->error = error;
		fl->status = status;
		fl->is_dropping = drop_part;
		fl->wants_reset = false;
		fl->news++;
		source = fl->source ? source_ref(fl->source) : NULL;
	}
	lock_drop(&fl->lock);
	if (!is_first)
		return;
	flight_leave_table(fl, state == FLIGHT_LANDED && error == 0);
	metrics_add(metrics, METRIC_FILLS, outcome_of(fl, state, error), 0, 0, 1);
	metrics_gauge_add(metrics, METRIC_FILLS_IN_FLIGHT, 0, -1);
	log_end(fl, source, state, error, status);
	flight_wake(fl);
	flight_kick_job(fl);
	flight_post_turn(fl);
}

/* --- which transfers -------------------------------------------------------------------------------------------- */

struct steering {
	struct plan plan;
	struct plan_reader *readers; /* owned */
	struct plan_transfer transfers[FLIGHT_TRANSFERS_MAX];
	struct segment *segments[FLIGHT_TRANSFERS_MAX]; /* of the same index */
	size_t running;
};

static bool next_gap(void *ctx, uint64_t offset, struct byte_range *ret_gap)
{
	return part_next_gap(ctx, offset, ret_gap);
}

static void collect_readers_locked(struct flight *fl, struct steering *st)
{
	size_t n = 0;

	st->readers = xcalloc(fl->reader_count + 1, sizeof(*st->readers));
	LIST_EACH(it, &fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->error || !r->is_settled || r->is_held || (r->source->is_refused && !r->is_started))
			continue;
		st->readers[n++] = (struct plan_reader){ r->at, r->wanted.end, r->is_whole, !r->has_room };
	}
	st->plan.readers = st->readers;
	st->plan.reader_count = n;
}

static void collect_segments(struct flight *fl, struct steering *st)
{
	LIST_EACH(it, &fl->segments) {
		struct segment *s = LIST_ENTRY(it, struct segment, node);

		if (s->is_cancelled || s->is_complete || st->running == FLIGHT_TRANSFERS_MAX)
			continue;
		st->segments[st->running] = s;
		st->transfers[st->running++] = (struct plan_transfer){ s->flushed, s->stop, s->bytes_per_s };
	}
	st->plan.transfers = st->transfers;
	st->plan.transfer_count = st->running;
}

static void set_stop(struct flight *fl, struct segment *s, uint64_t stop)
{
	SCOPED_LOCK(&fl->lock);

	s->stop = stop;
}

/* The next range that a transfer may begin with: it is needed, and there is a slot. */
static bool next_start(struct flight *fl, struct plan *plan, struct byte_range *ret_range)
{
	struct plan_transfer before[FLIGHT_TRANSFERS_MAX];

	memcpy(before, plan->transfers, sizeof(before));
	if (!plan_next(plan, ret_range))
		return false;
	if (slot_take(fl))
		return true;
	memcpy(plan->transfers, before, sizeof(before)); /* nothing is cut short for what does not begin */
	return false;
}

/* What nobody needs any more is broken off, or cut short. */
static void trim_segments(struct flight *fl, struct steering *st)
{
	size_t kept = 0;

	for (size_t i = 0; i < st->running; i++) {
		uint64_t stop = plan_needed_stop(&st->plan, &st->transfers[i]);

		if (stop <= st->transfers[i].at) {
			segment_let_go(st->segments[i]);
			continue;
		}
		st->transfers[kept] = st->transfers[i];
		st->transfers[kept].stop = stop;
		st->segments[kept++] = st->segments[i];
	}
	st->running = st->plan.transfer_count = kept;
}

static void start_segments(struct flight *fl, struct steering *st)
{
	struct byte_range ranges[FLIGHT_TRANSFERS_MAX], range;
	size_t count = 0;

	while (count < FLIGHT_TRANSFERS_MAX && next_start(fl, &st->plan, &range)) {
		st->transfers[st->plan.transfer_count++] =
			(struct plan_transfer){ range.first, range.end, 0 };
		ranges[count++] = range;
	}
	for (size_t i = 0; i < st->running; i++)
		if (st->transfers[i].stop != st->segments[i]->stop)
			set_stop(fl, st->segments[i], st->transfers[i].stop);
	for (size_t i = 0; i < count; i++)
		segment_start(fl, fl->source, ranges[i]);
}

static void steer(struct flight *fl, bool wants_whole, bool may_start)
{
	struct part *part;
	struct steering st = { .plan = { .size = fl->id.size,
					 .wants_whole = wants_whole,
					 .are_ranges_ignored = fl->are_ranges_ignored,
					 .next_gap = next_gap,
					 .transfers_max = FLIGHT_TRANSFERS_MAX } };

	lock_take(&fl->lock);
	part = flight_use_part_locked(fl); /* without a transfer nothing else keeps it open */
	if (part)
		collect_readers_locked(fl, &st);
	lock_drop(&fl->lock);
	if (!part)
		return;
	st.plan.ctx = part;
	(void)segments_flush(fl, 0); /* else what waits to be written would be asked for twice */
	collect_segments(fl, &st);
	trim_segments(fl, &st);
	if (may_start)
		start_segments(fl, &st);
	free(st.readers);
	flight_leave_part(fl);
}

/*
 * Is the whole file wanted? By a reader; or by nobody any more, when enough has come that stopping would be a waste
 * (promise 5). While there is no room for it, it is not.
 */
static bool decide_whole_locked(struct flight *fl)
{
	bool has_whole_reader = false;

	LIST_EACH(it, &fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		has_whole_reader |= r->is_whole && r->is_settled && !r->is_held && !r->error;
	}
	if (!has_whole_reader && !fl->has_small_range &&
	    fl->held < fl->id.size / 10 + (fl->id.size % 10 != 0))
		fl->has_whole = false;
	if (!has_whole_reader && fl->has_whole)
		fl->is_off = true; /* there is nobody to take the first bytes */
	return fl->has_whole && fl->has_all_room;
}

static void cancel_all(struct flight *fl)
{
	LIST_EACH(it, &fl->segments)
		segment_cancel(LIST_ENTRY(it, struct segment, node));
}

static void continue_all(struct flight *fl)
{
	LIST_EACH(it, &fl->segments)
		segment_continue(LIST_ENTRY(it, struct segment, node));
}

struct outlook {
	bool is_broken; /* it ended, or its part must be emptied: every transfer goes */
	bool can_steer;
	bool wants_whole;
	bool is_idle; /* nobody is there, and nobody will miss it */
};

static struct outlook look(struct flight *fl)
{
	struct outlook o;

	SCOPED_LOCK(&fl->lock);

	fl->is_turn_posted = false;
	o.is_broken = flight_is_over_locked(fl) || fl->wants_reset;
	o.can_steer = fl->part && (fl->state == FLIGHT_ASKING || fl->state == FLIGHT_FILLING);
	o.wants_whole = decide_whole_locked(fl);
	o.is_idle = fl->reader_count == 0 && !o.wants_whole && fl->state != FLIGHT_VERIFYING;
	return o;
}

static void on_tick(void *ctx);

static void arm_tick(struct flight *fl)
{
	if (fl->is_tick_armed)
		return;
	fl->is_tick_armed = true;
	fetch_call(fl->all->opts.fetch, TICK_MS, on_tick, flight_ref(fl));
}

static void take_turn(struct flight *fl)
{
	struct outlook o = look(fl);

	if (o.is_broken) {
		cancel_all(fl);
	} else if (o.is_idle && flight_retire(fl)) {
		flight_end(fl, FLIGHT_FAILED, -ECANCELED, 0, false);
		cancel_all(fl);
	} else {
		if (o.can_steer)
			steer(fl, o.wants_whole, flight_now(fl) >= fl->again_mono_ms);
		continue_all(fl);
		arm_tick(fl);
	}
	slots_end_turn(fl);
	flight_kick_job(fl);
}

void flight_on_turn(void *ctx)
{
	struct flight *fl = ctx;

	take_turn(fl);
	flight_unref(fl);
}

void flight_post_turn(struct flight *fl)
{
	bool is_needed;

	lock_take(&fl->lock);
	is_needed = !fl->is_turn_posted &&
		    (!flight_is_over_locked(fl) || fl->segment_count > 0 || fl->is_in_line);
	fl->is_turn_posted |= is_needed;
	lock_drop(&fl->lock);
	if (is_needed)
		fetch_call(fl->all->opts.fetch, 0, flight_on_turn, flight_ref(fl));
}

/* --- the clock -------------------------------------------------------------------------------------------------- */

/* Promise 6. Returns whether somebody has to be told. */
static bool end_long_waits_locked(struct flight *fl, uint64_t now)
{
	bool has_news = false;

	LIST_EACH(it, &fl->readers) {
		struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->error || !r->waiting_mono_ms || now - r->waiting_mono_ms < READER_WAIT_MS_MAX)
			continue;
		/* all bytes are there, the disk is slow: the tail comes by its own limit */
		if (fl->state == FLIGHT_VERIFYING)
			continue;
		r->error = -ETIMEDOUT;
		has_news = true;
	}
	fl->news += has_news;
	return has_news;
}

static void on_tick(void *ctx)
{
	struct flight *fl = ctx;
	bool is_over, has_news;

	fl->is_tick_armed = false;
	lock_take(&fl->lock);
	is_over = flight_is_over_locked(fl);
	has_news = !is_over && end_long_waits_locked(fl, flight_now(fl));
	lock_drop(&fl->lock);
	if (has_news)
		flight_wake(fl);
	if (!is_over)
		take_turn(fl);
	flight_unref(fl);
}
