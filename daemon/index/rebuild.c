/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/rebuild - the database made anew from facts that somebody reads from the store's files.
 *
 * Blobs come first: a document is taken only if its body is stored. At the end every tree is counted: one that has fewer
 * entries than its line promised (a journal with a broken line) is not taken as known.
 * A rebuild that was cut short leaves is_complete unset: the next start begins again.
 *
 * Threads   the writer's. Lookups may run meanwhile: they know less, nothing wrong.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/banned.h"

/* Facts a transaction: large enough that its syncs do not count, small enough for memory. */
#define FACTS_PER_TRANSACTION 20000

/* Digests come in no order: with the small cache of every day each row would read and write a page. */
static void set_cache(struct index *x, bool is_large)
{
	(void)sql_exec(x->writer, is_large ? "PRAGMA cache_size = -131072" : "PRAGMA cache_size = -8192");
}

int index_rebuild_begin(struct index *x)
{
	int r;

	writer_assert(x);
	if (atomic_load(&x->is_damaged)) {
		r = index_replace_file(x);
		if (r < 0)
			return r;
	}
	r = writer_begin(x);
	if (r < 0)
		return r;
	r = schema_wipe(x->writer);
	if (r == 0)
		r = setting_put(x->writer, "is_complete", 0);
	r = writer_end(x, r);
	if (r < 0)
		return r;
	table_drop_clean(&x->table);
	set_cache(x, true);
	x->rebuild_added = 0;
	return writer_begin(x);
}

static int body_is_stored(struct index *x, const struct doc *d)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, ST_FIND_BLOB, &st);

	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, d->body.bytes, SHA256_BYTES);
	r = sql_row(x->writer, st);
	sql_stop(st);
	return r;
}

/* The fact is borrowed: no copy is made for the millions of them. */
static int add(struct index *x, const struct fact *f)
{
	struct item item = { .fact = *f, .same = SAME_NO };

	if (f->kind == FACT_DOC) {
		int r = body_is_stored(x, f->doc);

		if (r <= 0)
			return r;
	}
	if (f->kind == FACT_BLOB && f->at == 0)
		item.fact.at = clock_wall_s(x->clock);
	return apply_fact(x, &item);
}

int index_rebuild_add(struct index *x, const struct fact *f)
{
	int r;

	writer_assert(x);
	r = add(x, f);
	if (r < 0 || ++x->rebuild_added % FACTS_PER_TRANSACTION != 0)
		return r;
	r = writer_end(x, 0);
	return r < 0 ? r : writer_begin(x);
}

int index_rebuild_end(struct index *x)
{
	int r;

	writer_assert(x);
	if (!x->writer || sqlite3_get_autocommit(x->writer->db))
		return -EIO; /* an add failed so badly that the transaction is gone */
	r = sql_run_id(x->writer, ST_DISTRUST_SHORT_TREES);
	if (r == 0)
		r = setting_put(x->writer, "is_complete", 1);
	if (r == 0)
		r = setting_put(x->writer, "has_gaps", 0);
	r = writer_end(x, r);
	if (r == 0)
		x->has_gaps = x->knows_gaps = false;
	set_cache(x, false);
	/* "not there" was true before the rebuild only */
	table_drop_clean(&x->table);
	return r;
}

void index_rebuild_cancel(struct index *x)
{
	writer_assert(x);
	(void)writer_end(x, -ECANCELED);
	set_cache(x, false);
	table_drop_clean(&x->table);
}
