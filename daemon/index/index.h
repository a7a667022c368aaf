/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index - what is known: names, entries, documents, grants, uses. SQLite on disk, a memory index in front.
 *
 * Glossary  repo      "models/acme/pub", "datasets/acme/table", "spaces/acme/page": the API path under
 *           /api/, canonical case.
 *           revision  what a client said: main, v1, refs/pr/1, a commit.
 *           commit    40 lower case hex digits.
 *           entry     (repo, commit, path) -> content id, or known to be absent.
 *           document  an API answer kept as a blob: (repo, key) -> bytes and what to send with them.
 *           subject   16 bytes that stand for a token (auth); all zero: anonymous.
 *
 * Owns      index.db; the memory in front of it; the queue of facts that wait to be written.
 * Never     is the truth: all but grants and uses can be rebuilt from the store's files (keeper does it).
 * Threads   index_find_* and index_learn from any thread: memory first, then a read-only connection (short
 *           disk reads).
 *           index_take_batch / index_apply from the keeper only: the one writing and checkpointing connection
 *           (SQLite before 3.51.3 can corrupt a WAL that two connections write or checkpoint at once).
 * Promises  (1) what index_learn() was given is found by the next index_find_*(), before and after it is on
 *           disk.
 *           (2) -ENOENT is knowledge (known absent), -ENODATA is ignorance; never mixed up.
 *           (3) a lookup never waits for a transaction.
 */
#pragma once
#include <stdatomic.h>
#include "common/buf.h"
#include "common/hash.h"
#include "common/list.h"
#include "policy/policy.h"

struct index;
#define COMMIT_HEX 40
#define COMMIT_TEXT (COMMIT_HEX + 1)
#define SUBJECT_BYTES 16

struct index_opts {
	const char *path;      /* of index.db; borrowed for the call */
	size_t memory_entries; /* how many rows of each kind stay in memory */
	struct metrics *metrics;
	const struct clock *clock;
};
/*
 * Opens or makes the database and brings it to the current version, each migration in one transaction.
 * Returns 0; 1 it is empty or was unreadable and has been set aside: rebuild it; -EPROTO made by a newer
 * program; other errno. ret_reason as in store_open().
 */
int index_open(const struct index_opts *opts, struct index **ret_index, const char **ret_reason);
/* Nobody else uses it any more. What is still queued is lost: the keeper has drained it before. */
void index_close(struct index *x);
/* Facts were given up, in this run or an earlier one: the store may hold blobs that have no row. Who has
 * learned them all again, and applied that, says so with index_fill_gaps(). Keeper thread. */
bool index_has_gaps(const struct index *x);
int index_fill_gaps(struct index *x);
/* SQLite found the file damaged; what is learned is kept in memory. Cure: index_rebuild_begin(). */
bool index_is_damaged(struct index *x);

/* --- facts --- */

enum fact_kind {
	/* repo (as asked, "models/old/name") is an old name or other case of `to`; to empty or repo itself: none */
	FACT_ALIAS,
	/* (repo, revision) -> commit, checked at */
	FACT_NAME,
	/* (repo, commit, path) -> content */
	FACT_ENTRY,
	/* (repo, commit, path) does not exist */
	FACT_ABSENT,
	/* all entries of (repo, commit) are known: learned after the last of them */
	FACT_TREE,
	/* (repo, key) -> document; the key starts with "c:" when it is pinned to a commit, "m:" when mutable */
	FACT_DOC,
	/* anonymous may read `level` of repo, learnt at; replaces what was known; NONE takes it away */
	FACT_PUBLIC,
	/* subject may read `level` of repo, learnt at; likewise; not journaled */
	FACT_GRANT,
	/* repo holds an object of this content, as upstream's own LFS batch or registry manifest said; which path
	 * names it need not be known */
	FACT_OBJECT,
	/* content is stored: sha256, git, size; journaled by its sidecar */
	FACT_BLOB,
	/* it was evicted or quarantined */
	FACT_BLOB_GONE,
	/* blob was read at; not journaled */
	FACT_USE,
	/* after a write: names and mutable documents of repo are kept and doubted (index_is_doubted); `revision`, unless it
	 * is empty, is no more, nor are the mutable documents that have it among the segments of their key */
	FACT_FORGET,
	/* all grants of a subject (repo empty) or of a repo (subject ignored) */
	FACT_FORGET_GRANTS,
	/* all that is known of repo but who may read it: the name stands for another repo now, or for none */
	FACT_FORGET_ALL,
	/* the Hub's own id of the repo that stands under this name is `to` */
	FACT_IDENTITY,
	/* upstream showed `level` of `path` to subject (all zero: to somebody without a token); see index_find_shown() */
	FACT_SHOWN,
	/* what was shown to subject counts up to `level` only: a right of his has ended */
	FACT_HIDE,
};

struct doc {
	struct digest body; /* a blob of the store */
	uint64_t body_size;
	int64_t fetched_at; /* index_seen_at() */
	char *content_type;
	char *link_next;          /* path and query of the next page on our own server, or NULL */
	char commit[COMMIT_TEXT]; /* X-Repo-Commit, or "" */
};
void doc_done(struct doc *d);

/* All pointers are borrowed for the call in which they are passed. */
struct fact {
	enum fact_kind kind;
	struct str repo;
	struct str revision; /* NAME FORGET */
	struct str path;     /* ENTRY ABSENT; key of DOC; what was SHOWN */
	struct str to;       /* ALIAS IDENTITY */
	char commit[COMMIT_TEXT];
	struct content_id content; /* ENTRY OBJECT */
	struct digest sha256;      /* BLOB BLOB_GONE USE */
	struct git_oid git;        /* BLOB */
	uint64_t size;             /* BLOB; TREE: number of entries, filled in by index_take_batch() */
	uint8_t subject[SUBJECT_BYTES];
	enum access_level level;
	int64_t at; /* wall clock of the fact, in seconds; SHOWN: in microseconds */
	const struct doc *doc;
};
/* One journal line (no newline): returns 1; 0 for kinds that are not journaled; -E2BIG. */
int fact_encode(const struct fact *f, struct buf *out);
/* Pointers of *ret and *ret_doc point into line or into scratch (no doc_done() for it); *ret_doc is set for
 * FACT_DOC only. Returns 0 or -EINVAL. Foreign bytes: fuzzed. */
int fact_decode(struct str repo, struct str line, struct buf *scratch, struct fact *ret, struct doc *ret_doc);

/* Known from now on; queued for the disk. A fact without repo or with a malformed commit is passed over; so
 * is what can be learned again while 200,000 facts wait for a disk that hangs. */
void index_learn(struct index *x, const struct fact *f);
/* Called (any thread, no lock held) when the queue was empty and is not any more. */
void index_on_queue(struct index *x, void (*notify)(void *ctx), void *ctx);

/*
 * When a name or a document was last seen, as the index gives it, is negative once a write has put it in doubt: older than
 * anything that is believed without asking.
 */
static inline bool index_is_doubted(int64_t seen_at)
{
	return seen_at < 0;
}
static inline int64_t index_seen_at(int64_t seen_at)
{
	return seen_at < 0 ? -seen_at : seen_at;
}

/* --- questions; outputs untouched on failure --- */

/* Follows aliases that were learned, or learned again, at `since` or later: the canonical repo. Always answers (repo
 * itself when nothing is known). */
int index_canonical_repo(struct index *x, struct str repo, int64_t since, struct buf *ret_repo);
/* Appends the Hub's own id of repo. -ENODATA not known. */
int index_find_identity(struct index *x, struct str repo, struct buf *out);
/* Returns 0; -ENODATA never heard of. ret_checked_at (index_seen_at) may be NULL. */
int index_find_name(struct index *x, struct str repo, struct str revision, char ret_commit[COMMIT_TEXT],
		    int64_t *ret_checked_at);
/*
 * All names of a repo; some twice, and some may be known no more when they are visited. visit may learn; non-zero stops and is
 * returned. -errno: the disk cannot be asked. Any thread; reads the disk.
 */
int index_names_each(struct index *x, struct str repo, int (*visit)(void *ctx, struct str revision),
		     void *ctx);
/* A commit of the repo with this prefix (at least 7 digits) that we hold. -ENODATA none or several. */
int index_find_commit(struct index *x, struct str repo, struct str prefix, char ret_commit[COMMIT_TEXT]);
/* Returns 0; -ENOENT known to be absent (said so by upstream, or the tree is known and lacks it); -ENODATA
 * not known. */
int index_find_entry(struct index *x, struct str repo, struct str commit, struct str path,
		     struct content_id *ret_content);
/* What an object of a repo is, and one place that names it. */
struct object {
	struct content_id content; /* of kind CONTENT_LFS */
	char commit[COMMIT_TEXT];  /* "" when only FACT_OBJECT tells of it */
	char *path;                /* owned or NULL */
};
void object_done(struct object *o);
/* Has repo an object of this SHA-256: by FACT_OBJECT, or an LFS entry of any of its commits? Returns 0;
 * -ENODATA not known. May read the disk. */
int index_find_object(struct index *x, struct str repo, const struct digest *sha256,
		      struct object *ret_object);
/* The commits that have it, as far as they are known, at most OBJECT_COMMITS_MAX. visit non-zero stops and is returned. Reads the
 * disk. */
#define OBJECT_COMMITS_MAX 1000
int index_object_each(struct index *x, struct str repo, const struct digest *sha256,
		      int (*visit)(void *ctx, const struct object *o), void *ctx);
bool index_tree_is_known(struct index *x, struct str repo, struct str commit);
/* All entries of a known tree in byte order of path. visit non-zero stops and is returned. -ENODATA. Any
 * thread; reads the disk. */
int index_tree_each(struct index *x, struct str repo, struct str commit,
		    int (*visit)(void *ctx, struct str path, const struct content_id *content), void *ctx);
int index_find_doc(struct index *x, struct str repo, struct str key, struct doc *ret_doc);
/* The stored blob of this content: always its sha256. -ENODATA not stored; -EBADMSG it is, and has another size. */
int index_find_blob(struct index *x, const struct content_id *content, struct digest *ret_sha256);
/* Fills public_level, public_at, granted, granted_at; the rest is the caller's. */
void index_find_access(struct index *x, struct str repo, const uint8_t subject[SUBJECT_BYTES],
		       struct access_facts *ret_facts);
/*
 * How much of `what` upstream has shown to this subject, in this repo. what: a commit; the 64 hex digits of a document's body or of
 * an object; or SHOWN_REPO, the repo that has the identity which is known. It is history and not a right; it ends with the repo
 * (FACT_FORGET_ALL). ret_at may be NULL; it is in microseconds.
 * To the subject SHOWN_ITSELF, which is the repo of that identity, was shown what is known to be of it (FILES), or is of it if that
 * identity was seen again later than `at` (META); SHOWN_SINCE and SHOWN_REPO say when it was seen first and last.
 */
#define SHOWN_REPO STR("repo")
#define SHOWN_SINCE STR("since")
extern const uint8_t SHOWN_ITSELF[SUBJECT_BYTES];
enum access_level index_find_shown(struct index *x, struct str repo, const uint8_t subject[SUBJECT_BYTES],
				   struct str what, int64_t *ret_at);
/* The latest time that any of it has, on disk; 0: none. For who makes such times: they must not come again after a restart. */
int64_t index_latest_shown(struct index *x);
/* The blob was served: memory only; flushed in batches. Any thread, no allocation. */
void index_touch_blob(struct index *x, const struct digest *sha256, int64_t now);

/* --- what is held, for people; what is not on disk yet is not seen. May take seconds; any thread that may wait for so long --- */

struct usage_query {
	/* Is there a part of this content? NULL: nobody knows. */
	bool (*is_partial)(void *ctx, const struct content_id *content);
	void *ctx;
	atomic_bool *is_stopping; /* may be NULL; true: end with -ECANCELED */
};
struct usage_row {
	char *repo;     /* owned */
	bool is_public; /* when it was last heard of */
	uint64_t commits, files, partial_files, documents, bytes;
	uint64_t shared_bytes; /* of `bytes`, what other repos name too */
	int64_t used_at;       /* 0: never */
};
struct usage {
	struct usage_row *rows; /* owned, in byte order of repo: those of which something is held */
	size_t count;
	uint64_t bytes;              /* of all blobs, each once */
	uint64_t unreferenced_bytes; /* of those that no repo names any more */
};
/* Returns 0 and the caller's; -E2BIG more than can be looked through; -ECANCELED; other errno. */
int index_survey(struct index *x, const struct usage_query *query, struct usage **ret_usage);
void usage_free(struct usage *u);
/* Of the commits of a repo, those that have a name, or files that are held. visit non-zero stops and is returned. */
struct usage_commit {
	const char *commit;
	struct str names; /* each with a NUL after it */
	uint64_t files, partial_files, bytes;
};
int index_commits_each(struct index *x, struct str repo, const struct usage_query *query,
		       int (*visit)(void *ctx, const struct usage_commit *commit), void *ctx);
/*
 * What a repo names that is held or partly held (commit NULL), or one of its commits; and whether other repos, or for a commit any
 * other commit, name it too. Returns 0; -ENODATA nothing is known of it; -E2BIG; -ECANCELED; other errno.
 */
struct alone_item {
	struct content_id content;
	bool is_held; /* as a whole: then sha256, git, and size are the blob's */
	bool has_others;
	struct digest sha256;
	struct git_oid git;
	uint64_t size;
};
struct alone {
	struct alone_item *items; /* owned; the held ones first */
	size_t count;
};
int index_find_alone(struct index *x, struct str repo, const char *commit, const struct usage_query *query,
		     struct alone *ret_alone);
void alone_done(struct alone *a);
/* The names that lead to this repo; visit may learn; non-zero stops and is returned. */
int index_aliases_each(struct index *x, struct str repo, int (*visit)(void *ctx, struct str name), void *ctx);

/* --- keeper's side --- */

/* The calling thread is the writer from now on: only it may call what follows (asserted). At first it is who
 * called index_open(). */
void index_own_writer(struct index *x);

struct index_batch; /* facts taken from the queue, oldest first */
struct index_batch *index_take_batch(struct index *x, size_t facts_max);
size_t index_batch_count(const struct index_batch *b);
const struct fact *index_batch_fact(const struct index_batch *b, size_t i);
/* The same value is known and journaled (names, marks, documents: at most 6 h ago): needs no journal line. */
bool index_batch_is_refresh(const struct index_batch *b, size_t i);
/* As index_learn(), but at the end of this batch instead of the queue. */
void index_batch_learn(struct index *x, struct index_batch *b, const struct fact *f);
/* Its journal line could not be written: the next fact that says the same is not taken as a refresh. */
void index_batch_unjournaled(struct index_batch *b, size_t i);
/* It turned out to be wrong: it is not written, and known no more unless it was learned again. */
void index_batch_drop(struct index_batch *b, size_t i);
/* One transaction, synchronous=FULL. Consumes the batch. On failure (-errno) its facts stay in memory and
 * are tried once more with the next batch (which may be empty), then given up; those that take something
 * away are tried until they are written. */
int index_apply(struct index *x, struct index_batch *b);
/* For rebuild: straight into the database, in large transactions. Begin empties it (or replaces a damaged
 * file). Blobs are added before documents: one whose body is not stored is passed over. End unmarks trees
 * that miss entries. */
int index_rebuild_begin(struct index *x);
int index_rebuild_add(struct index *x, const struct fact *f);
int index_rebuild_end(struct index *x);
/* Instead of end, after a failure: the index knows less, and the next start rebuilds it again. */
void index_rebuild_cancel(struct index *x);
/* Flushes touched blobs' times. */
int index_flush_uses(struct index *x);
/* How many blobs have a row. */
int index_count_blobs(struct index *x, uint64_t *ret_count);
/* The least recently used blobs, oldest first. visit returns non-zero to stop; it may learn, not apply. */
int index_oldest_blobs(struct index *x,
		       int (*visit)(void *ctx, const struct digest *sha256, uint64_t size, int64_t used_at),
		       void *ctx);
/* Blobs whose row went with FACT_BLOB_GONE and whose files may be there still; visit non-zero stops and is
 * returned. */
int index_leaving_each(struct index *x, int (*visit)(void *ctx, const struct digest *sha256), void *ctx);
/* The files of all of them are gone: the list is emptied with the next transaction. */
void index_leaving_done(struct index *x);
/* When idle: bounds of tables, weekly the full check (-EBADMSG), some vacuum, a checkpoint. */
int index_maintain(struct index *x);
