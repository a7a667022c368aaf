/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging - the bytes of a transfer on their way into the part: gathered, written into gaps, shown to readers.
 *
 * Owns      what is in a segment's staging buffer, and the timer that does not let it wait.
 * Never     writes a byte that is held already (promise 1), allocates per piece.
 * Threads   the fetch thread only.
 */
#include <errno.h>

#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

#define CHECKPOINT_MS_MIN 100
/* Speed is not known before a transfer has run so long. */
#define SPEED_MS_MIN 50

static void ask_checkpoint(struct flight *fl, uint64_t now)
{
	if (!part_wants_checkpoint(fl->part) || now - fl->checkpoint_mono_ms < CHECKPOINT_MS_MIN)
		return;
	fl->checkpoint_mono_ms = now;
	fl->all->opts.on_checkpoint(fl->all->opts.ctx, fl->part);
}

/* Readers may have what was written. */
static void publish(struct segment *s, uint64_t written, uint64_t now)
{
	struct flight *fl = s->flight;
	uint64_t prefix = part_held_from(fl->part, 0);
	uint64_t ran_ms = now - s->head_mono_ms;

	lock_take(&fl->lock);
	s->flushed = s->pos;
	if (ran_ms >= SPEED_MS_MIN)
		s->bytes_per_s = s->received / ran_ms * 1000 + s->received % ran_ms * 1000 / ran_ms;
	fl->held += written;
	fl->prefix = prefix;
	fl->news++;
	if (fl->held == fl->id.size && fl->state == FLIGHT_FILLING) {
		fl->state = FLIGHT_VERIFYING;
		fl->has_all_room = true; /* what is held has room */
	}
	lock_drop(&fl->lock);
	flight_wake(fl);
	flight_kick_job(fl);
	ask_checkpoint(fl, now);
}

int segment_flush(struct segment *s)
{
	struct part *part = s->flight->part;
	uint64_t first = s->pos - s->staged, at = first, written = 0, now;
	struct byte_range gap;
	int r = 0;

	if (!s->staged)
		return 0;
	while (r == 0 && at < s->pos && part_next_gap(part, at, &gap) && gap.first < s->pos) {
		uint64_t end = gap.end < s->pos ? gap.end : s->pos;

		r = part_write(part, gap.first, s->staging + (gap.first - first), (size_t)(end - gap.first));
		written += end - gap.first;
		at = end;
	}
	s->staged = 0;
	if (r < 0) {
		log_warning("flight", "cannot write to the store", LOG_TEXT("file", s->source->label),
			    LOG_ERR("error", r), LOG_END);
		s->error = -EIO;
		return -EIO;
	}
	now = flight_now(s->flight);
	s->flush_mono_ms = now;
	s->flushed_bytes += written;
	publish(s, written, now);
	return 0;
}

bool segments_flush(struct flight *fl, uint64_t waited_ms)
{
	uint64_t now = flight_now(fl);
	bool is_left = false;

	LIST_EACH(it, &fl->segments) {
		struct segment *s = LIST_ENTRY(it, struct segment, node);

		if (s->staged && now - s->flush_mono_ms >= waited_ms && segment_flush(s) < 0)
			transfer_cancel(s->transfer); /* its end finds s->error */
		is_left |= s->staged > 0;
	}
	return is_left;
}

static void on_flush_timer(void *ctx)
{
	struct flight *fl = ctx;

	fl->is_flush_armed = segments_flush(fl, FLUSH_MS);
	if (fl->is_flush_armed)
		fetch_call(fl->all->opts.fetch, FLUSH_MS, on_flush_timer, fl);
	else
		flight_unref(fl);
}

static void arm_flush(struct flight *fl)
{
	if (fl->is_flush_armed)
		return;
	fl->is_flush_armed = true;
	fetch_call(fl->all->opts.fetch, FLUSH_MS, on_flush_timer, flight_ref(fl));
}

int segment_stage(struct segment *s, const unsigned char *bytes, size_t len)
{
	s->received += len;
	s->flight->progress += len;
	while (len > 0) {
		size_t room = s->staging_room - s->staged;
		size_t n = len < room ? len : room;

		memcpy(s->staging + s->staged, bytes, n);
		s->staged += n;
		s->pos += n;
		bytes += n;
		len -= n;
		if (s->staged == s->staging_room && segment_flush(s) < 0)
			return -EIO;
	}
	if (s->flushed_bytes < FIRST_BYTES || flight_now(s->flight) - s->flush_mono_ms >= FLUSH_MS)
		return segment_flush(s);
	arm_flush(s->flight);
	return 0;
}
