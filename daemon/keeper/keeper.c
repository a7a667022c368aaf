/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/keeper - the thread: waits for work, gives it time to gather, takes turns, looks at the clock.
 *
 * Owns      the queue of jobs.
 * Threads   the doors from any; all else is the keeper's own.
 */
#include "keeper/priv.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

/* Two turns begin at least this far apart: what comes meanwhile shares one journal sync and one transaction. */
#define GATHER_MS 20
/* How long the thread sleeps at most, so that timers run and it can be seen to live. */
#define SLEEP_MS 5000
#define ALIVE_MS 30000
#define USES_EVERY_MS 30000
#define WRITABLE_EVERY_MS 60000
#define MAINTAIN_EVERY_MS 300000
#define HEAL_EVERY_MS 60000
/* Without work for so long, the thread may do what takes longer. */
#define IDLE_MS 2000
/* The place of "read" among the label values of the metric. */
#define FOUND_BY_READ 1

/* --- waiting --- */

static bool has_work_locked(struct keeper *k)
{
	return !list_is_empty(&k->jobs) || k->has_facts;
}

static void wait_locked(struct keeper *k, uint64_t ms)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&k->wake, &k->lock.mutex, &until);
}

/* Returns true when there is work; then it has had GATHER_MS since the last turn began to gather. */
static bool wait_for_work(struct keeper *k, struct list *ret_jobs)
{
	SCOPED_LOCK(&k->lock);
	uint64_t now;

	if (!has_work_locked(k) && !k->is_stopping)
		wait_locked(k, SLEEP_MS);
	now = clock_mono_ms(&clock_system);
	while (!k->is_stopping && has_work_locked(k) && now - k->began_mono_ms < GATHER_MS) {
		wait_locked(k, GATHER_MS - (now - k->began_mono_ms));
		now = clock_mono_ms(&clock_system);
	}
	if (!has_work_locked(k))
		return false;
	k->has_facts = false;
	k->began_mono_ms = now;
	list_move_all(ret_jobs, &k->jobs);
	return true;
}

/* --- timers --- */

static bool is_due(struct keeper *k, uint64_t *last, uint64_t every_ms)
{
	uint64_t now = clock_mono_ms(k->house.clock);

	if (now - *last < every_ms)
		return false;
	*last = now;
	return true;
}

static void check_store(struct keeper *k)
{
	int r = store_check_writable(k->house.store);

	if (r < 0 && !k->is_store_failing)
		log_error("keeper", "the store cannot be written: hits go on, nothing new is kept",
			  LOG_ERR("error", r), LOG_END);
	if (r == 0 && k->is_store_failing)
		log_info("keeper", "the store can be written again", LOG_END);
	k->is_store_failing = r < 0;
}

static void heal_index(struct keeper *k)
{
	int r;

	log_error("keeper", "the index is damaged: it is rebuilt from the store's files now", LOG_END);
	r = rebuild_index(&k->house);
	k->needs_rebuild = r < 0;
	if (r < 0)
		log_error("keeper", "the index could not be rebuilt and is tried again in a minute",
			  LOG_ERR("error", r), LOG_END);
}

static void maintain(struct keeper *k)
{
	int r = index_maintain(k->house.index);

	if (r < 0)
		log_warning("keeper", "the index could not be looked after", LOG_ERR("error", r), LOG_END);
}

static void run_timers(struct keeper *k)
{
	struct house *h = &k->house;

	if (is_due(k, &k->uses_mono_ms, USES_EVERY_MS))
		(void)index_flush_uses(
			h->index); /* lost times of use make the order of eviction a little worse */
	if (is_due(k, &k->writable_mono_ms, WRITABLE_EVERY_MS))
		check_store(k);
	if (clock_mono_ms(h->clock) - k->busy_mono_ms >= IDLE_MS &&
	    is_due(k, &k->maintain_mono_ms, MAINTAIN_EVERY_MS))
		maintain(k);
	if (index_has_gaps(h->index) && !h->is_index_failing && is_due(k, &k->gaps_mono_ms, HEAL_EVERY_MS))
		(void)compare_index(h); /* tried again as long as there are gaps */
	k->needs_rebuild |= index_is_damaged(h->index);
	if (k->needs_rebuild && is_due(k, &k->heal_mono_ms, HEAL_EVERY_MS))
		heal_index(k);
}

/* --- the thread --- */

static bool is_finished(struct keeper *k)
{
	SCOPED_LOCK(&k->lock);

	return k->is_stopping && !has_work_locked(k);
}

/* What a turn left comes before what was queued meanwhile. */
static void put_back(struct keeper *k, struct list *jobs, bool has_more)
{
	SCOPED_LOCK(&k->lock);

	list_move_all(jobs, &k->jobs);
	list_move_all(&k->jobs, jobs);
	k->has_facts |= has_more;
}

static void *run(void *ctx)
{
	struct keeper *k = ctx;
	struct list jobs;

	list_init(&jobs);
	(void)pthread_setname_np(pthread_self(), "keeper");
	index_own_writer(k->house.index);
	while (!is_finished(k)) {
		bool has_more = false;

		house_is_alive(&k->house);
		if (wait_for_work(k, &jobs)) {
			k->busy_mono_ms = clock_mono_ms(k->house.clock);
			has_more = commit_turn(&k->house, &jobs);
			put_back(k, &jobs, has_more);
		}
		run_timers(k);
	}
	/* with nothing queued: pending bytes, and a batch that failed and may work now */
	(void)commit_facts(&k->house);
	(void)index_flush_uses(k->house.index); /* as above */
	return NULL;
}

/* --- the door --- */

static void on_facts(void *ctx)
{
	struct keeper *k = ctx;
	SCOPED_LOCK(&k->lock);

	k->has_facts = true;
	(void)pthread_cond_signal(&k->wake);
}

static void init_conditions(struct keeper *k)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&k->wake, &attr);
	(void)pthread_cond_init(&k->synced, &attr);
	(void)pthread_condattr_destroy(&attr);
}

static void keeper_destroy(struct keeper *k)
{
	index_on_queue(k->house.index, NULL, NULL);
	index_own_writer(k->house.index);
	(void)pthread_cond_destroy(&k->wake);
	(void)pthread_cond_destroy(&k->synced);
	lock_done(&k->lock);
	house_done(&k->house);
	free(k);
}

int keeper_new(const struct keeper_opts *opts, struct keeper **ret_keeper)
{
	struct keeper *k = xcalloc(1, sizeof(*k));
	uint64_t now = clock_mono_ms(opts->clock);
	int r;

	house_init(&k->house, opts);
	lock_init(&k->lock, LOCK_KEEPER);
	init_conditions(k);
	list_init(&k->jobs);
	k->has_facts = true; /* what was learned before there was somebody to tell */
	k->uses_mono_ms = k->writable_mono_ms = k->maintain_mono_ms = k->busy_mono_ms = now;
	k->heal_mono_ms = k->gaps_mono_ms = now - HEAL_EVERY_MS;
	index_on_queue(k->house.index, on_facts, k);
	r = -pthread_create(&k->thread, NULL, run, k);
	if (r < 0) {
		keeper_destroy(k);
		return r;
	}
	*ret_keeper = k;
	return 0;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	lock_take(&k->lock);
	k->is_stopping = true;
	(void)pthread_cond_signal(&k->wake);
	lock_drop(&k->lock);
	(void)pthread_join(k->thread, NULL);
	keeper_destroy(k);
}

static void queue(struct keeper *k, struct job *job)
{
	SCOPED_LOCK(&k->lock);

	list_add_tail(&k->jobs, &job->node);
	(void)pthread_cond_signal(&k->wake);
}

static struct job *job_new(enum job_kind kind)
{
	struct job *job = xcalloc(1, sizeof(*job));

	list_init(&job->node);
	job->kind = kind;
	return job;
}

void keeper_finish_part(struct keeper *k, struct part *part, const struct content_id *id,
			const struct blob_meta *meta, void (*done)(void *ctx, int error), void *ctx)
{
	struct job *job = job_new(JOB_FINISH);

	job->part = part_ref(part);
	job->id = *id;
	job->meta = *meta;
	job->done = done;
	job->ctx = ctx;
	queue(k, job);
}

void keeper_make_room(struct keeper *k, uint64_t bytes, void (*done)(void *ctx, int error), void *ctx)
{
	struct job *job = job_new(JOB_ROOM);

	job->bytes = bytes;
	job->done = done;
	job->ctx = ctx;
	queue(k, job);
}

/* Queues a job unless one of its kind waits for the same part or blob: so the queue is bounded however often somebody asks. */
static bool queue_once(struct keeper *k, struct job *job)
{
	SCOPED_LOCK(&k->lock);

	LIST_EACH(it, &k->jobs) {
		const struct job *other = LIST_ENTRY(it, struct job, node);

		if (other->kind == job->kind && other->part == job->part &&
		    digest_eq(&other->sha256, &job->sha256))
			return false;
	}
	list_add_tail(&k->jobs, &job->node);
	(void)pthread_cond_signal(&k->wake);
	return true;
}

void keeper_checkpoint_part(struct keeper *k, struct part *part)
{
	struct job *job = job_new(JOB_CHECKPOINT);

	job->part = part_ref(part);
	if (!queue_once(k, job)) {
		(void)part_unref(part);
		free(job);
	}
}

void keeper_report_corrupt(struct keeper *k, const struct digest *sha256)
{
	char hex[2 * SHA256_BYTES + 1];
	struct job *job = job_new(JOB_CORRUPT);

	/* at once, so that no further hit gets it */
	index_learn(k->house.index, &(struct fact){ .kind = FACT_BLOB_GONE, .sha256 = *sha256 });
	job->sha256 = *sha256;
	if (!queue_once(k, job)) {
		free(job);
		return;
	}
	format_hex(sha256->bytes, SHA256_BYTES, hex);
	log_error("keeper", "a stored file is not what it was: put aside, fetched again when it is asked for",
		  LOG_TEXT("sha256", hex), LOG_END);
	metrics_add(k->house.metrics, METRIC_STORAGE_CORRUPT, FOUND_BY_READ, 0, 0, 1);
}

struct sync {
	struct keeper *keeper;
	bool is_done; /* guarded by the keeper's lock */
	int error;
};

static void on_synced(void *ctx, int error)
{
	struct sync *s = ctx;
	SCOPED_LOCK(&s->keeper->lock);

	s->is_done = true;
	s->error = error;
	(void)pthread_cond_broadcast(&s->keeper->synced);
}

/* Queues the job and waits until it is done. */
static int run_job(struct keeper *k, struct job *job)
{
	struct sync s = { .keeper = k };

	assert(!pthread_equal(pthread_self(), k->thread));
	job->done = on_synced;
	job->ctx = &s;
	queue(k, job);
	lock_take(&k->lock);
	while (!s.is_done)
		(void)pthread_cond_wait(&k->synced, &k->lock.mutex);
	lock_drop(&k->lock);
	return s.error;
}

void keeper_sync(struct keeper *k)
{
	(void)run_job(k, job_new(JOB_SYNC));
}

void keeper_sync_uses(struct keeper *k)
{
	(void)run_job(k, job_new(JOB_USES)); /* else the times are a little old */
}

int keeper_evict_blobs(struct keeper *k, const struct named_blob *blobs, size_t count)
{
	struct job *job = job_new(JOB_THESE);

	job->blobs = blobs;
	job->blob_count = count;
	return run_job(k, job);
}

bool keeper_is_alive(struct keeper *k)
{
	return clock_mono_ms(k->house.clock) - atomic_load(&k->house.alive_mono_ms) <= ALIVE_MS;
}
