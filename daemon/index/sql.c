/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/sql - connections, prepared statements, errors of SQLite as errno, and the pool of readers.
 *
 * Owns      each connection's statements; the idle readers.
 * Never     knows what a table means.
 * Threads   a connection belongs to one thread at a time. The pool may be used from any; nobody waits in it but
 *           readers_close().
 * Promises  (1) only the writer can change or checkpoint the database: readers are opened read-only, with query_only, no
 *           automatic checkpoint and none when they close.
 *           (2) a finding of SQLite that the file is damaged is remembered (is_damaged) and comes back as -EBADMSG.
 */
#include "index/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Idle readers that are kept; more are opened when more threads look at once, and closed again. */
#define READERS_IDLE_MAX 32

static const char *const statement_texts[ST_COUNT] = {
#define STATEMENT(id, text) text,
#include "index/statements.def"
#undef STATEMENT
};

int sql_error(struct conn *c, int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_FORMAT:
		atomic_store(c->is_damaged, true);
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_INTERRUPT:
		return -EINTR;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	default:
		return -EIO;
	}
}

int sql_exec(struct conn *c, const char *text)
{
	if (!c)
		return -EIO;
	return sql_error(c, sqlite3_exec(c->db, text, NULL, NULL, NULL));
}

int sql_pragma(struct conn *c, const char *text, int64_t *ret_value)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(c->db, text, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(st, 0);
	(void)sqlite3_finalize(st); /* repeats the error of the step */
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENODATA : sql_error(c, rc);
}

int sql_start(struct conn *c, enum statement id, sqlite3_stmt **ret_statement)
{
	if (!c)
		return -EIO; /* a bad file was put aside and no new one could be made */
	if (!c->statements[id]) {
		int rc = sqlite3_prepare_v3(c->db, statement_texts[id], -1, SQLITE_PREPARE_PERSISTENT,
					    &c->statements[id], NULL);

		if (rc != SQLITE_OK)
			return sql_error(c, rc);
	}
	*ret_statement = c->statements[id];
	return 0;
}

int sql_row(struct conn *c, sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	return rc == SQLITE_ROW ? 1 : sql_error(c, rc);
}

void sql_stop(sqlite3_stmt *st)
{
	(void)sqlite3_reset(st); /* repeats the error of the step */
	(void)sqlite3_clear_bindings(st);
}

int sql_run(struct conn *c, sqlite3_stmt *st)
{
	int r = sql_row(c, st);

	sql_stop(st);
	return r < 0 ? r : 0;
}

int sql_run_id(struct conn *c, enum statement id)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(c, id, &st);

	return r < 0 ? r : sql_run(c, st);
}

void sql_bind_str(sqlite3_stmt *st, int at, struct str s)
{
	(void)sqlite3_bind_blob64(st, at, s.len ? s.ptr : "", s.len, SQLITE_STATIC);
}

void sql_bind_str_or_null(sqlite3_stmt *st, int at, const char *s)
{
	if (s)
		sql_bind_str(st, at, str_from(s));
	else
		(void)sqlite3_bind_null(st, at);
}

void sql_bind_text(sqlite3_stmt *st, int at, const char *s)
{
	(void)sqlite3_bind_text(st, at, s, -1, SQLITE_STATIC);
}

void sql_bind_bytes(sqlite3_stmt *st, int at, const void *bytes, size_t len)
{
	(void)sqlite3_bind_blob64(st, at, bytes, len, SQLITE_STATIC);
}

/* A commit as its 20 bytes; the text was checked when it was learned. */
void sql_bind_commit(sqlite3_stmt *st, int at, const char *commit)
{
	uint8_t hash[COMMIT_HEX / 2];
	int r = parse_hex((struct str){ commit, COMMIT_HEX }, hash, sizeof(hash));

	assert(r == 0);
	(void)sqlite3_bind_blob64(st, at, hash, sizeof(hash), SQLITE_TRANSIENT);
}

void sql_bind_int(sqlite3_stmt *st, int at, int64_t value)
{
	(void)sqlite3_bind_int64(st, at, value);
}

struct str sql_str(sqlite3_stmt *st, int column)
{
	const char *ptr = sqlite3_column_blob(st, column);

	return (struct str){ ptr, ptr ? (size_t)sqlite3_column_bytes(st, column) : 0 };
}

char *sql_dup_or_null(sqlite3_stmt *st, int column)
{
	if (sqlite3_column_type(st, column) == SQLITE_NULL)
		return NULL;
	return str_dup(sql_str(st, column));
}

int sql_copy(sqlite3_stmt *st, int column, void *ret_bytes, size_t len)
{
	struct str s = sql_str(st, column);

	if (s.len != len)
		return -EBADMSG;
	memcpy(ret_bytes, s.ptr, len);
	return 0;
}

int sql_copy_commit(sqlite3_stmt *st, int column, char ret_commit[COMMIT_TEXT])
{
	uint8_t hash[COMMIT_HEX / 2];
	int r = sql_copy(st, column, hash, sizeof(hash));

	if (r == 0)
		format_hex(hash, sizeof(hash), ret_commit);
	return r;
}

/* --- connections --- */

/* auto_vacuum counts only before the first table; journal_mode before the first transaction. */
static const char writer_pragmas[] =
	"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
	"PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA "
	"mmap_size = 0;"
	"PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 4000; PRAGMA "
	"journal_size_limit = 67108864;";
static const char reader_pragmas[] =
	"PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA trusted_schema = OFF;"
	"PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;";

int conn_open(const char *path, bool is_writer, atomic_bool *is_damaged, struct conn **ret_conn)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	int flags = SQLITE_OPEN_NOMUTEX |
		    (is_writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
	int r;

	c->is_damaged = is_damaged;
	r = sql_error(c, sqlite3_open_v2(path, &c->db, flags, NULL));
	if (r == 0)
		r = sql_error(c, sqlite3_busy_timeout(c->db, 5000));
	if (r == 0)
		r = sql_error(c, sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL));
	if (r == 0 && !is_writer)
		r = sql_error(c, sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL));
	if (r == 0)
		r = sql_exec(c, is_writer ? writer_pragmas : reader_pragmas);
	if (r < 0) {
		conn_close(c);
		return r;
	}
	*ret_conn = c;
	return 0;
}

void conn_close(struct conn *c)
{
	int rc;

	if (!c)
		return;
	for (int i = 0; i < ST_COUNT; i++)
		(void)sqlite3_finalize(c->statements[i]); /* repeats the error of its last step */
	rc = sqlite3_close(c->db);
	assert(rc == SQLITE_OK); /* a statement was left open */
	free(c);
}

/* --- the pool of readers --- */

void readers_init(struct readers *p, const char *path, atomic_bool *is_damaged)
{
	lock_init(&p->lock, LOCK_INDEX);
	(void)pthread_cond_init(&p->all_back, NULL);
	list_init(&p->idle);
	p->path = path;
	p->is_damaged = is_damaged;
}

void readers_done(struct readers *p)
{
	readers_close(p);
	(void)pthread_cond_destroy(&p->all_back);
	lock_done(&p->lock);
}

/* NULL: none to be had just now; what is asked is not known then. */
struct conn *readers_take(struct readers *p)
{
	struct conn *c = NULL;
	bool is_closed;

	lock_take(&p->lock);
	is_closed = p->is_closed;
	if (!is_closed) {
		p->busy++;
		if (!list_is_empty(&p->idle)) {
			c = LIST_ENTRY(p->idle.prev, struct conn,
				       node); /* the last one used: its cache is warm */
			list_remove(&c->node);
			p->idle_count--;
		}
	}
	lock_drop(&p->lock);
	if (c || is_closed)
		return c;
	if (conn_open(p->path, false, p->is_damaged, &c) == 0)
		return c;
	readers_give(p, NULL);
	return NULL;
}

void readers_give(struct readers *p, struct conn *c)
{
	lock_take(&p->lock);
	assert(p->busy > 0);
	if (c && !p->is_closed && p->idle_count < READERS_IDLE_MAX) {
		list_add_tail(&p->idle, &c->node);
		p->idle_count++;
		c = NULL;
	}
	/* closed before it is counted back: readers_close() waits for the descriptor too */
	if (c) {
		lock_drop(&p->lock);
		conn_close(c);
		lock_take(&p->lock);
	}
	if (--p->busy == 0)
		(void)pthread_cond_broadcast(&p->all_back);
	lock_drop(&p->lock);
}

void readers_close(struct readers *p)
{
	lock_take(&p->lock);
	p->is_closed = true;
	while (p->busy > 0) /* each is in the middle of one short read */
		(void)pthread_cond_wait(&p->all_back, &p->lock.mutex);
	while (!list_is_empty(&p->idle)) {
		struct conn *c = LIST_ENTRY(p->idle.next, struct conn, node);

		list_remove(&c->node);
		p->idle_count--;
		conn_close(c);
	}
	lock_drop(&p->lock);
}

void readers_open(struct readers *p)
{
	SCOPED_LOCK(&p->lock);

	p->is_closed = false;
}
