/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/care - what is done now and then: times of use, bounds of tables, checkpoints, the full check.
 *
 * Threads   the writer's.
 * Promises  (1) tables that clients can fill with names of their choice are bounded (abuse case N05).
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define CHECK_EVERY_S (7 * 24 * 3600)
#define CHECK_MS_MAX 10000
/* Rows deleted in one go, so that the keeper is soon free for commits again. */
#define TRIM_ROWS_MAX 20000

/* --- uses --- */

struct uses {
	struct use {
		struct digest sha256;
		int64_t used_at;
	} * at; /* owned */
	size_t count, room;
};

static int collect_use(void *ctx, struct str key, void *value)
{
	struct uses *u = ctx;
	struct row *row = value;
	struct str digest = key_a(key);

	if (row->value.state != VALUE_HELD || !atomic_exchange(&row->is_touched, false))
		return 0;
	if (u->count == u->room) {
		u->room = u->room ? 2 * u->room : 256;
		u->at = xrealloc(u->at, u->room * sizeof(*u->at));
	}
	memcpy(u->at[u->count].sha256.bytes, digest.ptr, SHA256_BYTES);
	u->at[u->count++].used_at = atomic_load(&row->used_at);
	return 0;
}

static int write_uses(struct index *x, const struct uses *u)
{
	int r = writer_begin(x);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < u->count; i++) {
		sqlite3_stmt *st = NULL;

		r = sql_start(x->writer, ST_USE_BLOB, &st);
		if (r < 0)
			break;
		sql_bind_bytes(st, 1, u->at[i].sha256.bytes, SHA256_BYTES);
		sql_bind_int(st, 2, u->at[i].used_at);
		r = sql_run(x->writer, st);
	}
	return writer_end(x, r);
}

int index_flush_uses(struct index *x)
{
	struct uses u = { .count = 0 };
	int r = 0;

	writer_assert(x);
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &x->table.shards[i];

		shard_read(s);
		(void)map_each(s->rows[ROW_BLOB], collect_use, &u);
		shard_drop(s);
	}
	if (u.count)
		r = write_uses(x, &u); /* lost when it fails: the next use says it again */
	free(u.at);
	return r;
}

int index_oldest_blobs(struct index *x,
		       int (*visit)(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at),
		       void *ctx)
{
	struct digest sha256;
	sqlite3_stmt *st = NULL;
	int r;

	writer_assert(x);
	(void)index_flush_uses(x); /* then the order is a little old */
	r = sql_start(x->writer, ST_OLDEST_BLOBS, &st);
	if (r < 0)
		return r;
	while ((r = sql_row(x->writer, st)) > 0) {
		if (sql_copy(st, 0, sha256.bytes, SHA256_BYTES) < 0)
			continue;
		if (visit(ctx, &sha256, (uint64_t)sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2)))
			break;
	}
	sql_stop(st);
	return r < 0 ? r : 0;
}

/* --- blobs on their way out --- */

int index_leaving_each(struct index *x, int (*visit)(void *ctx, const struct digest *sha256), void *ctx)
{
	struct digest sha256;
	sqlite3_stmt *st = NULL;
	int r;

	writer_assert(x);
	r = sql_start(x->writer, ST_EACH_LEAVING, &st);
	if (r < 0)
		return r;
	while ((r = sql_row(x->writer, st)) > 0) {
		if (sql_copy(st, 0, sha256.bytes, SHA256_BYTES) < 0)
			continue;
		r = visit(ctx, &sha256);
		if (r)
			break;
	}
	sql_stop(st);
	return r;
}

void index_leaving_done(struct index *x)
{
	writer_assert(x);
	x->have_left = true;
}

/* --- bounds --- */

static const struct {
	enum statement count, trim;
	int64_t rows_max;
} bounds[] = {
	{ ST_COUNT_ABSENT, ST_TRIM_ABSENT, 100000 },    { ST_COUNT_ALIASES, ST_TRIM_ALIASES, 100000 },
	{ ST_COUNT_GRANTS, ST_TRIM_GRANTS, 500000 },    { ST_COUNT_DOCS, ST_TRIM_DOCS, 1000000 },
	{ ST_COUNT_OBJECTS, ST_TRIM_OBJECTS, 1000000 }, { ST_COUNT_SHOWN, ST_TRIM_SHOWN, 2000000 },
};

static int count_rows(struct index *x, enum statement id, int64_t *ret_count)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, id, &st);

	if (r < 0)
		return r;
	r = sql_row(x->writer, st);
	if (r > 0)
		*ret_count = sqlite3_column_int64(st, 0);
	sql_stop(st);
	return r < 0 ? r : 0;
}

int index_count_blobs(struct index *x, uint64_t *ret_count)
{
	int64_t count = 0;
	int r;

	writer_assert(x);
	r = count_rows(x, ST_COUNT_BLOBS, &count);
	if (r == 0)
		*ret_count = (uint64_t)count;
	return r;
}

static int trim(struct index *x, size_t i)
{
	sqlite3_stmt *st = NULL;
	int64_t surplus = 0;
	int r = count_rows(x, bounds[i].count, &surplus);

	surplus -= bounds[i].rows_max;
	if (r < 0 || surplus <= 0)
		return r;
	r = sql_start(x->writer, bounds[i].trim, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, surplus < TRIM_ROWS_MAX ? surplus : TRIM_ROWS_MAX);
	return sql_run(x->writer, st);
}

/* --- the full check --- */

struct deadline {
	const struct clock *clock;
	uint64_t mono_ms;
};

static int is_over(void *ctx)
{
	const struct deadline *d = ctx;

	return clock_mono_ms(d->clock) >= d->mono_ms;
}

int index_check(struct index *x, const char *pragma, uint64_t ms_max)
{
	struct deadline deadline = { &clock_system, clock_mono_ms(&clock_system) + ms_max };
	sqlite3_stmt *st = NULL;
	bool is_ok;
	int r;

	sqlite3_progress_handler(x->writer->db, 10000, is_over, &deadline);
	r = sql_error(x->writer, sqlite3_prepare_v2(x->writer->db, pragma, -1, &st, NULL));
	if (r == 0)
		r = sql_row(x->writer, st);
	is_ok = r > 0 && str_eq(sql_str(st, 0), STR("ok"));
	(void)sqlite3_finalize(st); /* repeats the error of the step */
	sqlite3_progress_handler(x->writer->db, 0, NULL, NULL);
	if (r == -EINTR)
		return 0; /* what was seen in this time is well */
	if (r < 0)
		return r;
	return is_ok ? 0 : sql_error(x->writer, SQLITE_CORRUPT);
}

static int check_weekly(struct index *x)
{
	int64_t now = clock_wall_s(x->clock), checked_at;
	int r;

	if (setting_get(x->writer, "checked_at", &checked_at) < 0)
		checked_at = 0;
	/* also when the clock was set back */
	if (checked_at <= now && now - checked_at < CHECK_EVERY_S)
		return 0;
	r = index_check(x, "PRAGMA integrity_check(1)", CHECK_MS_MAX);
	if (r < 0)
		return r;
	return setting_put(x->writer, "checked_at", now);
}

int index_maintain(struct index *x)
{
	int r = 0;

	writer_assert(x);
	if (!x->writer)
		return -EIO;
	for (size_t i = 0; r == 0 && i < sizeof(bounds) / sizeof(bounds[0]); i++)
		r = trim(x, i);
	if (r == 0)
		r = check_weekly(x);
	if (r == 0)
		r = sql_exec(x->writer, "PRAGMA incremental_vacuum(1000)");
	if (r < 0)
		return r;
	/* PASSIVE: waits for no reader; the next one gets what this one could not */
	return sql_error(x->writer, sqlite3_wal_checkpoint_v2(x->writer->db, NULL, SQLITE_CHECKPOINT_PASSIVE,
							      NULL, NULL));
}

bool index_is_damaged(struct index *x)
{
	return atomic_load(&x->is_damaged);
}
