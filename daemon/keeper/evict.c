/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/evict - makes room: the least recently used blobs go.
 *
 * Order     the rows (committed), then the files: a crash between leaves files without a row, which the next start deletes
 *           (index_leaving_each), never a row without its file.
 * Never     takes a blob that is open, unless it was named; takes anything when all that could go is not enough.
 * Threads   the keeper's.
 */
#include "keeper/priv.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

/* A little more than was asked for, so that not every fill of a full store has to wait for an eviction. */
#define SPARE_BYTES_MAX (UINT64_C(64) << 20)
#define SPARE_SHARE 100
/* Victims in one transaction, and how often we look again when files gave less than their rows promised. */
#define VICTIMS_MAX 4096
#define ROUNDS_MAX 64
/* What a blob takes on disk: whole blocks, and one for its sidecar. */
#define BLOCK UINT64_C(4096)

struct victims {
	struct house *house;
	struct digest *sha256; /* owned */
	uint64_t *sizes;       /* owned */
	size_t count, room;
	uint64_t bytes, wanted; /* on disk */
	size_t gone_count;      /* whose files are gone */
	bool count_only;        /* is there enough at all? */
};

static uint64_t on_disk(uint64_t size)
{
	return (size / BLOCK + 2) * BLOCK;
}

static void add_victim(struct victims *v, const struct digest *sha256, uint64_t size)
{
	if (v->count == v->room) {
		v->room = v->room ? 2 * v->room : 64;
		v->sha256 = xrealloc(v->sha256, v->room * sizeof(*v->sha256));
		v->sizes = xrealloc(v->sizes, v->room * sizeof(*v->sizes));
	}
	v->sha256[v->count] = *sha256;
	v->sizes[v->count++] = size;
}

static int look_at_blob(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at)
{
	struct victims *v = ctx;

	if (store_blob_is_open(v->house->store, sha256))
		return 0;
	v->bytes += on_disk(size);
	if (!v->count_only)
		add_victim(v, sha256, size);
	return v->bytes >= v->wanted || v->count >= VICTIMS_MAX;
}

static void victims_done(struct victims *v)
{
	free(v->sha256);
	free(v->sizes);
}

static bool is_enough(struct house *h, uint64_t bytes)
{
	struct victims v = { .house = h, .wanted = bytes, .count_only = true };

	return index_oldest_blobs(h->index, look_at_blob, &v) == 0 && v.bytes >= bytes;
}

static int remove_rows(struct house *h, const struct victims *v)
{
	int r;

	for (size_t i = 0; i < v->count; i++)
		index_learn(h->index, &(struct fact){ .kind = FACT_BLOB_GONE, .sha256 = v->sha256[i] });
	r = commit_facts(h);
	/* on a full disk the rows can only be written once files have gone */
	return r == -ENOSPC ? 0 : r;
}

static void remove_files(struct house *h, struct victims *v)
{
	for (size_t i = 0; i < v->count; i++) {
		int r = store_remove_blob(h->store, &v->sha256[i]);

		house_is_alive(h);
		if (r < 0) {
			log_warning("keeper", "an evicted file could not be deleted", LOG_ERR("error", r),
				    LOG_END);
			h->has_left_behind = true;
			continue;
		}
		v->gone_count++;
		metrics_add(h->metrics, METRIC_STORAGE_EVICTED_BYTES, 0, 0, 0, v->sizes[i]);
		metrics_inc(h->metrics, METRIC_STORAGE_EVICTED_OBJECTS);
	}
	files_are_gone(h);
}

static uint64_t used_bytes(struct house *h)
{
	struct store_usage usage;

	store_usage(h->store, &usage);
	return usage.used;
}

/* One transaction's worth. *ret_freed: what the store says is free now. */
static int evict_round(struct house *h, uint64_t wanted, uint64_t *ret_freed)
{
	struct victims v = { .house = h, .wanted = wanted };
	uint64_t before = used_bytes(h), after;
	int r = index_oldest_blobs(h->index, look_at_blob, &v);

	if (r == 0 && v.count == 0)
		r = -ENOSPC;
	if (r == 0)
		r = remove_rows(h, &v);
	if (r == 0)
		remove_files(h, &v);
	victims_done(&v);
	after = used_bytes(h);
	*ret_freed = before > after ? before - after : 0;
	return r;
}

static uint64_t with_spare(struct house *h, uint64_t bytes)
{
	struct store_usage usage;
	uint64_t spare;

	store_usage(h->store, &usage);
	spare = usage.limit ? usage.limit / SPARE_SHARE : SPARE_BYTES_MAX;
	if (spare > SPARE_BYTES_MAX)
		spare = SPARE_BYTES_MAX;
	return bytes > UINT64_MAX - spare ? bytes : bytes + spare;
}

static int evict_rounds(struct house *h, uint64_t bytes)
{
	uint64_t wanted = with_spare(h, bytes), freed = 0;

	for (int i = 0; i < ROUNDS_MAX && freed < bytes; i++) {
		uint64_t now;
		int r = evict_round(h, wanted - freed, &now);

		freed += now;
		if (r < 0 && freed < bytes)
			return r;
	}
	log_info("keeper", "made room", LOG_U64("bytes", freed), LOG_U64("asked", bytes), LOG_END);
	return freed >= bytes ? 0 : -ENOSPC;
}

int evict(struct house *h, uint64_t bytes)
{
	if (bytes == 0)
		return 0;
	/* nobody is helped by an empty store that is still too small */
	if (!is_enough(h, bytes))
		return -ENOSPC;
	return evict_rounds(h, bytes);
}

void evict_for_slack(struct house *h)
{
	/* if not enough can go, documents and journals say themselves that there is no room */
	(void)evict(h, store_missing_slack(h->store, journal_wants(&h->journal)));
}

void evict_some(struct house *h, uint64_t bytes)
{
	int r = bytes ? evict_rounds(h, bytes) : 0;

	if (r < 0)
		log_warning("keeper", "the store holds more than its limit and not enough can be evicted",
			    LOG_U64("over", bytes), LOG_ERR("error", r), LOG_END);
}

int evict_these(struct house *h, const struct named_blob *blobs, size_t count)
{
	struct victims v = { .house = h };
	int r;

	for (size_t i = 0; i < count; i++)
		add_victim(&v, &blobs[i].sha256, blobs[i].size);
	r = remove_rows(h, &v);
	if (r == 0)
		remove_files(h, &v);
	if (r == 0 && v.gone_count < count)
		r = -EIO;
	victims_done(&v);
	return r;
}
