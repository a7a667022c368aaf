/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flights - the table: one flight per content id; who refers to what; the end of everything.
 *
 * Owns      the table and the names that landed a moment ago.
 * Threads   any; lock rank FLIGHTS, before FLIGHT.
 * Promises  (1) a flight in the table takes readers; one that ended is out of it, so that the next reader starts afresh.
 *           (2) flights_free() returns when no transfer, job or keeper's answer can come any more. Readers that are still
 *               there keep their flight's memory and descriptor, and read errors.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "flight/priv.h"

#include "common/banned.h"

/* --- sources ---------------------------------------------------------------------------------------------------- */

struct source *source_new(const struct flight_source *from)
{
	struct source *s = xcalloc(1, sizeof(*s));

	atomic_init(&s->refs, 1);
	s->target = str_dup(from->target);
	s->location = str_dup(from->location);
	s->commit = str_dup(from->commit);
	s->label = str_dup(from->label);
	s->who = str_dup(from->who);
	s->token = from->token ? secret_ref(from->token) : NULL;
	return s;
}

struct source *source_ref(struct source *s)
{
	atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

struct source *source_unref(struct source *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	free(s->target);
	free(s->location);
	free(s->commit);
	free(s->label);
	free(s->who);
	if (s->token)
		(void)secret_unref(s->token);
	free(s);
	return NULL;
}

/* --- counting --------------------------------------------------------------------------------------------------- */

struct flights *flights_ref(struct flights *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

void flights_unref(struct flights *f)
{
	if (atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	map_free(f->by_key, NULL);
	shares_done(&f->places);
	shares_done(&f->running);
	pthread_cond_destroy(&f->idle);
	lock_done(&f->lock);
	free(f);
}

void flights_busy(struct flights *f)
{
	SCOPED_LOCK(&f->lock);

	f->busy++;
}

void flights_not_busy(struct flights *f)
{
	SCOPED_LOCK(&f->lock);

	assert(f->busy > 0);
	if (--f->busy == 0)
		pthread_cond_broadcast(&f->idle);
}

struct flight *flight_ref(struct flight *fl)
{
	atomic_fetch_add_explicit(&fl->refs, 1, memory_order_relaxed);
	return fl;
}

static void flight_free(struct flight *fl)
{
	assert(list_is_empty(&fl->readers) && list_is_empty(&fl->segments));
	assert(!fl->part && !fl->is_job_running); /* closed by its last job */
	assert(!fl->is_in_line && fl->slots == 0);
	hasher_free(fl->hasher);
	free(fl->hash_buffer);
	(void)source_unref(fl->source);
	free(fl->who);
	if (fl->fd >= 0)
		(void)close(fl->fd); /* for reading only */
	waiters_done(&fl->waiters);
	lock_done(&fl->lock);
	flights_unref(fl->all);
	free(fl);
}

void flight_unref(struct flight *fl)
{
	if (atomic_fetch_sub_explicit(&fl->refs, 1, memory_order_acq_rel) == 1)
		flight_free(fl);
}

/* --- the table -------------------------------------------------------------------------------------------------- */

static void make_key(const struct content_id *id, char *ret_key, size_t room)
{
	char hex[CONTENT_HEX_MAX];

	content_id_hex(id, hex);
	(void)snprintf(ret_key, room, "%s %llu", hex, (unsigned long long)id->size);
}

static struct flight *flight_new(struct flights *f, const struct content_id *id, const char *key)
{
	struct flight *fl = xcalloc(1, sizeof(*fl));

	fl->all = flights_ref(f);
	atomic_init(&fl->refs, 1); /* the table's */
	fl->id = *id;
	memcpy(fl->key, key, sizeof(fl->key));
	waiters_init(&fl->waiters);
	lock_init(&fl->lock, LOCK_FLIGHT);
	list_init(&fl->readers);
	list_init(&fl->segments);
	list_init(&fl->in_line);
	fl->fd = -1;
	fl->wants_open = true;
	return fl;
}

static bool has_just_landed_locked(struct flights *f, const char *key)
{
	uint64_t now = clock_mono_ms(f->opts.clock);

	for (unsigned i = 0; i < LANDED_COUNT; i++)
		if (strcmp(f->landed[i].key, key) == 0 && now - f->landed[i].mono_ms <= LANDED_MS)
			return true;
	return false;
}

void flight_forget_landed(struct flights *f, const struct content_id *want)
{
	char key[CONTENT_HEX_MAX + 24];

	make_key(want, key, sizeof(key));
	SCOPED_LOCK(&f->lock);

	for (unsigned i = 0; i < LANDED_COUNT; i++)
		if (strcmp(f->landed[i].key, key) == 0)
			f->landed[i].key[0] = 0;
}

static void leave_table_locked(struct flight *fl)
{
	(void)map_take(fl->all->by_key, str_from(fl->key));
	shares_give(&fl->all->places, str_from(fl->who));
	fl->is_in_table = false;
}

void flight_leave_table(struct flight *fl, bool has_landed)
{
	struct flights *f = fl->all;
	bool was_in;

	lock_take(&f->lock);
	was_in = fl->is_in_table;
	if (was_in)
		leave_table_locked(fl);
	if (has_landed) {
		struct landed *l = &f->landed[f->landed_next++ % LANDED_COUNT];

		memcpy(l->key, fl->key, sizeof(l->key));
		l->mono_ms = clock_mono_ms(f->opts.clock);
	}
	lock_drop(&f->lock);
	if (was_in)
		flight_unref(fl);
}

bool flight_retire(struct flight *fl)
{
	struct flights *f = fl->all;
	bool is_out;

	lock_take(&f->lock);
	lock_take(&fl->lock);
	is_out = fl->is_in_table && fl->reader_count == 0;
	if (is_out)
		leave_table_locked(fl);
	lock_drop(&fl->lock);
	lock_drop(&f->lock);
	if (is_out)
		flight_unref(fl);
	return is_out;
}

/* --- joining ---------------------------------------------------------------------------------------------------- */

static struct reader *reader_new(const struct flight_source *source, struct byte_range range, bool is_open,
				 uint64_t size)
{
	struct reader *r = xcalloc(1, sizeof(*r));

	list_init(&r->node);
	r->range = range;
	r->source = source_new(source);
	r->may_leave = source->may_leave;
	r->is_whole = policy_fill_plan(range, is_open, size, &r->wanted) == FILL_WHOLE;
	/* less than half of it makes a whole fill only where the file is small */
	r->is_small_range = r->is_whole && !is_open && range.end - range.first < size / 2;
	r->at = range.first;
	return r;
}

/* The lock of the table is held, so the flight cannot leave it. */
static int add_reader(struct flight *fl, struct reader *r)
{
	SCOPED_LOCK(&fl->lock);

	if (fl->state == FLIGHT_LANDED && fl->error == 0)
		return -EEXIST;
	if (flight_is_over_locked(fl))
		return -EAGAIN;
	if (fl->reader_count >= FLIGHT_READERS_MAX)
		return -E2BIG;
	r->has_joined = fl->source != NULL;
	/* A window far ahead is given as it comes; a body that the fill in order brings waits for the digest at its end. */
	r->is_held_back = r->is_whole || r->range.first <= fl->prefix;
	r->waiting_mono_ms = flight_now(fl);
	r->flight = flight_ref(fl);
	list_add_tail(&fl->readers, &r->node);
	fl->reader_count++;
	if (!fl->source)
		fl->source = source_ref(r->source);
	return 0;
}

/* Finds or makes the flight and adds the reader. The lock is held. */
static int join_locked(struct flights *f, const struct content_id *want, struct reader *r)
{
	char key[CONTENT_HEX_MAX + 24];
	struct flight *fl;
	int error;

	make_key(want, key, sizeof(key));
	if (f->is_ending)
		return -ECANCELED;
	fl = map_get(f->by_key, str_from(key));
	if (fl) {
		error = add_reader(fl, r);
		if (error != -EAGAIN)
			return error;
		/* It has just ended and will find itself out of the table: the name is for the next one. */
		leave_table_locked(fl);
		flight_unref(fl);
	}
	if (has_just_landed_locked(f, key))
		return -EEXIST;
	if (!shares_take(&f->places, str_from(r->source->who)))
		return -E2BIG;
	fl = flight_new(f, want, key);
	fl->who = xstrdup(r->source->who);
	(void)map_put(f->by_key, str_from(key), fl);
	fl->is_in_table = true;
	return add_reader(fl, r);
}

static void reader_discard(struct reader *r)
{
	(void)source_unref(r->source);
	free(r);
}

int flight_join(struct flights *f, const struct content_id *want, const struct flight_source *source,
		struct byte_range range, bool is_open, struct reader **ret_reader)
{
	struct reader *r;
	int error;

	assert(range.first < range.end && range.end <= want->size);
	r = reader_new(source, range, is_open, want->size);
	lock_take(&f->lock);
	error = join_locked(f, want, r);
	lock_drop(&f->lock);
	if (error < 0) {
		reader_discard(r);
		return error;
	}
	metrics_gauge_add(f->opts.metrics, METRIC_FILL_WAITERS, 0, 1);
	if (r->has_joined)
		metrics_inc(f->opts.metrics, METRIC_FILL_COLLAPSED);
	else
		metrics_gauge_add(f->opts.metrics, METRIC_FILLS_IN_FLIGHT, 0, 1);
	flight_settle(r->flight);
	flight_kick_job(r->flight);
	flight_post_turn(r->flight);
	*ret_reader = r;
	return 0;
}

/* --- all of them ------------------------------------------------------------------------------------------------ */

struct flights *flights_new(const struct flights_opts *opts)
{
	struct flights *f = xcalloc(1, sizeof(*f));

	assert(opts->on_verified && opts->on_need_room && opts->on_checkpoint);
	f->opts = *opts;
	atomic_init(&f->refs, 1);
	lock_init(&f->lock, LOCK_FLIGHTS);
	pthread_cond_init(&f->idle, NULL);
	f->by_key = map_new();
	shares_init(&f->places, FLIGHTS_MAX);
	shares_init(&f->running, opts->transfers_max ? opts->transfers_max : TRANSFERS_MAX);
	list_init(&f->line);
	return f;
}

static int take_one(void *ctx, struct str key, void *value)
{
	struct flight **ret_flight = ctx;

	*ret_flight = flight_ref(value);
	return 1;
}

static struct flight *any_flight(struct flights *f)
{
	struct flight *fl = NULL;

	SCOPED_LOCK(&f->lock);

	(void)map_each(f->by_key, take_one, &fl);
	return fl;
}

void flights_free(struct flights *f)
{
	struct flight *fl;

	if (!f)
		return;
	lock_take(&f->lock);
	f->is_ending = true;
	lock_drop(&f->lock);
	while ((fl = any_flight(f))) {
		flight_end(fl, FLIGHT_FAILED, -ECANCELED, 0, false);
		flight_unref(fl);
	}
	lock_take(&f->lock);
	while (f->busy)
		pthread_cond_wait(&f->idle, &f->lock.mutex);
	lock_drop(&f->lock);
	flights_unref(f);
}

struct view_call {
	void (*visit)(void *ctx, const struct flight_view *view);
	void *ctx;
};

static int view_one(void *ctx, struct str key, void *value)
{
	struct view_call *call = ctx;
	struct flight *fl = value;
	struct flight_view view = { 0 };

	SCOPED_LOCK(&fl->lock);

	view.label = str_from(fl->source ? fl->source->label : "");
	view.size = fl->id.size;
	view.held = fl->held;
	view.readers = fl->reader_count;
	view.transfers = fl->segment_count;
	view.state = flight_state_name(fl->state);
	LIST_EACH(it, &fl->segments)
		view.bytes_per_s += LIST_ENTRY(it, struct segment, node)->bytes_per_s;
	call->visit(call->ctx, &view);
	return 0;
}

void flights_each(struct flights *f, void (*visit)(void *ctx, const struct flight_view *view), void *ctx)
{
	struct view_call call = { visit, ctx };

	SCOPED_LOCK(&f->lock);

	(void)map_each(f->by_key, view_one, &call);
}
