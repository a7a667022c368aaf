/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment - one upstream transfer of one byte range: how it begins, its head, what of its body is taken, how it ends.
 *
 * Owns      its transfer and the room of its staging buffer.
 * Never     goes past its stop.
 * Threads   the fetch thread only. What others may look at is written under the flight's lock.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/alloc.h"
#include "common/http/date.h"
#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

/* Two of them, and a moment for the retry between, stay below the wait that a reader is promised (U12). */
#define FIRST_BYTE_TIMEOUT_MS 20000
#define STALL_TIMEOUT_MS 20000
/* Slower is given up and asked for anew (U12). */
#define BYTES_PER_S_MIN 10240
#define RETRY_AFTER_MS_CAP 3600000
/* In smaller pieces a fast line would cost more calls than bytes (performance 4.2). */
#define RECEIVE_BYTES ((size_t)512 * 1024)

static void segment_unref(struct segment *s)
{
	if (--s->refs > 0)
		return;
	if (s->transfer)
		(void)transfer_unref(s->transfer);
	(void)source_unref(s->source);
	free(s->staging);
	free(s);
}

/* --- the head --------------------------------------------------------------------------------------------------- */

/* When the governor lets us ask again, which may be a little later than upstream said. */
static int64_t rate_limit_ms(const struct segment *s)
{
	return (int64_t)fetch_busy_ms(s->flight->all->opts.fetch, FETCH_HUB, str_from(s->source->target),
				      s->source->token);
}

static int refuse(struct segment *s, const struct fetch_head *head, int verdict)
{
	struct str after = headers_get(head->headers, STR("Retry-After"));

	s->status = head->status;
	s->error = verdict;
	if (after.ptr)
		s->retry_after_ms =
			retry_after_ms(after, clock_wall_s(s->flight->all->opts.clock), RETRY_AFTER_MS_CAP);
	if (s->status == 429 && head->is_hub_origin && rate_limit_ms(s) > s->retry_after_ms)
		s->retry_after_ms = rate_limit_ms(s);
	return verdict == -EAGAIN ? -EREMOTEIO : verdict;
}

/* May the part be emptied? Only while it is this transfer's alone and nobody was given a byte of it. */
static bool can_start_over(struct flight *fl)
{
	SCOPED_LOCK(&fl->lock);

	return fl->held > 0 && fl->fed_count == 0 && fl->segment_count == 1 && fl->resets < FLIGHT_RESETS_MAX;
}

/*
 * The bytes that are held came under another validator (U03). The Hub says that it is the same content, so either may be
 * wrong: start over if nobody noticed yet, else go on and let the digest of the whole decide.
 */
static int check_validator(struct segment *s, const struct fetch_head *head)
{
	struct flight *fl = s->flight;
	struct str now = head_validator(head);
	struct str before = part_validator(fl->part);

	s->is_other_version = before.len && now.len && !str_eq(before, now);
	if (s->is_other_version && can_start_over(fl))
		return -ESTALE;
	if (now.len && !str_eq(before, now))
		part_set_validator(fl->part, now);
	return 0;
}

static bool has_other_full(struct segment *s)
{
	LIST_EACH(it, &s->flight->segments) {
		struct segment *other = LIST_ENTRY(it, struct segment, node);

		if (other != s && other->has_agreed && !other->is_cancelled &&
		    other->body_end == s->flight->id.size && other->asked_first == 0)
			return true;
	}
	return false;
}

/*
 * All of the file, though a part was asked for (U04): taken from its beginning, what is held is skipped. If not because
 * the version is another, this upstream does so always; and a second one at the same time would bring nothing new.
 */
static int take_full(struct segment *s)
{
	struct flight *fl = s->flight;
	bool is_second = has_other_full(s);

	fl->are_ranges_ignored |= !s->is_other_version || is_second;
	if (is_second) {
		s->is_cancelled = true;
		return -ECANCELED;
	}
	s->asked_first = 0;
	s->asked_end = fl->id.size;
	flight_take_from_start(fl);
	return 0;
}

static void agree(struct segment *s, struct byte_range body, bool is_full, bool is_from_hub)
{
	struct flight *fl = s->flight;
	uint64_t span;

	s->pos = body.first;
	s->body_end = body.end;
	s->head_mono_ms = s->flush_mono_ms = flight_now(fl);
	lock_take(&fl->lock);
	s->flushed = body.first;
	if (is_full || s->stop > body.end)
		s->stop = body.end;
	s->has_agreed = true;
	fl->is_from_hub = is_from_hub;
	if (fl->state == FLIGHT_ASKING)
		fl->state = FLIGHT_FILLING;
	fl->news++;
	lock_drop(&fl->lock);
	span = s->stop - s->pos;
	s->staging_room = span < STAGING_BYTES ? (size_t)span : STAGING_BYTES;
	s->staging = xmalloc(s->staging_room + 1);
	flight_wake(fl);
}

static int take_final_head(struct segment *s, const struct fetch_head *head, const struct head_want *want)
{
	struct byte_range body;
	bool is_full = head->status == 200 && s->is_ranged;
	int r = head_check_body(head, want, &body);

	if (r == 0)
		r = check_validator(s, head);
	if (r == 0 && is_full)
		r = take_full(s);
	if (r < 0)
		return r;
	agree(s, body, is_full, head->is_hub_origin);
	return 0;
}

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct segment *s = ctx;
	struct head_want want = { .id = &s->flight->id,
				  .commit = str_from(s->source->commit),
				  .is_ranged = s->is_ranged,
				  .first = s->asked_first,
				  .end = s->asked_end };
	int r = head_verdict(head);

	s->is_hub_hop = head->is_hub_origin;
	if (s->is_cancelled)
		return -ECANCELED;
	if (r < 0)
		return refuse(s, head, r);
	if (head->is_hub_origin)
		r = head_check_identity(head, &want);
	if (r == 0 && head->is_final)
		r = take_final_head(s, head, &want);
	if (r == -EBADMSG)
		log_warning("flight", "upstream's answer does not agree with what the Hub said of this file",
			    LOG_TEXT("file", s->source->label),
			    LOG_TEXT("hop", head->is_hub_origin ? "hub" : "storage"),
			    LOG_I64("status", head->status), LOG_END);
	return r;
}

/* --- the body --------------------------------------------------------------------------------------------------- */

/* The small start (priv.h). */
static bool must_pause(struct segment *s, size_t len)
{
	struct flight *fl = s->flight;
	uint64_t furthest = 0;

	if (s->is_off || s->received + len <= SMALL_START_BYTES)
		return false;
	SCOPED_LOCK(&fl->lock);

	s->is_off = fl->is_off;
	LIST_EACH(it, &fl->readers) {
		const struct reader *r = LIST_ENTRY(it, struct reader, node);

		furthest = reader_taken_locked(r) > furthest ? reader_taken_locked(r) : furthest;
	}
	return !s->is_off && s->pos + len > furthest + SMALL_START_BYTES;
}

/* Only when upstream sends more than was asked for: what is asked for has room. */
static bool lacks_room(struct segment *s, size_t len)
{
	if (s->pos + len > s->room_end)
		s->room_end = s->pos + part_room_from(s->flight->part, s->pos);
	return s->pos + len > s->room_end;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct segment *s = ctx;
	size_t take = len;

	if (s->is_cancelled || s->error)
		return -ECANCELED;
	if (len > s->body_end - s->pos)
		return -EBADMSG; /* longer than it said (U02) */
	if (s->pos + take > s->stop)
		take = s->stop > s->pos ? (size_t)(s->stop - s->pos) : 0;
	s->is_paused = must_pause(s, len) || lacks_room(s, take);
	if (s->is_paused)
		return FETCH_PAUSE;
	if (segment_stage(s, bytes, take) < 0)
		return -EIO;
	if (s->pos >= s->stop && s->stop < s->body_end) {
		s->is_complete = true; /* the rest is held, or another brings it */
		return -ECANCELED;
	}
	return 0;
}

/* Nothing was sent: the same as if upstream itself had said 429. */
static void note_rate_limit(struct segment *s)
{
	s->status = 429;
	s->is_hub_hop = true;
	s->retry_after_ms = rate_limit_ms(s);
}

static void on_done(void *ctx, int error)
{
	struct segment *s = ctx;
	struct flight *fl = s->flight;

	if (error == -EBUSY)
		note_rate_limit(s);
	if (error != -EBADMSG)
		(void)segment_flush(s); /* a failure is in s->error */
	if (s->has_agreed && s->pos >= s->stop && !s->error && error != -EBADMSG)
		s->is_complete = true;
	else if (error == 0)
		error = -ECONNRESET; /* without a length, an early end looks clean */
	lock_take(&fl->lock);
	list_remove(&s->node);
	fl->segment_count--;
	lock_drop(&fl->lock);
	flight_segment_ended(fl, s, error);
	slot_free(fl);
	segment_unref(s);
	flights_not_busy(fl->all);
	flight_unref(fl);
}

/* --- begin and break off ---------------------------------------------------------------------------------------- */

static void add_range(struct segment *s, struct headers *h)
{
	struct flight *fl = s->flight;
	struct str validator = part_validator(fl->part);

	s->is_ranged = s->asked_first > 0 || s->asked_end < fl->id.size;
	if (!s->is_ranged)
		return;
	if (s->asked_end == fl->id.size)
		(void)headers_addf(h, "Range", "bytes=%" PRIu64 "-", s->asked_first);
	else
		(void)headers_addf(h, "Range", "bytes=%" PRIu64 "-%" PRIu64, s->asked_first,
				   s->asked_end - 1);
	if (validator.len && fl->held > 0)
		(void)headers_add(h, STR("If-Range"), validator);
}

static struct segment *segment_new(struct flight *fl, struct source *source, struct byte_range range)
{
	struct segment *s = xcalloc(1, sizeof(*s));

	s->flight = flight_ref(fl);
	s->source = source_ref(source);
	s->refs = 2; /* on_done's, and segment_start()'s own until fetch_start() has returned */
	list_init(&s->node);
	s->is_at_location = *source->location && !source->is_location_spent;
	s->asked_first = s->pos = s->flushed = range.first;
	s->asked_end = s->stop = s->body_end = range.end;
	s->retry_after_ms = -1;
	return s;
}

/* From here on the part stays open. Returns false if the flight has ended meanwhile, or begins anew. */
static bool enter_flight(struct segment *s)
{
	struct flight *fl = s->flight;

	SCOPED_LOCK(&fl->lock);

	if (flight_is_over_locked(fl) || fl->wants_reset)
		return false;
	list_add_tail(&fl->segments, &s->node);
	fl->segment_count++;
	return true;
}

static void ask_upstream(struct segment *s)
{
	static const struct fetch_ops ops = { .on_head = on_head, .on_body = on_body, .on_done = on_done };
	struct headers headers;
	struct fetch_request request = { .method = "GET",
					 .target = str_from(s->source->target),
					 .headers = &headers,
					 .token = s->source->token,
					 .who = str_from(s->source->who),
					 .receive_bytes = RECEIVE_BYTES,
					 .follow = FETCH_FOLLOW_ALLOWED,
					 .first_byte_timeout_ms = FIRST_BYTE_TIMEOUT_MS,
					 .stall_timeout_ms = STALL_TIMEOUT_MS,
					 .min_bytes_per_s = BYTES_PER_S_MIN };

	lock_take(&s->flight->lock);
	request.is_background = s->flight->reader_count == 0;
	lock_drop(&s->flight->lock);
	if (s->is_at_location)
		request.location = str_from(s->source->location);
	headers_init(&headers);
	add_range(s, &headers);
	if (fetch_start(s->flight->all->opts.fetch, &request, &ops, s, &s->transfer) < 0)
		on_done(s, -EHOSTUNREACH); /* the door promises 0; a failure must still end somewhere */
	headers_done(&headers);
}

void segment_start(struct flight *fl, struct source *source, struct byte_range range)
{
	struct segment *s = segment_new(fl, source, range);

	if (enter_flight(s)) {
		flights_busy(fl->all);
		ask_upstream(s);
	} else {
		slot_free(fl);
		segment_unref(s); /* there will be no on_done */
		flight_unref(fl);
	}
	segment_unref(s);
}

void segment_cancel(struct segment *s)
{
	if (s->is_cancelled || s->is_complete)
		return;
	(void)segment_flush(s);
	s->is_cancelled = true;
	if (s->transfer)
		transfer_cancel(s->transfer);
}

void segment_let_go(struct segment *s)
{
	if (!s->has_agreed || s->pos < s->body_end)
		segment_cancel(s);
}

void segment_continue(struct segment *s)
{
	if (!s->is_paused)
		return;
	s->is_paused = false;
	transfer_resume(s->transfer);
}
