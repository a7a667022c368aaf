/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/priv - what the files of this room share.
 *
 *   index.c    open, close, setting a bad file aside     schema.c   tables and migrations
 *   sql.c      connections, statements, reader pool      read.c     one row from the disk, for each kind
 *   table.c    rows in memory: shards, pins, eviction    find.c     the questions
 *   tree.c     listings                                  news.c     what a fact says, and is it news
 *   learn.c    facts into memory and queue               forget.c   what is taken back as a whole
 *   queue.c    copies of facts, batches                  write.c    a fact as SQL
 *   apply.c    a batch as one transaction                fact.c     facts as journal lines
 *   rebuild.c  the database made anew                    care.c     uses, bounds, checkpoints
 *   object.c   what a repo holds by SHA-256              erase.c    facts that take back, as SQL
 *   usage.c    what is held of each repo                 alone.c    what nobody else names
 *
 * How memory and disk agree. A fact that is not on disk yet pins its row: what is learned is in memory
 * until it is
 * committed. A reader that finds no row reads the disk without any lock and puts what it found into memory
 * only if its
 * shard learned nothing meanwhile (shard.epoch), so an old row never hides a newer one. A FORGET that is
 * not on disk yet
 * stands in shard.forgets: while it does, old rows of the disk count as gone, or as doubted.
 * What is learned after a FORGET_ALL is compared with nothing that the disk still has (resolve() in queue.c).
 *
 * Locks: a shard's lock, then (inside) the queue's. The pool's is never held together with either.
 */
#pragma once
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include "common/clock.h"
#include "common/lock.h"
#include "common/map.h"
#include "index/index.h"
#include "metrics/metrics.h"

#define INDEX_APPLICATION_ID 0x68666331 /* "hfc1" */

/* --- sql.c --- */

enum statement {
#define STATEMENT(id, text) ST_##id,
#include "index/statements.def"
#undef STATEMENT
	ST_COUNT
};

struct conn {
	struct list node;                   /* in the pool */
	sqlite3 *db;                        /* owned */
	sqlite3_stmt *statements[ST_COUNT]; /* owned; NULL until first used */
	atomic_bool *is_damaged;            /* borrowed from the index */
};

int conn_open(const char *path, bool is_writer, atomic_bool *is_damaged, struct conn **ret_conn);
void conn_close(struct conn *c);
int sql_error(struct conn *c, int rc);
int sql_exec(struct conn *c, const char *text);
/* The first column of the first row; -ENODATA without one. */
int sql_pragma(struct conn *c, const char *text, int64_t *ret_value);
/* The statement, to be bound; then sql_row() and sql_stop(), or sql_run(). */
int sql_start(struct conn *c, enum statement id, sqlite3_stmt **ret_statement);
int sql_row(struct conn *c, sqlite3_stmt *st); /* 1 a row, 0 none (any more), -errno */
void sql_stop(sqlite3_stmt *st);
int sql_run(struct conn *c, sqlite3_stmt *st);
int sql_run_id(struct conn *c, enum statement id);
void sql_bind_str(sqlite3_stmt *st, int at, struct str s);
void sql_bind_str_or_null(sqlite3_stmt *st, int at, const char *s);
void sql_bind_text(sqlite3_stmt *st, int at, const char *s);
void sql_bind_bytes(sqlite3_stmt *st, int at, const void *bytes, size_t len);
void sql_bind_commit(sqlite3_stmt *st, int at, const char *commit);
void sql_bind_int(sqlite3_stmt *st, int at, int64_t value);
struct str sql_str(sqlite3_stmt *st, int column); /* borrowed until the next step */
char *sql_dup_or_null(sqlite3_stmt *st, int column);
int sql_copy(sqlite3_stmt *st, int column, void *ret_bytes, size_t len); /* -EBADMSG another length */
int sql_copy_commit(sqlite3_stmt *st, int column, char ret_commit[COMMIT_TEXT]);

struct readers {
	struct lock lock; /* rank INDEX; guards all below */
	pthread_cond_t all_back;
	struct list idle;
	unsigned idle_count, busy;
	bool is_closed;
	const char *path; /* borrowed from the index */
	atomic_bool *is_damaged;
};
void readers_init(struct readers *p, const char *path, atomic_bool *is_damaged);
void readers_done(struct readers *p);
struct conn *readers_take(struct readers *p);
void readers_give(struct readers *p, struct conn *c);
/* Nobody reads when it returns, and nobody gets a reader until readers_open(). */
void readers_close(struct readers *p);
void readers_open(struct readers *p);

/* --- schema.c --- */

/* The version of the database; -EPROTO newer than this program; -EBADMSG not ours. */
int schema_check(struct conn *c);
int schema_migrate(struct conn *c);
int schema_wipe(struct conn *c);
int setting_get(struct conn *c, const char *name, int64_t *ret_value);
int setting_put(struct conn *c, const char *name, int64_t value);

/* --- table.c --- */

enum row_kind {
	ROW_ALIAS,
	ROW_NAME,
	ROW_ENTRY, /* held or known absent */
	ROW_TREE,
	ROW_OBJECT, /* by SHA-256; only those that are there */
	ROW_COMMIT, /* only while a fact about it is not on disk */
	ROW_DOC,
	ROW_PUBLIC,
	ROW_IDENTITY,
	ROW_SHOWN, /* to a subject: what */
	ROW_GRANT,
	ROW_BLOB, /* by SHA-256 */
	ROW_GIT,  /* git id -> SHA-256; only as good as the ROW_BLOB it leads to */
	ROW_KINDS
};

enum value_state {
	VALUE_NONE, /* neither learned nor on disk */
	VALUE_HELD,
	VALUE_ABSENT, /* an entry that is known not to exist */
};

struct value {
	enum value_state state;
	int64_t journaled_at;
	union {
		struct {
			char *to;      /* ALIAS IDENTITY; owned */
			int64_t to_at; /* ALIAS: when it was last seen to be one */
		};
		struct {
			char commit[COMMIT_TEXT];
			int64_t checked_at;
		} name;
		struct content_id content; /* ENTRY */
		struct {
			uint64_t size;
			char commit[COMMIT_TEXT];
			char *path;      /* owned; NULL: no entry that names it was found */
			bool was_looked; /* for an entry, on disk */
		} object;
		struct doc *doc; /* owned */
		struct {
			enum access_level level;
			int64_t at;
		} access; /* PUBLIC GRANT SHOWN */
		struct {
			struct git_oid git;
			uint64_t size;
			int64_t used_at;
		} blob;
		struct digest sha256; /* GIT */
	};
};
void value_done(enum row_kind kind, struct value *v);
void value_copy(enum row_kind kind, const struct value *from, struct value *ret);
struct doc *doc_dup(const struct doc *from);

/* What a row is found by. Pointers are borrowed. */
#define KEY_INLINE 512
struct key {
	enum row_kind kind;
	unsigned shard;
	struct str repo, a, b; /* a: commit, revision, document key, subject, digest; b: path */
	struct str bytes;      /* all of it, unambiguous */
	char *heap;            /* owned; NULL: it fits inline */
	char inline_bytes[KEY_INLINE];
};
void key_init(struct key *k, enum row_kind kind, struct str repo, struct str a, struct str b);
static inline void key_done(struct key *k)
{
	free(k->heap);
}
#define SCOPED_KEY __attribute__((cleanup(key_done))) struct key
struct str key_repo(struct str bytes); /* the repo in the bytes of a key */
struct str key_a(struct str bytes);
struct str key_b(struct str bytes);

struct row {
	struct list clock; /* in its shard's clock while no pin holds it */
	uint32_t pins;     /* facts about it that are not on disk yet */
	enum row_kind kind;
	atomic_bool is_used;     /* since the clock's hand came by */
	atomic_bool is_touched;  /* BLOB: used_at is newer than on disk */
	_Atomic int64_t used_at; /* BLOB */
	struct value value;
	size_t key_len;
	char key[];
};

#define SHARDS 32 /* all may be locked at once, and ThreadSanitizer follows 64 locks of a thread */
struct shard {
	pthread_rwlock_t lock;         /* guards all below */
	uint64_t epoch;                /* counts what was learned here */
	struct map *rows[ROW_KINDS];   /* key -> struct row */
	struct list clocks[ROW_KINDS]; /* rows that may be given up, next victim first */
	struct map *forgets;   /* repo, or subject -> how many FORGETs of it are not on disk (uintptr_t) */
	size_t pinned_entries; /* so that a tree on disk knows whether to look here too */
};

struct table {
	struct shard shards[SHARDS];
	atomic_size_t counts[ROW_KINDS];
	size_t rows_max[ROW_KINDS];
	atomic_uint hand;
};
void table_init(struct table *t, size_t rows_max);
void table_done(struct table *t);
void shard_read(struct shard *s);
void shard_write(struct shard *s);
void shard_drop(struct shard *s);
/* All under the shard's lock. */
struct row *row_find(const struct shard *s, const struct key *k);
/* Finds or makes; may give up other rows for it. */
struct row *row_make(struct table *t, struct shard *s, const struct key *k, bool *ret_was_there);
void row_set(struct row *row, const struct value *take);
void row_pin(struct shard *s, struct row *row);
void row_unpin(struct table *t, struct shard *s, const struct key *k);
/* Gives up every row that is not pinned. Takes the locks itself. */
void table_drop_clean(struct table *t);

/* --- queue.c --- */

enum sameness { SAME_UNKNOWN, SAME_YES, SAME_NO };

/* A fact with all that it points to, in one allocation. */
struct item {
	struct list node;
	struct fact fact;
	struct doc doc;
	enum sameness same; /* YES: the row has this value and its journal has it too */
	bool is_new;        /* nothing was held under its key */
	bool is_unjournaled;
	bool is_dropped;
};
struct index_batch {
	struct item **items; /* owned, each */
	size_t count, room;
};
struct item *item_new(const struct fact *f);
struct index_batch *batch_new(void);
void batch_add(struct index_batch *b, struct item *item);
void batch_free(struct index_batch *b);

/* --- the room --- */

/* More waiting facts than this, and what can be learned again is not learned: the disk is stuck. */
#define QUEUE_MAX 200000
/* Facts that take something away are kept until the disk takes them; no more than this. */
#define OWED_MAX 10000

struct index {
	char *path;                /* owned */
	struct metrics *metrics;   /* borrowed */
	const struct clock *clock; /* borrowed */
	struct table table;
	struct readers readers;
	atomic_bool is_damaged;
	atomic_bool
		is_distrusted; /* rights on disk count as none: too much that takes away could not be written */

	/* the writer's: only the thread that called index_own_writer() last */
	struct conn *writer; /* owned */
	pthread_t owner;
	struct index_batch *failed; /* owned or NULL: could not be written, tried once more */
	struct index_batch *owed;   /* owned or NULL: tried until it is written */
	bool has_gaps, knows_gaps;  /* facts were given up; the database says so too */
	bool have_left;             /* the files of all in `leaving` are gone */
	struct buf memo_repo;       /* whose ids are below; valid within one transaction */
	int64_t memo_repo_id, memo_commit_id;
	char memo_commit[COMMIT_TEXT];
	size_t rebuild_added;

	struct lock queue_lock; /* rank INDEX_QUEUE; guards all below */
	struct list queue;      /* of struct item, oldest first */
	size_t queued;
	struct map *lost_trees; /* repo and commit whose entries were given up: never "known as a whole" */
	bool all_trees_lost;
	bool was_full; /* for one line in the log */
	void (*notify)(void *ctx);
	void *notify_ctx;
};
void writer_assert(const struct index *x);
/* The transaction of the writer; both also forget the memo. */
int writer_begin(struct index *x);
int writer_end(struct index *x, int r); /* r < 0: rolls back, returns r */

/* --- read.c --- */

#define ENTRY_KIND_ABSENT 2 /* after CONTENT_GIT and CONTENT_LFS */
int content_from_columns(sqlite3_stmt *st, int kind, int content, int size, struct content_id *ret);

/* 1 and *ret (the caller's, value_done()), 0 no such row, -errno. */
int read_row(struct conn *c, const struct key *k, struct value *ret);

/* --- news.c --- */

static inline struct str subject_str(const struct fact *f)
{
	return (struct str){ (const char *)f->subject, SUBJECT_BYTES };
}

static inline struct str commit_str(const char *commit)
{
	return (struct str){ commit, COMMIT_HEX };
}

static inline struct str digest_str(const struct digest *d)
{
	return (struct str){ (const char *)d->bytes, SHA256_BYTES };
}

static inline struct str git_str(const struct git_oid *g)
{
	return (struct str){ (const char *)g->bytes, SHA1_BYTES };
}

#define FACT_KEYS_MAX 2
/* The rows that a fact is about, the one it fills first. Returns how many. */
unsigned fact_keys(const struct fact *f, struct key keys[FACT_KEYS_MAX]);
void value_from_fact(const struct fact *f, struct value *ret);
/* Does the fact say what is known already? */
enum sameness fact_compare(const struct fact *f, const struct value *known);
/* Nothing about it would change, not even a time that somebody reads. */
bool fact_is_old_news(const struct fact *f, enum sameness same, const struct value *known);
/* It takes something away: what is on disk without it would be wrong, not only less. */
bool fact_is_kept(const struct fact *f);

/* --- learn.c --- */

struct push {
	struct index_batch *batch; /* NULL: to the queue */
	bool was_empty;
};
/* With the lock of the fact's shard. */
void push_locked(struct index *x, struct push *p, struct item *item);
/* The batch's facts are on disk, or given up (is_lost). */
void learn_settle(struct index *x, struct index_batch *b, bool is_lost);
bool tree_is_lost(struct index *x, struct str repo, const char *commit);

/* --- forget.c --- */

void learn_forget(struct index *x, const struct fact *f, struct push *p);
void learn_forget_all(struct index *x, const struct fact *f, struct push *p);
void learn_forget_grants(struct index *x, const struct fact *f, struct push *p);
void learn_hide(struct index *x, const struct fact *f, struct push *p);
/* It is on disk, or given up. */
void settle_forget(struct index *x, const struct fact *f);
/*
 * While a FORGET that is not on disk covers the key: what the disk says about it does not count, or (COVERS_DOUBT) is to be
 * doubted. Shard's lock.
 */
enum cover { COVERS_NOT, COVERS_DOUBT, COVERS_ALL };
enum cover forget_covers(const struct shard *s, const struct key *k);
/* Of a name or a document: no longer believed without asking, and the next that says the same goes into the journal. */
void value_doubt(enum row_kind kind, struct value *v);
/* The same for all of a repo's rows; takes the shard's lock. */
bool repo_is_covered(struct index *x, struct str repo);

/* --- find.c --- */

/* What is known of a row: 1 held or absent, 0 nothing (or the disk cannot be read). *ret is the caller's. */
int find_row(struct index *x, const struct key *k, struct value *ret);
int find_blob_of_git(struct index *x, const struct git_oid *git, struct digest *ret_sha256);

/* What the disk says about the row: 1, 0, -errno. *ret is the caller's. */
int find_on_disk(struct index *x, const struct key *k, struct value *ret);

/* --- write.c --- */

void memo_reset(struct index *x);
int apply_fact(struct index *x, const struct item *item);
/* -ENODATA: there is none and it was not to be made. */
int write_repo_id(struct index *x, struct str repo, bool may_add, int64_t *ret_id);

/* --- erase.c --- */

int apply_forget(struct index *x, const struct fact *f);
int apply_forget_grants(struct index *x, const struct fact *f);
int apply_forget_all(struct index *x, const struct fact *f);
int apply_hide(struct index *x, const struct fact *f);
static inline bool git_oid_is_none(const struct git_oid *git)
{
	static const struct git_oid none;

	return git_oid_eq(git, &none);
}
static inline bool content_is_git(const struct content_id *c)
{
	return c->kind == CONTENT_GIT;
}

/* --- care.c --- */

/* Runs a check of the database for at most this time. -EBADMSG damaged. */
int index_check(struct index *x, const char *pragma, uint64_t ms_max);

/* --- index.c --- */

/* Closes the database, puts the file aside and opens an empty one. */
int index_replace_file(struct index *x);
