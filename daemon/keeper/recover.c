/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/recover - start-up: store and index agree again, whatever the last run ended in the middle of.
 *
 *   store_recover()         parts, temporary files, counted bytes; complete parts become blobs
 *   index lost              rebuilt from sidecars and journals
 *   blobs without a row     whose eviction was cut short go
 *   numbers that differ     (rows that could not be written, an older copy of the index) both are compared
 *   over the limit          (it was made smaller) the oldest blobs go
 *
 * Grants are not rebuilt: after the loss of an index everything protected is refused until upstream agrees again.
 */
#include "keeper/priv.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define SCRATCH_BYTES_MAX (UINT64_C(8) << 20)
/* Facts that wait in memory before they are written. */
#define ADOPTED_MAX 10000

/* --- rebuild --- */

struct rebuild {
	struct house *house;
	struct buf scratch;
	uint64_t blobs, facts, broken;
	int error; /* of the index */
};

static struct fact blob_fact(struct house *h, const struct blob_meta *meta)
{
	return (struct fact){ .kind = FACT_BLOB,
			      .sha256 = meta->sha256,
			      .git = meta->git,
			      .size = meta->size,
			      .at = clock_wall_s(h->clock) };
}

static int rebuild_blob(void *ctx, const struct blob_meta *meta)
{
	struct rebuild *b = ctx;
	struct fact f = blob_fact(b->house, meta);

	house_is_alive(b->house);
	b->blobs++;
	return index_rebuild_add(b->house->index, &f);
}

static int rebuild_line(void *ctx, struct str repo, struct str line)
{
	struct rebuild *b = ctx;
	struct doc doc = { 0 };
	struct fact f;

	house_is_alive(b->house);
	if (fact_decode(repo, line, &b->scratch, &f, &doc) < 0) {
		b->broken++; /* or written by a newer program */
		return 0;
	}
	b->facts++;
	return index_rebuild_add(b->house->index, &f);
}

static int rebuild_all(struct rebuild *b)
{
	uint64_t broken = 0;
	int r = store_blob_each(b->house->store, rebuild_blob, b);

	if (r < 0)
		return r;
	r = store_journal_each(b->house->store, rebuild_line, b, &broken);
	b->broken += broken;
	return r;
}

int rebuild_index(struct house *h)
{
	struct rebuild b = { .house = h };
	uint64_t began = clock_mono_ms(h->clock);
	int r = index_rebuild_begin(h->index);

	if (r < 0)
		return r;
	buf_init(&b.scratch, SCRATCH_BYTES_MAX);
	r = rebuild_all(&b);
	buf_done(&b.scratch);
	if (r < 0)
		index_rebuild_cancel(h->index);
	else
		r = index_rebuild_end(h->index);
	if (r < 0)
		return r;
	if (b.blobs || b.facts || b.broken)
		log_info("keeper", "the index was rebuilt from the store's files", LOG_U64("blobs", b.blobs),
			 LOG_U64("facts", b.facts), LOG_U64("broken", b.broken),
			 LOG_U64("ms", clock_mono_ms(h->clock) - began), LOG_END);
	return 0;
}

/* --- what a crash left --- */

struct adoption {
	struct house *house;
	uint64_t adopted, waiting;
};

static int adopt(struct adoption *a, const struct blob_meta *meta)
{
	struct fact f = blob_fact(a->house, meta);

	index_learn(a->house->index, &f);
	a->adopted++;
	if (++a->waiting < ADOPTED_MAX)
		return 0;
	a->waiting = 0;
	return commit_facts(a->house);
}

/* What is known keeps its time of use. */
static int adopt_unless_known(void *ctx, const struct blob_meta *meta)
{
	struct adoption *a = ctx;
	struct content_id id = { .kind = CONTENT_LFS, .sha256 = meta->sha256, .size = meta->size };
	struct digest sha256;

	house_is_alive(a->house);
	return index_find_blob(a->house->index, &id, &sha256) == 0 ? 0 : adopt(a, meta);
}

static int adopt_part(void *ctx, const struct content_id *id, const struct blob_meta *meta)
{
	return adopt_unless_known(ctx, meta);
}

struct dangling {
	struct house *house;
	uint64_t count;
};

static int drop_dangling(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at)
{
	struct dangling *d = ctx;
	struct blob *blob = NULL;

	house_is_alive(d->house);
	if (store_open_blob(d->house->store, sha256, &blob) == -ENODATA) {
		index_learn(d->house->index, &(struct fact){ .kind = FACT_BLOB_GONE, .sha256 = *sha256 });
		d->count++;
	}
	(void)blob_unref(blob);
	return 0;
}

int compare_index(struct house *h)
{
	struct adoption a = { .house = h };
	struct dangling d = { .house = h };
	int r = store_blob_each(h->store, adopt_unless_known, &a);

	if (r == 0)
		r = index_oldest_blobs(h->index, drop_dangling, &d);
	if (r == 0)
		r = commit_facts(h);
	if (r == 0)
		r = index_fill_gaps(h->index);
	if (r == 0)
		log_info("keeper", "the index was compared with the store", LOG_U64("adopted", a.adopted),
			 LOG_U64("dropped", d.count), LOG_END);
	return r;
}

/* Facts were given up, or an older copy of the index was put back (D03): then the numbers differ. */
static bool is_index_off(struct house *h)
{
	struct store_usage usage;
	uint64_t rows;

	store_usage(h->store, &usage);
	return index_has_gaps(h->index) || index_count_blobs(h->index, &rows) < 0 || rows != usage.objects;
}

/* An eviction was cut short between rows and files. What was learned again in between stays. */
static int finish_leaving(void *ctx, const struct digest *sha256)
{
	struct house *h = ctx;
	struct content_id id = { .kind = CONTENT_LFS, .sha256 = *sha256 };
	struct digest stored;

	return index_find_blob(h->index, &id, &stored) == 0 ? 0 : store_remove_blob(h->store, sha256);
}

static uint64_t over_limit(struct house *h)
{
	struct store_usage u;

	store_usage(h->store, &u);
	return u.limit && u.used > u.limit ? u.used - u.limit : 0;
}

static int recover_index(struct house *h, bool needs_rebuild)
{
	int r = needs_rebuild ? rebuild_index(h) : index_leaving_each(h->index, finish_leaving, h);

	if (r < 0)
		return r;
	index_leaving_done(h->index);
	r = commit_facts(h); /* with what store_recover() adopted */
	return r == 0 && is_index_off(h) ? compare_index(h) : r;
}

static int recover(struct house *h, bool index_needs_rebuild)
{
	struct adoption a = { .house = h };
	int r = store_recover(h->store, adopt_part, &a);

	if (r == 0)
		r = recover_index(h, index_needs_rebuild);
	if (r < 0)
		return r;
	if (a.adopted)
		log_info("keeper", "blobs were adopted that the last run did not finish",
			 LOG_U64("blobs", a.adopted), LOG_END);
	evict_some(h, over_limit(h));
	return 0;
}

int keeper_recover(const struct keeper_opts *opts, bool index_needs_rebuild)
{
	struct house h;
	int r;

	house_init(&h, opts);
	index_own_writer(h.index);
	r = recover(&h, index_needs_rebuild);
	house_done(&h);
	return r;
}
