/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/priv - what the files of this room share.
 *
 * To change the layout start at store.c; the order in which a file gets its name is in name.c and nowhere
 * else.
 *
 *   store.c   open, close, format, key            room.c     quota, usage, disk errors
 *   blob.c    open blobs and their cache          pending.c  documents on their way to the disk
 *   name.c    S5-S8 for both, removal, quarantine finish.c   a complete part becomes a blob
 *   part.c    partial blobs: opening, leaving     held.c     their bytes, what is held, checkpoints
 *   grant.c   their room
 *   ranges.c  sets of ranges (pure)               partmap.c  the map file and parts that nobody has open
 *   seal.c    text files with a check, sidecars   fan.c      the folders ab/cd, walks over them
 *   journal.c appending to journals               replay.c   reading them back
 *   recover.c start-up
 *
 * Locks     store->lock and part->lock have one rank and are never held together. Neither is held across
 *           I/O: who changes
 * what a name stands for holds the claim on that name meanwhile. A claim is waited for by those who change
 *           names, never by those who open blobs.
 */
#pragma once
#include <stdatomic.h>
#include "common/clock.h"
#include "common/list.h"
#include "common/lock.h"
#include "common/map.h"
#include "metrics/metrics.h"
#include "store/store.h"

/* What a file is charged with is rounded up to this: the block of every common file system. */
#define STORE_BLOCK UINT64_C(4096)
/* One sidecar is one block. */
#define SIDECAR_CHARGE STORE_BLOCK
/* Descriptors that nobody uses just now, kept so that a hot blob costs no open. */
#define IDLE_DESCRIPTORS_MAX 1024
/* Small blobs that nobody uses just now, kept in memory, with what each costs besides its bytes. */
#define IDLE_MEMORY_MAX (UINT64_C(64) << 20)
#define BLOB_OVERHEAD 512
/* Documents in memory that are not on disk yet; one document. */
#define PENDING_BYTES_MAX (UINT64_C(64) << 20)
/* Documents written in one go: two descriptors each. */
#define PENDING_BATCH 32
/* Files and lines that we read back: a map of very many ranges, a sidecar, a journal line with a long link
 * in it. */
#define MAP_BYTES_MAX (16u << 20)
#define SIDECAR_BYTES_MAX 1024
#define JOURNAL_LINE_MAX (1u << 20)
#define VALIDATOR_MAX 1024
/* Write-back is started after so many new bytes, the map saved after so many (reliability B.2 S3). */
#define WRITEBACK_STEP (UINT64_C(16) << 20)
#define MAP_STEP (UINT64_C(64) << 20)

#define FAN_DIR_TEXT sizeof("ab/cd")
#define FAN_PATH_TEXT (sizeof("ab/cd/") + 2 * SHA256_BYTES)
#define CHECK_HEX 16
/* "s-<64 hex>" or "g-<40 hex>", and the same with ".part" or ".map". */
#define PART_KEY_TEXT (2 + CONTENT_HEX_MAX)
#define INCOMING_NAME_TEXT (PART_KEY_TEXT + 8)

/* Two levels of folders: blobs/ or meta/. */
struct fan {
	int fd; /* owned */
	/* guarded by the store's lock: ab/cd and those above are known to be durable */
	uint8_t synced[0x10000 / 8];
};

struct lru {
	struct list list; /* of struct blob.idle, least recently used first */
	size_t count;
	uint64_t bytes;
};

struct store {
	int root_fd, lock_fd, incoming_fd, journal_fd, quarantine_fd; /* owned */
	struct fan blobs, meta;
	char *index_path; /* owned */
	uint8_t key[32];
	uint64_t size_max, disk_reserve;
	struct metrics *metrics;           /* borrowed; may be NULL */
	const struct clock *clock;         /* borrowed */
	atomic_uint_least64_t temporaries; /* for their names */
	atomic_uint_least64_t held_bytes;  /* in open parts */

	struct lock lock;     /* rank STORE; guards all below */
	pthread_cond_t freed; /* a claim was released or a part has left */
	struct map *claims;
	uint64_t used, reserved, objects;
	uint64_t idle_part_bytes;     /* the share of `used` that is parts nobody has open */
	uint64_t allocated;           /* the share of `reserved` that is on disk already */
	uint64_t io_error_mono_ms[3]; /* the last three, oldest overwritten; 0: none */
	unsigned io_errors;
	struct map *by_digest; /* sha256 -> struct blob, those that may be opened */
	struct lru idle_files, idle_memory;
	uint64_t removals;   /* counts names taken away, so that an open that ran meanwhile is not cached */
	struct list pending; /* of struct pending */
	uint64_t pending_bytes;
	struct map *parts;      /* key -> struct part, open or leaving */
	struct map *idle_parts; /* key -> struct idle_part */
};

struct blob {
	struct store *store; /* borrowed */
	struct digest sha256;
	uint64_t size;
	int fd; /* owned; -1: in memory. Changes only while nobody holds a reference */
	/* guarded by store->lock */
	struct bytes *bytes;     /* owned; NULL: on disk only */
	unsigned refs;           /* of users; the cache and `pending` hold none */
	bool is_cached;          /* it is in by_digest */
	struct pending *pending; /* borrowed from store->pending or the flush; NULL: it is on disk */
	struct list idle;        /* in idle_files or idle_memory while refs is 0 */
};

/* What the next flush has to write, or only to tell. */
struct pending {
	struct list node;
	struct blob_meta meta;
	struct blob *blob; /* NULL: on disk already */
	bool is_lost;      /* could not be written: not to be told */
};

/* --- room.c --- */

/* Disk space that a file of this size is charged with. */
uint64_t file_charge(uint64_t size);
uint64_t blob_charge(uint64_t size);
/* Charges `bytes` or returns -ENOSPC. For documents and journals: they may use the slack that
 * parts leave. */
int room_take_used(struct store *s, uint64_t bytes, uint64_t disk_reserve);
/* The same for a document, which leaves some room to the journals' lines about it. */
int room_take_document(struct store *s, uint64_t bytes);
void room_add_used_locked(struct store *s, uint64_t bytes);
void room_sub_used_locked(struct store *s, uint64_t bytes);
void room_sub_used(struct store *s, uint64_t bytes);
/* Sees to it that the part has taken `charge` bytes in all; idle parts go for it where they may. Returns 0
 * with what this call took; -ENOSPC with what is missing; -ECANCELED the part is leaving. */
int room_raise(struct part *p, uint64_t charge, uint64_t *ret_taken, uint64_t *ret_missing);
/* Gives back what room_raise() took, unless the part has left and that was done. */
void room_lower(struct part *p, uint64_t bytes);
void room_note_allocated(struct part *p, uint64_t bytes);
/* The charge of an idle part becomes the reservation of the open one: all of it is on disk. */
void room_take_over_locked(struct part *p, uint64_t charge);
/* Gives all of it back. */
void room_leave_locked(struct part *p);
/* Passes r through; counts it when it says that the disk is failing. */
int store_error(struct store *s, int r);
/* Three disk errors within ten minutes: nothing more is written (D05). */
bool store_is_failing(struct store *s);
bool store_is_failing_locked(struct store *s);
void store_show_locked(struct store *s);
void claim_take(struct store *s, struct str name);
bool claim_try_locked(struct store *s, struct str name);
void claim_drop(struct store *s, struct str name);
static inline struct str digest_str(const struct digest *d)
{
	return (struct str){ (const char *)d->bytes, SHA256_BYTES };
}

/* --- fan.c --- */

void fan_path(const struct digest *d, char ret_path[FAN_PATH_TEXT]);
/* As fs_make_dir(), mode 0700 whatever the umask is. */
int make_dir(int dir_fd, const char *name);
/* Makes ab/cd. */
int fan_make(struct store *s, struct fan *f, const struct digest *d);
/* Makes names in ab/cd durable, and ab/cd itself the first time. */
int fan_sync(struct store *s, struct fan *f, const struct digest *d);
/* -ENOENT; else the size of the regular file (-EBADMSG if it is something else). */
int fan_stat(const struct fan *f, const struct digest *d, uint64_t *ret_size);
/* Every ab/cd that is under blobs/ or meta/, in order. A folder that cannot be read is logged and passed
 * over. */
int fans_each(struct store *s, int (*visit)(void *ctx, unsigned ab, unsigned cd), void *ctx);
/* The names in a folder: sorted, without "." and "..". -ENOENT gives none. */
struct names {
	char **at; /* owned */
	size_t count;
};
int names_read(int dir_fd, const char *name, struct names *ret_names);
void names_done(struct names *n);
static inline void names_done_p(struct names *n)
{
	names_done(n);
}
#define SCOPED_NAMES __attribute__((cleanup(names_done_p))) struct names
/* Is this 64 lower case hex digits that belong into folder ab/cd? */
bool fan_name_parse(const char *name, unsigned ab, unsigned cd, struct digest *ret_digest);

/* --- seal.c --- */

/* The first digits of the SHA-256, as every file of ours carries them. */
void check_of(struct str text, char ret_hex[CHECK_HEX + 1]);
/* Appends "check=<hex>\n" over all that is there. */
int seal_close(struct buf *text);
/* Checks magic line and check; *ret_body is what lies between. -EBADMSG. */
int seal_open(struct str text, struct str magic, struct str *ret_body);
/* Cuts the next "key=value" line off. false at the end or at a line without '='. */
bool seal_next(struct str *body, struct str *ret_key, struct str *ret_value);
int sidecar_encode(const struct blob_meta *meta, struct buf *out);
int sidecar_decode(struct str text, struct blob_meta *ret_meta);
/* -ENODATA none; -EBADMSG broken, or it speaks of another blob. */
int sidecar_read(struct store *s, const struct digest *sha256, struct blob_meta *ret_meta);

/* --- name.c --- */

/* A file in incoming/ that is to become a blob. */
struct naming {
	struct blob_meta meta;
	char from[INCOMING_NAME_TEXT]; /* its name in incoming/ */
	int fd;                        /* borrowed; its bytes are verified and all written */
	int result;                    /* 0: durable under its name */
	bool was_there; /* with result 0: the name was taken by the same bytes; `from` was left alone */
	int sidecar_fd;
	char sidecar[INCOMING_NAME_TEXT];
};
/* S5 to S8 for all of them, each step for all before the next. The caller holds the claims and looks at
 * each result. */
void name_blobs(struct store *s, struct naming *items, size_t count);
/* A new temporary file in incoming/, mode 0600. */
int make_temporary(struct store *s, char ret_name[INCOMING_NAME_TEXT]);
/* Opens the blob's file and hashes it: 0 the digest is its name; -EBADMSG; -EINTR over *budget; other
 * errno. */
int blob_file_check(struct store *s, const struct digest *sha256, uint64_t *budget,
		    struct blob_meta *ret_meta);
int hash_file(int fd, uint64_t size, struct digest *ret_sha256, struct git_oid *ret_git);
/* Writes the sidecar of a blob whose bytes were just checked. */
int sidecar_restore(struct store *s, const struct blob_meta *meta);
/* Takes the blob out of its name into quarantine/. With the claim held. */
int set_aside(struct store *s, const struct digest *sha256);
int quarantine_trim(struct store *s);

/* --- blob.c --- */

/* No open may find it any more. With the claim held, after its file has lost the name. */
void blob_forget(struct store *s, const struct digest *sha256);
/* A blob in memory, in the table, pending. False: somebody else's is there. */
bool blob_insert_pending(struct store *s, const struct digest *sha256, struct bytes *bytes,
			 struct pending *p);
void blob_settle_locked(struct blob *b, struct list *doomed);
void blob_uncache_locked(struct blob *b, struct list *doomed);
/* Frees what the calls above put there; without the lock. */
void blobs_destroy(struct list *doomed);
void blobs_close(struct store *s);
/* After -EMFILE: gives up idle descriptors. Returns false if there were none. */
bool blobs_shed(struct store *s);
bool blob_is_in_memory(struct store *s, const struct digest *sha256);
/* A document that is not written yet is given up; false if it is none. With the claim held. */
bool pending_cancel(struct store *s, const struct digest *sha256);

/* --- ranges.c --- */

/* Sorted, apart from each other, not empty. */
struct ranges {
	struct byte_range *at; /* owned */
	size_t count, room;
	uint64_t bytes; /* all together */
};
void ranges_done(struct ranges *r);
void ranges_add(struct ranges *r, struct byte_range add);
uint64_t ranges_held_from(const struct ranges *r, uint64_t offset);
bool ranges_next_gap(const struct ranges *r, uint64_t offset, uint64_t size, struct byte_range *ret_gap);
void ranges_copy(const struct ranges *from, struct ranges *ret_copy);
static inline void ranges_done_p(struct ranges *r)
{
	ranges_done(r);
}
#define SCOPED_RANGES __attribute__((cleanup(ranges_done_p))) struct ranges

/* --- part.c --- */

enum part_state { PART_OPEN, PART_LEAVING, PART_GONE };
struct part {
	struct store *store; /* borrowed */
	struct content_id id;
	char key[PART_KEY_TEXT];
	int fd; /* owned */
	/* guarded by store->lock */
	unsigned refs;
	uint64_t reserved;  /* its share of store->reserved: if any, at least grant_charge() of `granted` */
	uint64_t allocated; /* its share of store->allocated */
	enum part_state state; /* LEAVING: still in store->parts, others wait; GONE: the name is free again */
	/* guarded by lock */
	struct lock lock; /* rank STORE */
	struct ranges held;
	struct ranges granted;                        /* whole blocks that are paid for: it may write them */
	char *validator;                              /* owned; never NULL */
	uint64_t dirty_first, dirty_end, dirty_bytes; /* since write-back was last started */
	uint64_t unmapped_bytes;                      /* since the map was last saved */
	bool is_map_stale;                            /* ranges or validator differ from the map on disk */
	bool has_map;                                 /* there is one on disk, and it says nothing false */
	bool is_broken; /* a sync failed: what the kernel holds is not to be trusted (D05) */
	bool is_closed; /* nothing more is written: it is leaving */
	unsigned resets;
};
void part_key_of(const struct content_id *id, char ret_key[PART_KEY_TEXT]);
/* The part is about to lose its name in store->parts: true if the caller is the one to see to it. */
bool part_begin_leaving(struct part *p);
/* Frees the name and gives the reservation back, in one step with what takes its place: `used` bytes of a
 * blob, or `kept_charge` bytes (at most what was reserved) of a file that waits to be resumed. */
void part_end_leaving(struct part *p, uint64_t used, uint64_t kept_charge);
/* Empties the file: no blocks, all of its size. */
int part_make_sparse(int fd, uint64_t size);
bool part_is_complete(struct part *p);
bool part_is_broken(struct part *p);

/* --- grant.c --- */

/* The blocks that ranges of bytes lie in. */
void grant_blocks(const struct ranges *held, struct ranges *ret_blocks);
/* What a part of these blocks is charged with: they, and one for its map, later its sidecar. */
uint64_t grant_charge(const struct ranges *blocks);
/* Takes blocks of the disk, so that a full one is known before the first byte is asked for. 0 also if the
 * file system cannot do that. */
int part_allocate(struct part *p, const struct ranges *blocks, bool *ret_is_allocated);

/* --- partmap.c --- */

struct part_map {
	uint64_t size;
	struct ranges held;
	char *validator; /* owned */
};
void part_map_done(struct part_map *m);
static inline void part_map_done_p(struct part_map *m)
{
	part_map_done(m);
}
#define SCOPED_PART_MAP __attribute__((cleanup(part_map_done_p))) struct part_map
int part_map_encode(const char *key, const struct part_map *m, struct buf *out);
/* Foreign bytes. -EBADMSG. */
int part_map_decode(struct str text, struct str key, struct part_map *ret_map);
/* Syncs the bytes, then the map that speaks of them (S3). */
int part_map_save(struct part *p);
/* -ENODATA none; -EBADMSG. */
int part_map_load(struct store *s, const char *key, struct part_map *ret_map);
/* Gives back the disk blocks of what is not held. Returns what the file and its map are charged with then. */
uint64_t part_punch(int fd, const struct ranges *held, uint64_t size);
/* The file and its map, the map first: a map without its bytes would lie. */
int part_unlink(struct store *s, const char *key);
void part_file_name(const char *key, const char *suffix, char ret_name[INCOMING_NAME_TEXT]);

struct idle_part {
	uint64_t charge;
	int64_t idle_at;
};
void idle_part_add_locked(struct store *s, const char *key, uint64_t charge, int64_t idle_at);
/* Takes it out of the books; its file is the caller's now. Returns its charge, 0 if there is none. */
uint64_t idle_part_take_locked(struct store *s, const char *key);
/* What it is charged with; 0 if there is none. */
uint64_t idle_part_charge(struct store *s, const char *key);
/* Deletes the one that has been idle longest, unless it may soon be resumed and blobs can make the room. */
bool idle_part_evict(struct store *s, uint64_t missing);

/* --- recover.c --- */

/* Rewritten each minute and at the end: what got its name long before is known to the index. */
#define ALIVE_FILE "alive"

/* --- journal.c, replay.c --- */

#define JOURNAL_MAGIC STR("hfcached journal 1 ")
#define JOURNAL_LINE_HEAD (CHECK_HEX + 1)
struct journal {
	char folder[3];
	char path[sizeof("ab/") + 2 * SHA256_BYTES];
};
void journal_of(struct str repo, struct journal *ret_journal);

/* At start-up: what the journals take. Temporary files go. */
uint64_t journals_scan(struct store *s);
