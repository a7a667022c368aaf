/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jobs - what of a flight waits for the disk or costs time: its part is opened, hashed as it grows, emptied,
 * closed. Room for it is in room.c.
 *
 * Threads   work threads; one job of a flight at a time, chosen by next_locked() from the flight's state.
 * Promises  (1) the digests are of the bytes in the part, read back in order, and of nothing else.
 *           (2) the part is closed once, here, after the last transfer that writes to it and the last look
 *               at it: so no other thread of the flight ever lets go of it last.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

/* Both digests of a piece find it in the cache of the processor. */
#define HASH_PIECE (256u << 10)
/* A job ends after so many bytes, so that other flights get their turn. */
#define HASH_JOB_BYTES (8u << 20)
/* Not worth a job before so many have come, unless they are the last. */
#define HASH_JOB_MIN (1u << 20)
/* The part of a flight that just ended is still being closed: a moment, tried for five seconds. */
#define OPEN_AGAIN_MS 20
#define OPEN_TRIES_MAX 250

static void run_job(struct job *job);

static enum flight_job next_locked(const struct flight *fl)
{
	if (flight_is_over_locked(fl))
		return fl->part && !fl->segment_count && !fl->part_users ? JOB_CLOSE : JOB_NONE;
	if (fl->wants_open)
		return JOB_OPEN;
	if (!fl->part)
		return JOB_NONE;
	if (fl->wants_reset)
		return fl->segment_count == 0 ? JOB_RESET : JOB_NONE;
	if (fl->wants_room && !fl->is_room_asked)
		return JOB_ROOM;
	if (fl->is_verified || fl->hashed == fl->id.size)
		return JOB_NONE;
	if (fl->prefix == fl->id.size)
		return JOB_HASH;
	/* not for who only reads what is held: it would be read again each time */
	if ((fl->has_whole || fl->segment_count > 0) && fl->prefix - fl->hashed >= HASH_JOB_MIN)
		return JOB_HASH;
	return JOB_NONE;
}

void flight_kick_job(struct flight *fl)
{
	bool is_due;

	lock_take(&fl->lock);
	is_due = !fl->is_job_running && next_locked(fl) != JOB_NONE;
	fl->is_job_running |= is_due;
	lock_drop(&fl->lock);
	if (!is_due)
		return;
	flights_busy(fl->all);
	(void)flight_ref(fl);
	list_init(&fl->job.node);
	fl->job.run = run_job;
	work_submit(fl->all->opts.work, &fl->job);
}

struct part *flight_use_part_locked(struct flight *fl)
{
	fl->part_users += fl->part != NULL;
	return fl->part;
}

void flight_leave_part(struct flight *fl)
{
	bool is_due;

	lock_take(&fl->lock);
	assert(fl->part && fl->part_users > 0);
	is_due = --fl->part_users == 0 && flight_is_over_locked(fl);
	lock_drop(&fl->lock);
	if (is_due)
		flight_kick_job(fl);
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* It cannot be kept: readers are told -ENOSPC, which means "stream it", whatever is wrong with the disk. */
static void end_without_store(struct flight *fl, int r)
{
	if (r != -ENOSPC)
		log_warning("flight", "the store cannot take a file", LOG_ERR("error", r), LOG_END);
	flight_end(fl, FLIGHT_FAILED, -ENOSPC, 0, false);
}

static void open_again(void *ctx)
{
	struct flight *fl = ctx;

	lock_take(&fl->lock);
	fl->wants_open = true;
	lock_drop(&fl->lock);
	flight_kick_job(fl);
	flight_unref(fl);
}

static uint64_t count_held(struct part *part, uint64_t size)
{
	struct byte_range gap = { 0, 0 };
	uint64_t missing = 0;

	while (part_next_gap(part, gap.end, &gap))
		missing += gap.end - gap.first;
	return size - missing;
}

static void adopt_part(struct flight *fl, struct part *part, int fd)
{
	uint64_t held = count_held(part, fl->id.size);
	uint64_t prefix = part_held_from(part, 0);

	lock_take(&fl->lock);
	fl->part = part; /* also if the flight ended meanwhile: the next job closes it */
	fl->fd = fd;
	fl->held = held;
	fl->prefix = prefix;
	fl->has_all_room = held == fl->id.size;
	if (fl->has_all_room && !flight_is_over_locked(fl))
		fl->state = FLIGHT_VERIFYING;
	fl->news++;
	lock_drop(&fl->lock);
	flight_settle(fl);
	flight_wake(fl);
	flight_post_turn(fl);
}

static void run_open(struct flight *fl)
{
	struct flights *f = fl->all;
	struct part *part = NULL;
	int fd, r;

	lock_take(&fl->lock);
	fl->wants_open = false;
	lock_drop(&fl->lock);
	r = store_open_part(f->opts.store, &fl->id, &part);
	if (r == -EBUSY && fl->open_tries++ < OPEN_TRIES_MAX) {
		fetch_call(f->opts.fetch, OPEN_AGAIN_MS, open_again, flight_ref(fl));
		return;
	}
	if (r < 0) {
		end_without_store(fl, r);
		return;
	}
	fd = fcntl(part_fd(part), F_DUPFD_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
		part_unref(part);
		end_without_store(fl, r);
		return;
	}
	adopt_part(fl, part, fd);
}

/* --- hashing ---------------------------------------------------------------------------------------------------- */

static void on_named(void *ctx, int error)
{
	struct flight *fl = ctx;
	struct flights *f = flights_ref(fl->all);

	flight_end(fl, FLIGHT_LANDED, error, 0, false);
	flight_unref(fl);
	flights_not_busy(f);
	flights_unref(f);
}

/* The bytes are right; only the disk is slow. */
static void free_tail(void *ctx)
{
	struct flight *fl = ctx;

	lock_take(&fl->lock);
	fl->is_tail_free = true;
	fl->news++;
	lock_drop(&fl->lock);
	flight_wake(fl);
	flight_unref(fl);
}

static void hand_over(struct flight *fl)
{
	const struct flights_opts *opts = &fl->all->opts;
	struct part *part;

	lock_take(&fl->lock);
	fl->is_verified = !flight_is_over_locked(fl) && !fl->wants_reset;
	part = fl->is_verified ? part_ref(fl->part) : NULL;
	lock_drop(&fl->lock);
	if (!part)
		return;
	fetch_call(opts->fetch, TAIL_MS_MAX, free_tail, flight_ref(fl));
	flights_busy(fl->all);
	opts->on_verified(opts->ctx, part, &fl->id, &fl->meta, on_named, flight_ref(fl));
	(void)part_unref(part);
}

static void throw_away(struct flight *fl)
{
	SCOPED(source_unref) struct source *source = NULL;
	bool is_from_hub, is_retried;

	lock_take(&fl->lock);
	is_retried = fl->fed_count == 0 && fl->mismatches++ == 0 && !flight_is_over_locked(fl);
	if (is_retried) {
		fl->wants_reset = true;
		fl->generation++;
		fl->state = FLIGHT_ASKING;
	}
	is_from_hub = fl->is_from_hub;
	source = source_ref(fl->source);
	lock_drop(&fl->lock);
	metrics_inc(fl->all->opts.metrics, METRIC_STORAGE_CORRUPT); /* found_by="fill" is the first word */
	log_error("flight", "the bytes from upstream are not what the Hub promised: thrown away",
		  LOG_TEXT("file", source->label), LOG_TEXT("hop", is_from_hub ? "hub" : "storage"),
		  LOG_TEXT("then", is_retried ? "fetched again" : "readers are cut off"), LOG_END);
	if (is_retried)
		flight_post_turn(fl);
	else
		flight_end(fl, FLIGHT_FAILED, -EBADMSG, 0, true);
}

static void drop_hasher(struct flight *fl)
{
	hasher_free(fl->hasher);
	fl->hasher = NULL;
	free(fl->hash_buffer);
	fl->hash_buffer = NULL;
}

static bool is_true_content(const struct flight *fl)
{
	if (fl->id.kind == CONTENT_LFS)
		return digest_eq(&fl->meta.sha256, &fl->id.sha256);
	return git_oid_eq(&fl->meta.git, &fl->id.git);
}

static void conclude(struct flight *fl)
{
	hasher_final(fl->hasher, &fl->meta.sha256, &fl->meta.git);
	fl->meta.size = fl->id.size;
	drop_hasher(fl);
	if (is_true_content(fl))
		hand_over(fl);
	else
		throw_away(fl);
}

/* Returns where it came to, or -EIO. */
static int64_t hash_up_to(struct flight *fl, uint64_t at, uint64_t limit)
{
	while (at < limit) {
		size_t want = limit - at < HASH_PIECE ? (size_t)(limit - at) : HASH_PIECE;
		ssize_t got = pread(fl->fd, fl->hash_buffer, want, (off_t)at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EIO;
		hasher_update(fl->hasher, fl->hash_buffer, (size_t)got);
		at += (uint64_t)got;
	}
	return (int64_t)at;
}

static void run_hash(struct flight *fl)
{
	uint64_t limit, hashed;
	int64_t came_to;

	lock_take(&fl->lock);
	hashed = fl->hashed;
	limit = fl->prefix;
	lock_drop(&fl->lock);
	if (!fl->hasher) {
		fl->hasher = hasher_new(fl->id.size, true);
		fl->hash_buffer = xmalloc(fl->id.size < HASH_PIECE ? (size_t)fl->id.size : HASH_PIECE);
	}
	if (limit - hashed > HASH_JOB_BYTES)
		limit = hashed + HASH_JOB_BYTES;
	came_to = hash_up_to(fl, hashed, limit);
	if (came_to < 0) {
		log_error("flight", "cannot read back what was written", LOG_ERR("error", (int)came_to),
			  LOG_END);
		flight_end(fl, FLIGHT_FAILED, -ENOSPC, 0, true);
		return;
	}
	lock_take(&fl->lock);
	fl->hashed = (uint64_t)came_to;
	lock_drop(&fl->lock);
	if ((uint64_t)came_to == fl->id.size)
		conclude(fl);
}

/* --- emptying and closing --------------------------------------------------------------------------------------- */

static void run_reset(struct flight *fl)
{
	int r = part_reset(fl->part);

	part_set_validator(fl->part, STR(""));
	drop_hasher(fl);
	lock_take(&fl->lock);
	fl->hashed = fl->prefix = fl->held = 0;
	fl->wants_reset = false;
	fl->generation++;
	fl->news++;
	flight_unsettle_locked(fl);
	if (!flight_is_over_locked(fl))
		fl->state = FLIGHT_ASKING;
	lock_drop(&fl->lock);
	flight_settle(fl);
	if (r < 0) {
		flight_end(fl, FLIGHT_FAILED, -ENOSPC, 0, true);
		return;
	}
	flight_wake(fl);
	flight_post_turn(fl);
}

static void run_close(struct flight *fl)
{
	struct part *part;
	bool is_dropping;

	lock_take(&fl->lock);
	part = fl->part;
	fl->part = NULL;
	is_dropping = fl->is_dropping;
	lock_drop(&fl->lock);
	if (is_dropping)
		part_drop(part);
	(void)part_unref(part);
}

static void run_job(struct job *job)
{
	struct flight *fl = LIST_ENTRY(job, struct flight, job);
	struct flights *f = flights_ref(fl->all);
	enum flight_job kind;
	bool is_due;

	lock_take(&fl->lock);
	kind = next_locked(fl); /* what was due may have become pointless */
	lock_drop(&fl->lock);
	if (kind == JOB_OPEN)
		run_open(fl);
	else if (kind == JOB_ROOM)
		flight_run_room(fl);
	else if (kind == JOB_HASH)
		run_hash(fl);
	else if (kind == JOB_RESET)
		run_reset(fl);
	else if (kind == JOB_CLOSE)
		run_close(fl);
	lock_take(&fl->lock);
	is_due = next_locked(fl) != JOB_NONE;
	fl->is_job_running = is_due;
	lock_drop(&fl->lock);
	if (is_due) {
		work_submit(f->opts.work, job);
	} else {
		flight_unref(fl);
		flights_not_busy(f);
	}
	flights_unref(f);
}
