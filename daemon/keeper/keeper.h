/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper - the thread that makes things durable and keeps the house in order.
 *
 * Owns      the only writing side of the index, all fsyncs, eviction, checkpoints of parts, timers,
 *           start-up recovery.
 * Never     makes a hit wait: nothing on the road of a hit calls it.
 * Threads   one of its own; calls from any thread queue work. Callbacks run on the keeper thread.
 * Order     verify -> fsync file -> sidecar -> rename -> fsync folders -> journal + fsync -> SQLite (FULL)
 *           -> done.
 *           A turn of the thread: take the index's batch, flush the store's pending bytes, finish parts,
 *           journal, transaction.
 *           Group commit: everything queued within 20 ms shares one journal sync and one transaction.
 * Promises  (1) done(0) means durable: the file has its name, whatever happens to the index.
 *           (2) an open blob is never evicted to make room, and eviction takes the least recently used first; nothing is
 *           evicted when all that could go is not enough (-ENOSPC).
 *           (3) the queue is bounded by its users: flights, plus the index's own queue.
 */
#pragma once
#include "index/index.h"
#include "store/store.h"

struct keeper;

struct keeper_opts {
	struct store *store;
	struct index *index;
	struct metrics *metrics;
	const struct clock *clock;
};
/*
 * Before any other thread: recovers the store (adopting complete parts), rebuilds the index from the
 * store's files when index_needs_rebuild, compares both when their numbers differ, and evicts down to the
 * limit.
 */
int keeper_recover(const struct keeper_opts *opts, bool index_needs_rebuild);
int keeper_new(const struct keeper_opts *opts, struct keeper **ret_keeper);
/* Writes what is queued, then ends the thread. */
void keeper_free(struct keeper *k);

void keeper_finish_part(struct keeper *k, struct part *part, const struct content_id *id,
			const struct blob_meta *meta, void (*done)(void *ctx, int error), void *ctx);
void keeper_make_room(struct keeper *k, uint64_t bytes, void (*done)(void *ctx, int error), void *ctx);
void keeper_checkpoint_part(struct keeper *k, struct part *part);
/* A blob was found bad: quarantined, forgotten, counted. */
void keeper_report_corrupt(struct keeper *k, const struct digest *sha256);
/* Returns when everything learned and queued before the call is durable. Not from the keeper thread. */
void keeper_sync(struct keeper *k);
/* The same; and the times of last use are on disk as well. */
void keeper_sync_uses(struct keeper *k);
/*
 * These blobs go now, also open ones: whoever reads one keeps it until he is done. Returns when they are gone: 0; -EIO some files
 * could not be deleted; other errno. Not from the keeper thread; a few hundred at a time, since others wait meanwhile.
 */
struct named_blob {
	struct digest sha256;
	uint64_t size;
};
int keeper_evict_blobs(struct keeper *k, const struct named_blob *blobs, size_t count);
/* Is the thread alive and not stuck (its last turn at most 30 s ago)? */
bool keeper_is_alive(struct keeper *k);
