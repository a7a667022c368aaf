/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store - blobs, partial blobs and journals on disk.
 *
 * Owns      everything under storage.path but the index database. Layout:
 *
 *   FORMAT                      "hfcached store 1\n" and a uuid
 *   lock                        flock(LOCK_EX) while a daemon lives
 *   key                         32 random bytes, 0600: the HMAC key of subjects (read by main, used by auth)
 *   blobs/ab/cd/<sha256>        0440, complete, verified, immutable
 *   meta/ab/cd/<sha256>         sidecar: "hfcached meta 1\n" then key=value lines (size, git) and a check
 *                               line
 *   incoming/<s|g>-<hex>.part   bytes of a running or interrupted fill; blocks only where room was reserved
 *   incoming/<s|g>-<hex>.map    which ranges of the part are on disk, and the validator they came with
 *   incoming/alive              rewritten by store_check_writable(): what was named long before it, the index
 *                               knows
 *   journal/ab/<sha256(repo)>   append-only lines, one fact each (see below)
 *   quarantine/<time>-<sha256>  bad files, kept 7 days
 *
 * Never     speaks HTTP, SQLite or JSON; names a file after anything a client sent.
 * Threads   all calls from any thread but fetch, unless said otherwise; a part's writes come from the fetch
 *           thread only.
 * Promises  (1) a file under blobs/ was verified and synced before it got that name (design P1, P3).
 * (2) used + reserved bytes never pass the limit given at open (what is reserved is given back by every
 * path).
 *           (3) a blob that is open is never deleted from under its reader: the descriptor stays good.
 * (4) a crash at any step leaves parts that can be resumed, or files that store_recover() adopts or
 * removes.
 */
#pragma once
#include "common/bytes.h"
#include "common/hash.h"
#include "common/http/range.h"
#include "policy/policy.h"

struct store;
struct blob; /* an open finished file; shared by count */
struct part; /* an open partial file; shared by count */

struct store_opts {
	const char *path;        /* borrowed for the call */
	uint64_t size_max;       /* bytes; 0: no limit */
	uint64_t disk_reserve;   /* bytes of the file system that stay free */
	struct metrics *metrics; /* borrowed, outlives the store */
	const struct clock *clock;
};

/*
 * Opens or makes the store.
 * Returns 0; -EBUSY another daemon holds it; -EPROTO unknown format (newer or foreign); -EACCES, -ENOSPC,
 * -EROFS and
 * other errno of the file system. ret_reason (a static sentence for people) says what and where on failure.
 */
int store_open(const struct store_opts *opts, struct store **ret_store, const char **ret_reason);
void store_close(struct store *s);
/* Borrowed for the store's life: where the index keeps its database. */
const char *store_index_path(const struct store *s);
/* The 32 bytes of the key file. */
void store_subject_key(const struct store *s, uint8_t ret_key[32]);

/* --- finished blobs --- */

struct blob_meta {
	struct digest sha256;
	struct git_oid git;
	uint64_t size;
};
/* Returns 0; -ENODATA not stored; -EBADMSG the size on disk is not the promised one (quarantined by then);
 * -EIO, -EMFILE. */
int store_open_blob(struct store *s, const struct digest *sha256, struct blob **ret_blob);
struct blob *blob_ref(struct blob *b);
struct blob *blob_unref(struct blob *b);
uint64_t blob_size(const struct blob *b);
/* Borrowed while a reference is held; open for reading; -1 while the blob is in memory only (then
 * blob_bytes() has it). */
int blob_fd(const struct blob *b);
/* The contents when they are in memory anyway (just stored, or small and read before); borrowed while a
 * reference is held.
 * Reads a blob of at most STORE_SMALL_MAX bytes into memory first. NULL for larger ones that are on disk
 * only, or -EIO. */
struct bytes *blob_bytes(struct blob *b);
#define STORE_SMALL_MAX 65536
/* Exactly these bytes. Returns 0; -EBADMSG beyond the end; -EIO. */
int blob_read(struct blob *blob, uint64_t offset, char *to, size_t len);
DEFINE_SCOPE(struct blob *, blob_unref);

/*
 * Stores bytes we made or checked ourselves (API documents), at most 64 MiB. They can be opened at once and
 * are in memory
 * until store_flush_pending() has written them; with over 64 MiB pending this call writes them itself.
 * Any thread. Returns 0 (also if they were there already); -ENOSPC; -EIO.
 */
int store_put_bytes(struct store *s, struct bytes *bytes, struct blob_meta *ret_meta);
/*
 * The same into a store that may be full: has need_room make some, waits for it, and tries once more. Threads that may wait.
 * need_room NULL: as store_put_bytes().
 */
struct store_put {
	struct store *store;
	void (*need_room)(void *ctx, uint64_t bytes, void (*done)(void *, int), void *done_ctx);
	void *ctx;
};
int store_put_making_room(struct store_put p, struct bytes *bytes, struct blob_meta *ret_meta);
/* Makes all that store_put_bytes() took durable; written is called for each (to tell the index). Keeper
 * thread.
 * What cannot be written is dropped from memory; the first error is returned. */
int store_flush_pending(struct store *s, void (*written)(void *ctx, const struct blob_meta *meta), void *ctx);
/* Takes the name away; open readers keep their descriptor. 0 also if it was not there. */
int store_remove_blob(struct store *s, const struct digest *sha256);
/* Moves a bad blob aside. */
int store_quarantine_blob(struct store *s, const struct digest *sha256);
bool store_blob_is_open(struct store *s, const struct digest *sha256);

/* --- room --- */

/* The limit bounds used + reserved. `used` is on disk until it is evicted or resumed, `reserved` is what open
 * parts hold and are about to write. Only part_reserve() takes from it; what is missing then, the caller must
 * see evicted. */
struct store_usage {
	uint64_t used, reserved, limit, objects, disk_free;
	uint64_t partial, open; /* what parts hold; what those hold that are open: not in used */
};
void store_usage(struct store *s, struct store_usage *ret_usage);
/*
 * How much must go so that documents and journals find their room again, and so many bytes at once; 0: there is enough, or no
 * limit. Of the limit only: a disk that others have filled is not emptied for them.
 */
uint64_t store_missing_slack(struct store *s, uint64_t wanted);

/* --- partial blobs --- */

/*
 * Opens the part of this content, resuming what a former run left, or makes it: a sparse file of the whole
 * size that takes no room but for what it holds already. ret_part's ranges are those known to be on disk.
 * Returns 0; -EBUSY already open; -EEXIST open with another size: one of the two is wrong, and waiting would
 * not help; -ENOSPC (also: larger than any file can be), -EIO, -EMFILE.
 * Threads any but fetch: may wait for the disk.
 */
int store_open_part(struct store *s, const struct content_id *want, struct part **ret_part);
/* Is there one, open or left for later? From memory; any thread. */
bool store_has_part(struct store *s, const struct content_id *want);
/*
 * Takes the room of a range out of the quota and, where the file system can, from the disk: the blocks of
 * 4096 bytes that it lies in, as far as the part does not have them, and one for its map or sidecar. To be
 * called before bytes are asked for, since what was not reserved cannot be written; for a whole fill, with
 * [0, size). The part keeps what it took, and gives it back once, when it ends: finished, it has become used
 * bytes; dropped, it is free; let go of by the last part_unref(), what is held is used and the rest is free.
 * Returns 0; -ENOSPC with *ret_missing = bytes that must be freed first (UINT64_MAX: can never fit, or the
 * disk is full); -ECANCELED the part was dropped or finished; -EIO.
 * Threads any but fetch: may wait for the disk. One call for a part at a time, none during part_reset().
 */
int part_reserve(struct part *p, struct byte_range range, uint64_t *ret_missing);
/* How many bytes from `offset` on are reserved without a gap (0: none). Any thread, never waits. */
uint64_t part_room_from(struct part *p, uint64_t offset);
struct part *part_ref(struct part *p);
/* The last one of a part that is neither dropped nor finished saves its map and keeps its file for resuming.
 * That waits for the disk: not on the fetch thread. */
struct part *part_unref(struct part *p);
int part_fd(const struct part *p); /* borrowed; readable by anybody */
/* Writes to the page cache. Fetch thread. Returns 0; -EINVAL beyond the size; -ENOSPC (also what was not
 * reserved); -EIO (also once it is leaving). */
int part_write(struct part *p, uint64_t offset, const void *bytes, size_t len);
/* How many bytes from `offset` on are held without a gap (0: none). Any thread. */
uint64_t part_held_from(struct part *p, uint64_t offset);
/* The first gap at or after offset: *ret_gap; false when everything from offset to the end is held. */
bool part_next_gap(struct part *p, uint64_t offset, struct byte_range *ret_gap);
/* The validator (strong ETag of the serving hop, may be empty) under which bytes were received; saved with
 * the map. */
void part_set_validator(struct part *p, struct str validator);
struct str part_validator(const struct part *p); /* borrowed */
/* Starts write-back of dirty pages without waiting; saves the map after syncing when enough bytes have come
 * since.
 * Waits for the disk: keeper thread. */
int part_checkpoint(struct part *p);
bool part_wants_checkpoint(const struct part *p);
/* Drops all that was received (wrong bytes, changed validator); the file is empty again and keeps what
 * was reserved. */
int part_reset(struct part *p);
/* Deletes the file and gives back what was reserved. */
void part_drop(struct part *p);
DEFINE_SCOPE(struct part *, part_unref);

/*
 * Gives a complete and verified part its name: fsync, sidecar, rename, fsync of folders (reliability B.2
 * S5-S8).
 * Durable when it returns 0; then the reservation has become used bytes. -EEXIST is success (same bytes
 * were there).
 * Keeper thread. Other errors: the part is dropped, nothing got a name.
 */
int store_finish_part(struct store *s, struct part *p, const struct blob_meta *meta);

/* --- journals: one append-only file per repo; the truth from which the index is rebuilt --- */

/* Appends lines (each without its newline) to the repo's journal and syncs it. A check is added to each line.
 * Keeper thread. Returns 0, -ENOSPC, -EIO. */
int store_journal_append(struct store *s, struct str repo, const struct str *lines, size_t count);
/* The journal with these lines instead of those it has: as a whole or not at all, whenever the power fails. Keeper thread. As
 * store_journal_append(). */
int store_journal_replace(struct store *s, struct str repo, const struct str *lines, size_t count);
/* Visits the intact lines of one journal in order; none if there is none. visit non-zero stops and is returned;
 * -errno: it could not be read to its end. Keeper thread. */
int store_journal_visit(struct store *s, struct str repo,
			int (*visit)(void *ctx, struct str repo, struct str line), void *ctx);
/* Bytes of the repo's journal; 0: there is none. */
uint64_t store_journal_size(struct store *s, struct str repo);
/* Visits every intact line of every journal in order; broken ones are counted. Start-up and rebuild only. */
int store_journal_each(struct store *s, int (*visit)(void *ctx, struct str repo, struct str line), void *ctx,
		       uint64_t *ret_broken);
/* Visits every sidecar that has its blob. */
int store_blob_each(struct store *s, int (*visit)(void *ctx, const struct blob_meta *meta), void *ctx);
/* After a crash: counts used bytes, removes temporary files, orphan sidecars, parts without a use, old
 * quarantine.
 * Complete parts whose digest matches are adopted: visit is called for each. Start-up, before any thread. */
int store_recover(struct store *s,
		  int (*adopted)(void *ctx, const struct content_id *id, const struct blob_meta *meta),
		  void *ctx);
/* Rewrites a file each minute to learn whether the store can be written; for /-/readyz. */
int store_check_writable(struct store *s);
