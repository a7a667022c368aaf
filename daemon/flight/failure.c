/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failure - a transfer has ended: go on, try again, ask with somebody else's token, start over, or give up.
 *
 * Never     decides by itself whether a try is worth it: policy_retry() does.
 * Threads   the fetch thread.
 * Promises  (1) what readers are told is one of the errors of the door, whatever went wrong.
 */
#include <errno.h>

#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

/* Nobody got anything yet: the client's own retry serves it better than our silence (hub-protocol 0.3, rule 11). */
#define SILENCE_MS_MAX 8000

/* What a reader is told about a failure that is not going to pass. */
static int lasting_error(int error, int status)
{
	if (status == 429)
		return -EBUSY;
	if (status == 408 || status >= 500)
		return -EHOSTUNREACH;
	if (status >= 300)
		return -EBADMSG;
	if (policy_is_own_limit(error))
		return error;
	switch (error) {
	case -ETIMEDOUT:
	case -EHOSTUNREACH:
	case -ENOSPC:
	case -ECANCELED:
	case -EBUSY:
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
	bool is_renewal =
		facts->is_signed_hop && facts->status < 500 && facts->status != 408 && facts->status != 429;

	if (facts->made_progress)
		fl->attempts = fl->renewals = 0;
	fl->progress = 0;
	return is_renewal ? ++fl->renewals : ++fl->attempts;
}

static void retry_or_end(struct flight *fl, const struct segment *s, int error)
{
	struct retry_facts facts = { .error = error,
				     .status = s->status,
				     .made_progress = fl->progress >= FIRST_BYTES,
				     .is_signed_hop = s->status >= 400 && !s->is_hub_hop,
				     .retry_after_ms = s->retry_after_ms };
	struct retry_verdict v;
	uint32_t dice;

	facts.attempts = count_failure(fl, &facts);
	random_bytes(&dice, sizeof(dice));
	v = policy_retry(&facts, dice);
	if (!v.again || !is_worth_silence(fl, v)) {
		int told = lasting_error(error, s->status);

		fl->attempts = fl->renewals = 0; /* who comes next is heard anew */
		flight_give_up(fl, told, told == -EBUSY ? s->status : 0);
		return;
	}
	metrics_inc(fl->all->opts.metrics, METRIC_UPSTREAM_RETRIES);
	log_debug("flight", "again", LOG_TEXT("file", s->source->label), LOG_ERR("error", error),
		  LOG_I64("status", s->status), LOG_U64("wait_ms", v.wait_ms), LOG_END);
	fl->again_mono_ms = flight_now(fl) + v.wait_ms;
	if (v.wait_ms)
		fetch_call(fl->all->opts.fetch, v.wait_ms + 1, flight_on_turn, flight_ref(fl));
}

static bool is_same_asker(const struct source *a, const struct source *b)
{
	struct str none = STR("");

	return strcmp(a->target, b->target) == 0 && strcmp(a->location, b->location) == 0 &&
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
	LIST_EACH(it, &fl->readers) {
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

/* Not a bad moment but a no: the signature expired, the object is gone, or the host is not one that may be asked. */
static bool is_refusal(const struct segment *s, int error)
{
	if (s->status == 408 || s->status == 429)
		return false;
	return (s->status >= 400 && s->status < 500) || (s->status == 0 && error == -EACCES);
}

/* The address is no good any more: the target is asked for a new one, once; without a target that was the answer. */
static void leave_location(struct flight *fl, struct segment *s)
{
	struct source *source = s->source;

	if (!*source->target) {
		try_next_source(fl, s, s->error == -ENOENT ? -ENOENT : -EACCES);
		return;
	}
	source->is_location_spent = true;
	log_debug("flight", "the address is refused, the Hub is asked", LOG_TEXT("file", source->label),
		  LOG_I64("status", s->status), LOG_END);
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
	} else if (s->is_at_location && is_refusal(s, error)) {
		leave_location(fl, s);
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
