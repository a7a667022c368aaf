/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight_rig - see the header. The keeper's part is played on the work thread that calls, or by the test.
 */
#include "flight_rig.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/path.h"
#include "metrics/metrics.h"

uint64_t rig_now_us(void)
{
	return clock_mono_us(&clock_system);
}

void rig_sleep_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* --- who waits for the disk: the program's own definition goes before the C library's --------------------------- */

static atomic_uint synced, synced_on_fetch;

int caught_fdatasync(int fd) __asm__("fdatasync");
int caught_fdatasync(int fd)
{
	char name[32] = "";

	(void)pthread_getname_np(pthread_self(), name, sizeof(name));
	atomic_fetch_add(&synced, 1);
	if (strstr(name, "fetch"))
		atomic_fetch_add(&synced_on_fetch, 1);
	return (int)syscall(SYS_fdatasync, fd);
}

unsigned rig_synced(void)
{
	return atomic_load(&synced);
}

/* --- what main would introduce ---------------------------------------------------------------------------------- */

static int name_part(struct rig *r, struct part *part, const struct blob_meta *meta)
{
	int error = atomic_load(&r->name_error);

	if (error == 0)
		error = store_finish_part(r->store, part, meta);
	atomic_fetch_add(&r->named, 1);
	return error;
}

static void on_verified(void *ctx, struct part *part, const struct content_id *id,
			const struct blob_meta *meta, void (*done)(void *done_ctx, int error), void *done_ctx)
{
	struct rig *r = ctx;

	assert(content_id_eq(id, &r->id));
	atomic_fetch_add(&r->verified, 1);
	if (!atomic_load(&r->holds_names)) {
		done(done_ctx, name_part(r, part, meta));
		return;
	}
	pthread_mutex_lock(&r->lock);
	r->held_part = part_ref(part);
	r->held_meta = *meta;
	r->held_done = done;
	r->held_ctx = done_ctx;
	pthread_mutex_unlock(&r->lock);
}

bool rig_name(struct rig *r)
{
	struct part *part;

	pthread_mutex_lock(&r->lock);
	part = r->held_part;
	r->held_part = NULL;
	pthread_mutex_unlock(&r->lock);
	if (!part)
		return false;
	r->held_done(r->held_ctx, name_part(r, part, &r->held_meta));
	(void)part_unref(part);
	return true;
}

static void on_need_room(void *ctx, uint64_t bytes, void (*done)(void *done_ctx, int error), void *done_ctx)
{
	struct rig *r = ctx;

	assert(bytes > 0);
	atomic_fetch_add(&r->room_calls, 1);
	if (bytes > atomic_load(&r->room_bytes))
		atomic_store(&r->room_bytes, bytes);
	if (atomic_load(&r->has_room_after_call) && atomic_load(&r->evictable_count) > 0) {
		unsigned last = atomic_fetch_sub(&r->evictable_count, 1) - 1;

		done(done_ctx, store_remove_blob(r->store, &r->evictable[last]));
	} else {
		done(done_ctx, -ENOSPC);
	}
}

static void on_checkpoint(void *ctx, struct part *part)
{
	struct rig *r = ctx;

	atomic_fetch_add(&r->checkpoints, 1);
	(void)part_checkpoint(part);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static uint64_t shifted_mono_ms(void *ctx)
{
	struct rig *r = ctx;
	uint64_t stopped = atomic_load(&r->stopped_at_ms);

	return (stopped ? stopped : clock_mono_ms(&clock_system)) + atomic_load(&r->shift_ms);
}

void rig_stop_clock(struct rig *r)
{
	atomic_store(&r->stopped_at_ms, clock_mono_ms(&clock_system));
}

void rig_open(struct rig *r)
{
	struct store_opts store_opts = {
		.path = r->dir, .size_max = r->store_max, .metrics = r->metrics, .clock = &clock_system
	};
	struct fetch_opts fetch_opts = { .hub_url = upstream_url(&r->up),
					 .redirect_hosts = (const char *const[]){ NULL },
					 .user_agent = "hfcached-test",
					 .connect_timeout_ms = 2000,
					 .metrics = r->metrics,
					 .clock = &clock_system };
	struct flights_opts flights_opts = { .metrics = r->metrics,
					     .clock = &r->clock,
					     .transfers_max = r->transfers_max,
					     .on_verified = on_verified,
					     .on_need_room = on_need_room,
					     .on_checkpoint = on_checkpoint,
					     .ctx = r };
	const char *reason;

	if (store_open(&store_opts, &r->store, &reason) < 0 || fetch_new(&fetch_opts, &r->fetch) < 0)
		abort();
	if (store_recover(r->store, NULL, NULL) < 0)
		abort();
	r->clock = (struct clock){ .mono_ms = shifted_mono_ms, .ctx = r };
	r->work = work_new(2, "work");
	flights_opts.fetch = r->fetch;
	flights_opts.store = r->store;
	flights_opts.work = r->work;
	r->flights = flights_new(&flights_opts);
}

void rig_close(struct rig *r)
{
	flights_free(r->flights);
	fetch_free(r->fetch);
	work_free(r->work);
	store_close(r->store);
}

void rig_start(struct rig *r, uint64_t size)
{
	const char *tmp = getenv("TMPDIR");
	uint32_t x = 2463534242u;
	struct digest sha256;

	*r = (struct rig){ .store_max = r->store_max,
			   .transfers_max = r->transfers_max,
			   .file_size = r->file_size };
	pthread_mutex_init(&r->lock, NULL);
	(void)snprintf(r->dir, sizeof(r->dir), "%s/flightXXXXXX", tmp && strlen(tmp) < 40 ? tmp : "/tmp");
	if (!mkdtemp(r->dir))
		abort();
	r->bytes = malloc(size);
	assert(r->bytes);
	for (uint64_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		r->bytes[i] = (unsigned char)x;
	}
	sha256_of(r->bytes, size, &sha256);
	if (r->file_size) /* its digest is another: it never comes to its end */
		r->up.period = size;
	else
		r->file_size = size;
	r->id = (struct content_id){ .kind = CONTENT_LFS, .sha256 = sha256, .size = r->file_size };
	r->up.bytes = r->bytes;
	r->up.size = r->file_size;
	r->up.hub_retry_after_s = -1;
	content_id_hex(&r->id, r->up.id_hex);
	upstream_start(&r->up);
	r->metrics = metrics_new();
	rig_open(r);
}

void rig_stop(struct rig *r)
{
	char command[128];

	rig_close(r);
	assert_int_equal(atomic_load(&synced_on_fetch), 0);
	metrics_free(r->metrics);
	upstream_stop(&r->up);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", r->dir);
	if (system(command) != 0)
		abort();
	pthread_mutex_destroy(&r->lock);
	free(r->bytes);
}

bool rig_is_stored(struct rig *r)
{
	struct blob *blob;

	if (store_open_blob(r->store, &r->id.sha256, &blob) < 0)
		return false;
	(void)blob_unref(blob);
	return true;
}

struct store_usage rig_usage(struct rig *r)
{
	struct store_usage u;

	store_usage(r->store, &u);
	return u;
}

/* --- clients ---------------------------------------------------------------------------------------------------- */

struct bell {
	struct waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t rung;
	bool is_rung;
};

static void ring(struct waiter *w)
{
	struct bell *b = (struct bell *)((char *)w - offsetof(struct bell, waiter));

	pthread_mutex_lock(&b->lock);
	b->is_rung = true;
	pthread_cond_signal(&b->rung);
	pthread_mutex_unlock(&b->lock);
}

/* false after 70 s: longer than any reader may be kept waiting. */
static bool sleep_until_rung(struct reader *reader, uint64_t offset)
{
	struct bell b = { .is_rung = false };
	struct timespec until;
	bool is_rung;

	waiter_init(&b.waiter, ring);
	pthread_mutex_init(&b.lock, NULL);
	pthread_cond_init(&b.rung, NULL);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 70;
	if (reader_wait(reader, offset, &b.waiter)) {
		pthread_mutex_lock(&b.lock);
		while (!b.is_rung && pthread_cond_timedwait(&b.rung, &b.lock, &until) == 0)
			;
		pthread_mutex_unlock(&b.lock);
		waiter_cancel(&b.waiter);
		is_rung = b.is_rung;
	} else {
		is_rung = true;
	}
	pthread_cond_destroy(&b.rung);
	pthread_mutex_destroy(&b.lock);
	return is_rung;
}

int client_join(struct client *c, struct reader **ret_reader)
{
	const struct content_id *id = c->id ? c->id : &c->rig->id;
	char target[160] = "/acme/pub/resolve/" UPSTREAM_COMMIT "/model.bin?id=";
	struct flight_source source = { .target = STR("/acme/pub/resolve/" UPSTREAM_COMMIT "/model.bin"),
					.commit = STR(UPSTREAM_COMMIT),
					.label = STR("models/acme/pub model.bin") };
	SCOPED(secret_unref) struct secret *token = c->token ? secret_new(str_from(c->token)) : NULL;

	source.token = token;
	if (c->location)
		source.location = str_from(c->location);
	if (c->has_no_target)
		source.target = STR("");
	if (c->id) {
		content_id_hex(id, target + strlen(target));
		source.target = str_from(target);
	}
	if (c->range.end == 0)
		c->range.end = id->size;
	return flight_join(c->rig->flights, id, &source, c->range, c->is_open, ret_reader);
}

int client_wait_started(struct client *c, struct reader *reader)
{
	int r;

	while ((r = reader_started(reader)) == -EAGAIN)
		if (!sleep_until_rung(reader, c->range.first))
			return -ETIME;
	return r;
}

static bool is_true_piece(const struct rig *r, uint64_t at, const unsigned char *piece, size_t len)
{
	uint64_t period = r->up.period;
	bool is_true = true;

	if (!period)
		return memcmp(piece, r->bytes + at, len) == 0;
	for (size_t i = 0; i < len; i++)
		is_true &= piece[i] == r->bytes[(at + i) % period];
	return is_true;
}

static void read_all(struct client *c, struct reader *reader)
{
	unsigned char *piece = malloc(1 * MIB);
	uint64_t at = c->range.first;

	assert(piece);
	c->is_right = true;
	while (at < c->range.end && (!c->leave_after || c->got < c->leave_after)) {
		int64_t ready = reader_ready(reader, at);
		ssize_t n;

		if (ready < 0) {
			c->error = (int)ready;
			break;
		}
		if (ready == 0) {
			if (sleep_until_rung(reader, at))
				continue;
			c->error = -ETIME;
			break;
		}
		n = pread(reader_fd(reader), piece, ready < (int64_t)MIB ? (size_t)ready : MIB, (off_t)at);
		if (n <= 0) {
			c->is_right = false;
			break;
		}
		if (!c->first_us)
			c->first_us = rig_now_us();
		c->is_right &= is_true_piece(c->rig, at, piece, (size_t)n);
		at += (uint64_t)n;
		c->got += (uint64_t)n;
	}
	free(piece);
}

void client_run(struct client *c)
{
	SCOPED(reader_free) struct reader *reader = NULL;

	c->join_error = client_join(c, &reader);
	atomic_store(&c->has_asked, true);
	if (c->join_error < 0)
		return;
	c->has_joined = reader_has_joined(reader);
	c->start_error = client_wait_started(c, reader);
	c->started_us = rig_now_us();
	c->status = reader_upstream_status(reader);
	if (c->start_error == 0)
		read_all(c, reader);
	c->done_us = rig_now_us();
}

static void *client_thread(void *arg)
{
	client_run(arg);
	return NULL;
}

void client_begin(struct client *c)
{
	pthread_create(&c->thread, NULL, client_thread, c);
}

void client_end(struct client *c)
{
	pthread_join(c->thread, NULL);
}

void assert_all_right(const struct client *c, uint64_t bytes)
{
	assert_int_equal(c->join_error, 0);
	assert_int_equal(c->start_error, 0);
	assert_int_equal(c->error, 0);
	assert_true(c->is_right);
	assert_int_equal(c->got, bytes);
}

void assert_next_is_right(struct rig *r)
{
	struct client next = { .rig = r };

	client_run(&next);
	assert_all_right(&next, r->id.size);
	assert_true(rig_is_stored(r));
}

unsigned count_storage_calls(const struct rig *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->up.calls; i++)
		n += r->up.call[i].is_storage;
	return n;
}

const struct upstream_call *last_storage_call(const struct rig *r)
{
	for (unsigned i = r->up.calls; i-- > 0;)
		if (r->up.call[i].is_storage)
			return &r->up.call[i];
	return NULL;
}
