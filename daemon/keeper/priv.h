/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/priv - what the files of this room share.
 *
 *   keeper.c   the thread, its queue, its timers, the door     commit.c   a turn: group commit
 *   journal.c  facts into the journals of their repos          evict.c    room, oldest first
 *   recover.c  start-up and the index made anew                remake.c   a journal without what counts no more
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "common/clock.h"
#include "common/list.h"
#include "common/lock.h"
#include "keeper/keeper.h"
#include "metrics/metrics.h"

/* Facts in one transaction: some 100 ms of work, so that a fill that waits for its commit does not wait long. */
#define BATCH_FACTS_MAX 8192

enum job_kind { JOB_FINISH, JOB_ROOM, JOB_CHECKPOINT, JOB_CORRUPT, JOB_SYNC, JOB_THESE, JOB_USES };

struct job {
	struct list node;
	enum job_kind kind;
	struct part *part;              /* FINISH CHECKPOINT; a reference */
	struct content_id id;           /* FINISH */
	struct blob_meta meta;          /* FINISH */
	struct digest sha256;           /* CORRUPT */
	uint64_t bytes;                 /* ROOM */
	const struct named_blob *blobs; /* THESE; borrowed from who waits */
	size_t blob_count;
	int result;
	void (*done)(void *ctx, int error); /* may be NULL */
	void *ctx;
};

/* The journals and what they could not take. Belongs to the keeper thread. */
struct journal {
	struct store *store; /* borrowed, as these */
	struct index *index;
	const struct clock *clock;
	struct list owed; /* of struct owed_line: what must be written and is not on disk yet, oldest first */
	size_t owed_count;
	struct map *made;      /* repo -> bytes of a long journal when it was made anew last */
	struct map *to_make;   /* repo -> bytes: there was no room to make it anew */
	unsigned pause;        /* turns until that is tried again */
	uint64_t absent_lines; /* written in this life */
	bool is_failing;       /* for one line in the log */
	bool is_short;         /* lines wait for room */
};
void journal_init(struct journal *j, const struct keeper_opts *opts);
void journal_done(struct journal *j);
/* Appends the batch's facts, one sync a repo. Facts that could not be written are marked; the batch is applied all the same. */
void journal_write(struct journal *j, struct index_batch *b);
/* The room that is lacking; 0: none. */
uint64_t journal_wants(const struct journal *j);
/* After room was made: what waited for it is written, or given up. */
void journal_settle(struct journal *j);
/* The journal with these lines at its end, and without those that do not count any more. -errno: it is as it was. */
int journal_remake(const struct journal *j, struct str repo, const struct str *more, size_t count);

/* What works on store and index: the keeper thread, and start-up before it. */
struct house {
	struct store *store; /* borrowed, as all */
	struct index *index;
	struct metrics *metrics;
	const struct clock *clock;
	struct journal journal;
	atomic_uint_least64_t alive_mono_ms;
	bool has_left_behind;  /* a file whose row is gone could not be deleted */
	bool is_index_failing; /* for one line in the log */
};
void house_init(struct house *h, const struct keeper_opts *opts);
void house_done(struct house *h);
/* After the files of blobs that are gone from the index were deleted. */
void files_are_gone(struct house *h);
static inline void house_is_alive(struct house *h)
{
	atomic_store(&h->alive_mono_ms, clock_mono_ms(h->clock));
}

struct keeper {
	struct house house;
	pthread_t thread;
	uint64_t began_mono_ms; /* the last turn */
	uint64_t uses_mono_ms, writable_mono_ms, maintain_mono_ms, heal_mono_ms, gaps_mono_ms,
		busy_mono_ms; /* when last done */
	bool needs_rebuild;
	bool is_store_failing; /* for one line in the log */

	struct lock lock; /* rank KEEPER; guards all below */
	pthread_cond_t wake, synced;
	struct list jobs; /* of struct job, oldest first */
	bool has_facts;   /* the index's queue is not empty */
	bool is_stopping;
};

/* --- commit.c --- */

/* One turn over these jobs (which are consumed, but for syncs that must wait for more: those are left). Returns true if
 * the index's queue holds more. */
bool commit_turn(struct house *h, struct list *jobs);
/* All that is queued in the index now. Returns the last error of the index. */
int commit_facts(struct house *h);

/* --- evict.c --- */

/* Frees at least `bytes`: 0, -ENOSPC nothing was evicted, for it would not have been enough; other errno. */
int evict(struct house *h, uint64_t bytes);
/* A full store goes on writing down what it learns: the room for that is free again after each turn. */
void evict_for_slack(struct house *h);
/* As much of it as can be. */
void evict_some(struct house *h, uint64_t bytes);

/* These, open or not. -EIO: some files could not be deleted (the next start does it). */
int evict_these(struct house *h, const struct named_blob *blobs, size_t count);

/* --- recover.c --- */

int rebuild_index(struct house *h);
/* Every stored blob gets its row, and every row without a blob goes. */
int compare_index(struct house *h);
