/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/apply - facts into the database: one batch, one transaction.
 *
 * Threads   the writer's.
 * Promises  (1) a batch is on disk as a whole or not at all.
 *           (2) a batch that failed is tried once more with the next one, then given up; facts that take something away
 *               are tried until they are written, and if they are too many, all rights on disk count as none until they
 *               can be deleted.
 */
#include "index/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/log.h"

#include "common/banned.h"

void writer_assert(const struct index *x)
{
	/* two threads that write or checkpoint at once can corrupt the WAL (fixed in SQLite 3.51.3) */
	assert(pthread_equal(x->owner, pthread_self()));
}

void index_own_writer(struct index *x)
{
	x->owner = pthread_self();
}

int writer_begin(struct index *x)
{
	writer_assert(x);
	memo_reset(x);
	return sql_run_id(x->writer, ST_BEGIN);
}

int writer_end(struct index *x, int r)
{
	memo_reset(x);
	if (r == 0)
		r = sql_run_id(x->writer, ST_COMMIT);
	if (r < 0 && x->writer && !sqlite3_get_autocommit(x->writer->db))
		(void)sql_run_id(x->writer, ST_ROLLBACK); /* the error that counts is the first */
	return r;
}

static int apply_items(struct index *x, const struct index_batch *b)
{
	for (size_t i = 0; b && i < b->count; i++) {
		int r = apply_fact(x, b->items[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int wipe_rights(struct index *x)
{
	return sql_exec(x->writer, "DELETE FROM grants; DELETE FROM publics; DELETE FROM shown;");
}

static int apply_all(struct index *x, const struct index_batch *b)
{
	int r = writer_begin(x);

	if (r < 0)
		return r;
	if (atomic_load(&x->is_distrusted))
		r = wipe_rights(x);
	if (r == 0 && x->have_left)
		r = sql_run_id(x->writer, ST_CLEAR_LEAVING);
	if (r == 0 && x->has_gaps && !x->knows_gaps)
		r = setting_put(x->writer, "has_gaps", 1);
	if (r == 0)
		r = apply_items(x, x->owed);
	if (r == 0)
		r = apply_items(x, x->failed);
	if (r == 0)
		r = apply_items(x, b);
	return writer_end(x, r);
}

static void settle_and_free(struct index *x, struct index_batch *b, bool is_lost)
{
	if (!b)
		return;
	learn_settle(x, b, is_lost);
	batch_free(b);
}

/* Of what is owed, that other repos have taken names: what was known of these stays unknown, whatever else is given up. */
static struct index_batch *keep_forget_alls(struct index_batch *owed)
{
	struct index_batch *kept = batch_new();
	size_t left = 0;

	for (size_t i = 0; i < owed->count; i++) {
		if (owed->items[i]->fact.kind == FACT_FORGET_ALL)
			batch_add(kept, owed->items[i]);
		else
			owed->items[left++] = owed->items[i];
	}
	owed->count = left;
	return kept;
}

/* Too much that cannot be written, rights taken away perhaps among it: from now on no right on disk counts. */
static void distrust(struct index *x)
{
	struct index_batch *kept = keep_forget_alls(x->owed);

	log_error("index", "revoked rights cannot be written: all rights on disk are void until they can",
		  LOG_END);
	atomic_store(&x->is_distrusted, true);
	table_drop_clean(&x->table);
	settle_and_free(x, x->owed, true);
	x->owed = kept->count ? kept : NULL;
	if (!x->owed)
		batch_free(kept);
}

/* Gives a batch up but for the facts that take something away. */
static void give_up(struct index *x, struct index_batch *b)
{
	struct index_batch *lost = batch_new();

	if (!x->owed)
		x->owed = batch_new();
	for (size_t i = 0; i < b->count; i++)
		batch_add(fact_is_kept(&b->items[i]->fact) ? x->owed : lost, b->items[i]);
	b->count = 0;
	batch_free(b);
	if (lost->count)
		x->has_gaps = true;
	settle_and_free(x, lost, true);
	if (x->owed->count > OWED_MAX)
		distrust(x);
}

int index_apply(struct index *x, struct index_batch *b)
{
	uint64_t began_us = clock_mono_us(x->clock);
	int r;

	writer_assert(x);
	if (b->count == 0 && !x->failed && !x->owed) {
		batch_free(b);
		return 0;
	}
	r = apply_all(x, b);
	if (x->metrics)
		metrics_observe_us(x->metrics, METRIC_INDEX_TRANSACTION, 0, 0,
				   clock_mono_us(x->clock) - began_us);
	if (r < 0) {
		if (x->failed)
			give_up(x, x->failed);
		x->failed = b;
		return r;
	}
	atomic_store(&x->is_distrusted, false);
	x->knows_gaps = x->has_gaps;
	x->have_left = false;
	settle_and_free(x, x->owed, false);
	settle_and_free(x, x->failed, false);
	settle_and_free(x, b, false);
	x->owed = x->failed = NULL;
	return 0;
}
