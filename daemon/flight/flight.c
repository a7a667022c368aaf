/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight - the state of one flight: which transfers it needs, what a failure means, how it ends.
 *
 *   WAITING --part open--> ASKING --a head agreed--> FILLING --all held--> VERIFYING --named--> LANDED
 *      \______________________\__________________________\__________________\------> FAILED
 *   From FILLING and VERIFYING back to ASKING when the part is emptied (wrong bytes, another version) and nobody was fed.
 *
 * Threads   steering, retries and the tick on the fetch thread; flight_end() and flight_post_turn() from any.
 * Promises  those of the door.
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

#define TICK_MS 1000
/* Nobody got anything yet: the client's own retry serves it better than our silence (hub-protocol 0.3, rule 11). */
#define SILENCE_MS_MAX 8000
/* Order of the words in metrics.c. */
enum outcome { OUTCOME_STORED, OUTCOME_FAILED, OUTCOME_CORRUPT, OUTCOME_ABANDONED };

const char *flight_state_name(enum flight_state state)
{
	static const char *const names[] = { "waiting", "asking", "filling", "verifying", "landed", "failed" };

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

static void log_end(const struct flight *fl, const struct source *source, enum flight_state state, int error, int status)
{
	struct str label = str_from(source ? source->label : "");

	if (state == FLIGHT_LANDED && error == 0)
		log_info("flight", "landed", LOG_STR("file", label), LOG_U64("bytes", fl->id.size), LOG_END);
	else if (state == FLIGHT_LANDED)
		log_error("flight", "a verified file could not be stored", LOG_STR("file", label), LOG_ERR("error", error),
			  LOG_END);
	else if (error == -ECANCELED)
		log_debug("flight", "stopped", LOG_STR("file", label), LOG_END);
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
	LIST_EACH (it, &fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		if (r->error || (r->source->is_refused && !r->is_started))
			continue;
		st->readers[n++] = (struct plan_reader){ r->at, r->wanted.end, r->is_whole };
	}
	st->plan.readers = st->readers;
	st->plan.reader_count = n;
}

static void collect_segments(struct flight *fl, struct steering *st)
{
	LIST_EACH (it, &fl->segments) {
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

/* What nobody needs any more is broken off, or cut short. */
static void trim_segments(struct flight *fl, struct steering *st)
{
	size_t kept = 0;

	for (size_t i = 0; i < st->running; i++) {
		uint64_t stop = plan_needed_stop(&st->plan, &st->transfers[i]);

		if (stop <= st->transfers[i].at) {
			segment_cancel(st->segments[i]);
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

	while (count < FLIGHT_TRANSFERS_MAX && plan_next(&st->plan, &range)) {
		st->transfers[st->plan.transfer_count++] = (struct plan_transfer){ range.first, range.end, 0 };
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
	SCOPED(part_unref) struct part *part = NULL; /* without a transfer nothing else keeps it open */
	struct steering st = { .plan = { .size = fl->id.size, .wants_whole = wants_whole,
					 .are_ranges_ignored = fl->are_ranges_ignored, .next_gap = next_gap,
					 .transfers_max = FLIGHT_TRANSFERS_MAX } };

	lock_take(&fl->lock);
	if (fl->part) {
		part = part_ref(fl->part);
		collect_readers_locked(fl, &st);
	}
	lock_drop(&fl->lock);
	if (!part)
		return;
	st.plan.ctx = part;
	collect_segments(fl, &st);
	trim_segments(fl, &st);
	if (may_start)
		start_segments(fl, &st);
	free(st.readers);
}

/*
 * Is the whole file wanted? By a reader; or by nobody any more, when enough has come that stopping would be a waste
 * (promise 5).
 */
static bool decide_whole_locked(struct flight *fl)
{
	bool has_whole_reader = false;

	LIST_EACH (it, &fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		has_whole_reader |= r->is_whole && !r->error;
	}
	if (!has_whole_reader && fl->held < fl->id.size / 10 + (fl->id.size % 10 != 0))
		fl->has_whole = false;
	if (!has_whole_reader && fl->has_whole)
		fl->is_off = true; /* there is nobody to take the first bytes */
	return fl->has_whole;
}

static void cancel_all(struct flight *fl)
{
	LIST_EACH (it, &fl->segments)
		segment_cancel(LIST_ENTRY(it, struct segment, node));
}

static void continue_all(struct flight *fl)
{
	LIST_EACH (it, &fl->segments)
		segment_continue(LIST_ENTRY(it, struct segment, node));
}

static void turn_locked_part(struct flight *fl, bool *ret_is_broken, bool *ret_can_steer, bool *ret_wants_whole,
			     bool *ret_is_idle)
{
	SCOPED_LOCK(&fl->lock);

	fl->is_turn_posted = false;
	*ret_is_broken = flight_is_over_locked(fl) || fl->wants_reset;
	*ret_can_steer = fl->part && (fl->state == FLIGHT_ASKING || fl->state == FLIGHT_FILLING);
	*ret_wants_whole = decide_whole_locked(fl);
	*ret_is_idle = fl->reader_count == 0 && !*ret_wants_whole && fl->state != FLIGHT_VERIFYING;
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
	bool is_broken, can_steer, wants_whole, is_idle;

	turn_locked_part(fl, &is_broken, &can_steer, &wants_whole, &is_idle);
	if (is_broken) {
		cancel_all(fl);
	} else if (is_idle && flight_retire(fl)) {
		flight_end(fl, FLIGHT_FAILED, -ECANCELED, 0, false);
		cancel_all(fl);
	} else {
		if (can_steer)
			steer(fl, wants_whole, flight_now(fl) >= fl->again_mono_ms);
		continue_all(fl);
		arm_tick(fl);
	}
	flight_kick_job(fl);
}

static void on_turn(void *ctx)
{
	struct flight *fl = ctx;

	take_turn(fl);
	flight_unref(fl);
}

void flight_post_turn(struct flight *fl)
{
	bool is_needed;

	lock_take(&fl->lock);
	is_needed = !fl->is_turn_posted && (!flight_is_over_locked(fl) || fl->segment_count > 0);
	fl->is_turn_posted |= is_needed;
	lock_drop(&fl->lock);
	if (is_needed)
		fetch_call(fl->all->opts.fetch, 0, on_turn, flight_ref(fl));
}

/* --- the clock -------------------------------------------------------------------------------------------------- */

/* Promise 6. Returns whether somebody has to be told. */
static bool end_long_waits_locked(struct flight *fl, uint64_t now)
{
	bool has_news = false;

	LIST_EACH (it, &fl->readers) {
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

/* --- failures --------------------------------------------------------------------------------------------------- */

/* What a reader is told about a failure that is not going to pass. */
static int lasting_error(int error, int status)
{
	if (status == 429)
		return -EBUSY;
	if (status == 408 || status >= 500)
		return -EHOSTUNREACH;
	if (status >= 300)
		return -EBADMSG;
	switch (error) {
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENOSPC:
	case -ECANCELED:
		return error;
	case -ECONNRESET:
	case -EPROTO:
		return -EHOSTUNREACH;
	default:
		return -EBADMSG;
	}
}

static bool is_worth_silence(struct flight *fl, struct retry_verdict v)
{
	bool is_down = fetch_is_down(fl->all->opts.fetch);

	SCOPED_LOCK(&fl->lock);

	if (fl->started_count > 0 || fl->reader_count == 0)
		return true; /* a promise was given, or nobody is kept waiting */
	return fl->attempts <= 1 && v.wait_ms <= SILENCE_MS_MAX && !is_down;
}

/*
 * How often it went wrong without progress between. A signed address that is refused is counted apart from broken
 * transfers: it is renewed once, also right after a cut.
 */
static unsigned count_failure(struct flight *fl, const struct retry_facts *facts)
{
	bool is_renewal = facts->is_signed_hop && facts->status < 500 && facts->status != 408 && facts->status != 429;

	if (facts->made_progress)
		fl->attempts = fl->renewals = 0;
	fl->progress = 0;
	return is_renewal ? ++fl->renewals : ++fl->attempts;
}

static void retry_or_end(struct flight *fl, const struct segment *s, int error)
{
	struct retry_facts facts = { .error = error, .status = s->status, .made_progress = fl->progress >= FIRST_BYTES,
				     .is_signed_hop = s->status >= 400 && !s->is_hub_hop,
				     .retry_after_ms = s->retry_after_ms };
	struct retry_verdict v;
	uint32_t dice;

	facts.attempts = count_failure(fl, &facts);
	random_bytes(&dice, sizeof(dice));
	v = policy_retry(&facts, dice);
	if (!v.again || !is_worth_silence(fl, v)) {
		int told = lasting_error(error, s->status);

		flight_end(fl, FLIGHT_FAILED, told, told == -EBUSY ? s->status : 0, false);
		return;
	}
	metrics_inc(fl->all->opts.metrics, METRIC_UPSTREAM_RETRIES);
	log_debug("flight", "again", LOG_TEXT("file", s->source->label), LOG_ERR("error", error),
		  LOG_I64("status", s->status), LOG_U64("wait_ms", v.wait_ms), LOG_END);
	fl->again_mono_ms = flight_now(fl) + v.wait_ms;
	if (v.wait_ms)
		fetch_call(fl->all->opts.fetch, v.wait_ms + 1, on_turn, flight_ref(fl));
}

static bool is_same_asker(const struct source *a, const struct source *b)
{
	struct str none = STR("");

	return strcmp(a->target, b->target) == 0 &&
	       str_eq(a->token ? secret_value(a->token) : none, b->token ? secret_value(b->token) : none);
}

static void mark_refused_locked(struct source *s, int error, int status)
{
	s->is_refused = true;
	s->error = error;
	s->status = status;
}

/* Marks all who would be refused the same way, and takes the next reader's source. Returns false if there is none. */
static bool use_next_source_locked(struct flight *fl, struct source *refused, int error, int status)
{
	struct source *next = NULL;

	mark_refused_locked(refused, error, status);
	LIST_EACH (it, &fl->readers) {
		struct source *s = LIST_ENTRY(it, struct reader, node)->source;

		if (!s->is_refused && is_same_asker(s, refused))
			mark_refused_locked(s, error, status);
		if (!s->is_refused && !next)
			next = s;
	}
	fl->news++;
	if (!next)
		return false;
	(void)source_unref(fl->source);
	fl->source = source_ref(next);
	return true;
}

/* The Hub refuses this token or does not know this file: the next reader's token takes over (reliability F.2 rule 6). */
static void try_next_source(struct flight *fl, struct segment *s, int error)
{
	bool has_next;

	lock_take(&fl->lock);
	has_next = use_next_source_locked(fl, s->source, error, s->status);
	lock_drop(&fl->lock);
	if (has_next) {
		fl->attempts = fl->renewals = 0;
		flight_wake(fl);
	} else {
		flight_end(fl, FLIGHT_FAILED, error, s->status, false);
	}
}

/* Upstream has another version than the one that the part came from, and nobody was given any of it. */
static void start_over(struct flight *fl)
{
	SCOPED_LOCK(&fl->lock);

	/* else somebody was, in between: the next answer is taken as it is, and the digest decides */
	if (fl->fed_count == 0 && !flight_is_over_locked(fl)) {
		fl->wants_reset = true;
		fl->generation++;
		fl->state = FLIGHT_ASKING;
		fl->resets++;
	}
}

void flight_segment_ended(struct flight *fl, struct segment *s, int error)
{
	bool is_over;

	lock_take(&fl->lock);
	is_over = flight_is_over_locked(fl);
	lock_drop(&fl->lock);
	if (is_over || s->is_cancelled) {
		/* nothing was expected of it any more */
	} else if (s->is_complete) {
		fl->attempts = fl->renewals = 0;
	} else if (error == -ESTALE) {
		start_over(fl);
	} else if (s->error == -EACCES || s->error == -ENOENT) {
		try_next_source(fl, s, s->error);
	} else if (s->error == -EIO) {
		flight_end(fl, FLIGHT_FAILED, -ENOSPC, 0, false); /* the disk's fault: stream it */
	} else {
		retry_or_end(fl, s, error);
	}
	flight_post_turn(fl);
	flight_kick_job(fl);
}
