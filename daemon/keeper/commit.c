/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/commit - one turn: everything that is queued becomes durable together.
 *
 *   facts are taken      first, so that every document among them has its body among the pending bytes
 *   pending bytes        written, synced, named                 -> BLOB facts
 *   finished parts       fsync, sidecar, rename, fsync folders  -> BLOB facts
 *   journals             one append and one sync for each repo
 *   index                one transaction, synchronous=FULL
 *   callbacks            only now
 *
 * A crash between two steps leaves files that the next start adopts, or lines that a rebuild reads; never a row without
 * its bytes.
 * The files are the truth: a part that has its name is "done" even if the index cannot be written just now.
 */
#include "keeper/priv.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

void house_init(struct house *h, const struct keeper_opts *opts)
{
	*h = (struct house){
		.store = opts->store,
		.index = opts->index,
		.metrics = opts->metrics,
		.clock = opts->clock,
	};
	journal_init(&h->journal, opts);
	house_is_alive(h);
}

void house_done(struct house *h)
{
	journal_done(&h->journal);
}

void files_are_gone(struct house *h)
{
	if (!h->has_left_behind) /* else the next start tries again */
		index_leaving_done(h->index);
}

/* --- facts --- */

struct group_commit {
	struct house *house;
	struct index_batch *batch;
};

static void learn_blob(struct group_commit *g, const struct blob_meta *meta)
{
	index_batch_learn(g->house->index, g->batch,
			  &(struct fact){ .kind = FACT_BLOB,
					  .sha256 = meta->sha256,
					  .git = meta->git,
					  .size = meta->size,
					  .at = clock_wall_s(g->house->clock) });
}

static void written(void *ctx, const struct blob_meta *meta)
{
	struct group_commit *g = ctx;

	house_is_alive(g->house);
	learn_blob(g, meta);
}

/* Some pending bytes could not be written and are gone: the documents that stand for them as well. */
static void drop_bodiless(struct group_commit *g)
{
	for (size_t i = 0; i < index_batch_count(g->batch); i++) {
		const struct fact *f = index_batch_fact(g->batch, i);
		struct content_id body = { .kind = CONTENT_LFS };
		struct digest sha256;

		if (f->kind != FACT_DOC)
			continue;
		body.sha256 = f->doc->body;
		body.size = f->doc->body_size;
		if (index_find_blob(g->house->index, &body, &sha256) < 0)
			index_batch_drop(g->batch, i);
	}
}

static void flush_pending(struct group_commit *g)
{
	int r = store_flush_pending(g->house->store, written, g);

	if (r == 0)
		return;
	log_warning("keeper", "documents could not be written and are fetched again when they are asked for",
		    LOG_ERR("error", r), LOG_END);
	drop_bodiless(g);
}

static int apply(struct house *h, struct index_batch *b)
{
	int r = index_apply(h->index, b);

	house_is_alive(h);
	if (r < 0 && !h->is_index_failing)
		log_error("keeper",
			  "the index cannot be written: what is learned now is kept in memory and in the "
			  "journals",
			  LOG_ERR("error", r), LOG_END);
	if (r == 0 && h->is_index_failing)
		log_info("keeper", "the index can be written again", LOG_END);
	h->is_index_failing = r < 0;
	return r;
}

static bool begin(struct group_commit *g, struct house *h)
{
	g->house = h;
	g->batch = index_take_batch(h->index, BATCH_FACTS_MAX);
	flush_pending(g);
	return index_batch_count(g->batch) >= BATCH_FACTS_MAX;
}

static int end(struct group_commit *g)
{
	journal_write(&g->house->journal, g->batch);
	return apply(g->house, g->batch);
}

int commit_facts(struct house *h)
{
	struct group_commit g;
	bool has_more;
	int r;

	do {
		has_more = begin(&g, h);
		r = end(&g);
	} while (has_more);
	return r;
}

/* --- jobs --- */

static void job_done(struct job *job)
{
	list_remove(&job->node);
	if (job->done)
		job->done(job->ctx, job->result);
	(void)part_unref(job->part);
	free(job);
}

/* A blob must be gone from the index and from its name before the same content is finished again in this turn. */
static void quarantine(struct house *h, struct list *jobs)
{
	bool has_any = false;

	LIST_EACH(it, jobs) {
		struct job *job = LIST_ENTRY(it, struct job, node);

		if (job->kind != JOB_CORRUPT)
			continue;
		index_learn(h->index, &(struct fact){ .kind = FACT_BLOB_GONE, .sha256 = job->sha256 });
		has_any = true;
	}
	if (!has_any)
		return;
	(void)commit_facts(h); /* said there; the bad file must go whatever the index says */
	LIST_EACH(it, jobs) {
		struct job *job = LIST_ENTRY(it, struct job, node);

		if (job->kind != JOB_CORRUPT)
			continue;
		job->result = store_quarantine_blob(h->store, &job->sha256);
		if (job->result < 0) {
			log_error("keeper", "a bad blob could not be put aside",
				  LOG_ERR("error", job->result), LOG_END);
			h->has_left_behind = true;
		}
		job_done(job);
	}
	files_are_gone(h);
}

static void finish_part(struct group_commit *g, struct job *job)
{
	job->result = store_finish_part(g->house->store, job->part, &job->meta);
	house_is_alive(g->house);
	if (job->result == -EEXIST)
		job->result = 0; /* the same bytes were there */
	if (job->result == 0)
		learn_blob(g, &job->meta);
	else
		log_error("keeper", "a complete file could not be stored", LOG_U64("bytes", job->meta.size),
			  LOG_ERR("error", job->result), LOG_END);
}

/* After the commit: what was waited for first, then what may take long. */
static void finish_jobs(struct house *h, struct list *jobs, bool is_all_taken)
{
	LIST_EACH(it, jobs) {
		struct job *job = LIST_ENTRY(it, struct job, node);

		if (job->kind == JOB_FINISH || (job->kind == JOB_SYNC && is_all_taken))
			job_done(job);
	}
	LIST_EACH(it, jobs) {
		struct job *job = LIST_ENTRY(it, struct job, node);

		house_is_alive(h);
		if (job->kind == JOB_ROOM)
			job->result = evict(h, job->bytes);
		else if (job->kind == JOB_CHECKPOINT)
			job->result = part_checkpoint(
				job->part); /* a lost checkpoint costs bytes fetched twice, no more */
		else if (job->kind == JOB_THESE)
			job->result = evict_these(h, job->blobs, job->blob_count);
		else if (job->kind == JOB_USES && is_all_taken)
			job->result = index_flush_uses(h->index);
		else
			continue;
		job_done(job);
	}
}

bool commit_turn(struct house *h, struct list *jobs)
{
	struct group_commit g;
	bool has_more;

	house_is_alive(h);
	quarantine(h, jobs);
	has_more = begin(&g, h);
	LIST_EACH(it, jobs) {
		struct job *job = LIST_ENTRY(it, struct job, node);

		if (job->kind == JOB_FINISH)
			finish_part(&g, job);
	}
	(void)end(&g); /* said there */
	finish_jobs(h, jobs, !has_more);
	evict_for_slack(h);
	journal_settle(&h->journal);
	return has_more;
}
