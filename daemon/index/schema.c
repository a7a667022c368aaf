/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/schema - the tables, and how an older database becomes a newer one.
 *
 * To change a table: add one text to `migrations`; never touch one that was released. Each runs in one transaction that
 * also counts user_version up, so that a crash leaves the old database or the new one. Going back to an older program:
 * delete the file, the index is rebuilt.
 *
 *   repos ─┬─ commits ─── entries    kind 0 git, 1 LFS, 2 known to be absent; a commit with tree_at is known as a whole
 *          ├─ names                  revision -> commit
 *          ├─ docs                   API answers; their bodies are blobs
 *          ├─ publics, grants        who may read what
 *          ├─ identities             the Hub's own id of the repo: another one is another repo
 *          ├─ shown                  to whom upstream has shown which commit, document or object
 *          ├─ objects                what the repo holds by SHA-256 although no entry is known to name it
 *   aliases                          old name -> canonical name of a repo
 *   blobs                            what the store holds, by both names, and when it was last read
 *   leaving                          blobs that lost their row and whose files may be there still
 *   settings                         is_complete, has_gaps, checked_at
 *
 * journaled_at says when the row was last written to the repo's journal; 0: the journal lacks it.
 */
#include "index/priv.h"

#include <errno.h>
#include <stdio.h>

#include "common/banned.h"

static const char *const migrations[] = {
	/* 1 */
	"CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE repos (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);"
	"CREATE TABLE commits (id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL REFERENCES repos (id), hash "
	"BLOB NOT NULL,"
	" tree_at INTEGER NOT NULL DEFAULT 0, tree_entries INTEGER NOT NULL DEFAULT 0,"
	" tree_journaled_at INTEGER NOT NULL DEFAULT 0, UNIQUE (repo_id, hash));"
	"CREATE TABLE entries (commit_id INTEGER NOT NULL REFERENCES commits (id), path BLOB NOT NULL,"
	" kind INTEGER NOT NULL, content BLOB, size INTEGER NOT NULL, at INTEGER NOT NULL, journaled_at "
	"INTEGER NOT NULL,"
	" PRIMARY KEY (commit_id, path)) WITHOUT ROWID;"
	"CREATE INDEX entries_absent ON entries (commit_id) WHERE kind = 2;"
	"CREATE INDEX entries_absent_at ON entries (at) WHERE kind = 2;"
	"CREATE TABLE names (repo_id INTEGER NOT NULL REFERENCES repos (id), revision BLOB NOT NULL, hash "
	"BLOB NOT NULL,"
	" checked_at INTEGER NOT NULL, journaled_at INTEGER NOT NULL, PRIMARY KEY (repo_id, revision)) "
	"WITHOUT ROWID;"
	"CREATE TABLE docs (repo_id INTEGER NOT NULL REFERENCES repos (id), key BLOB NOT NULL, body BLOB NOT "
	"NULL,"
	" body_size INTEGER NOT NULL, fetched_at INTEGER NOT NULL, content_type BLOB, link_next BLOB, hash "
	"BLOB,"
	" journaled_at INTEGER NOT NULL, PRIMARY KEY (repo_id, key)) WITHOUT ROWID;"
	"CREATE INDEX docs_body ON docs (body);"
	"CREATE TABLE publics (repo_id INTEGER PRIMARY KEY REFERENCES repos (id), level INTEGER NOT NULL,"
	" at INTEGER NOT NULL, journaled_at INTEGER NOT NULL);"
	"CREATE TABLE grants (subject BLOB NOT NULL, repo_id INTEGER NOT NULL REFERENCES repos (id), level "
	"INTEGER NOT NULL,"
	" at INTEGER NOT NULL, PRIMARY KEY (subject, repo_id)) WITHOUT ROWID;"
	"CREATE INDEX grants_repo ON grants (repo_id);"
	"CREATE TABLE aliases (name BLOB PRIMARY KEY, target BLOB NOT NULL, at INTEGER NOT NULL,"
	" journaled_at INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE blobs (sha256 BLOB NOT NULL UNIQUE, git BLOB UNIQUE, size INTEGER NOT NULL,"
	" used_at INTEGER NOT NULL);"
	"CREATE INDEX blobs_used ON blobs (used_at);"
	"CREATE TABLE leaving (sha256 BLOB PRIMARY KEY) WITHOUT ROWID;",
	/* 2 */
	"CREATE TABLE objects (repo_id INTEGER NOT NULL REFERENCES repos (id), sha256 BLOB NOT NULL,"
	" size INTEGER NOT NULL, at INTEGER NOT NULL, journaled_at INTEGER NOT NULL,"
	" PRIMARY KEY (repo_id, sha256)) WITHOUT ROWID;"
	"CREATE INDEX objects_at ON objects (at);"
	"CREATE INDEX entries_content ON entries (content, commit_id) WHERE kind = 1;",
	/* 3 */
	"CREATE TABLE identities (repo_id INTEGER PRIMARY KEY REFERENCES repos (id), hub_id BLOB NOT NULL,"
	" journaled_at INTEGER NOT NULL);",
	/* 4: the rows that are absent are found by their age, and counted by that as well */
	"CREATE TABLE shown (repo_id INTEGER NOT NULL REFERENCES repos (id), subject BLOB NOT NULL, what "
	"BLOB "
	"NOT NULL,"
	" level INTEGER NOT NULL, at INTEGER NOT NULL, journaled_at INTEGER NOT NULL,"
	" PRIMARY KEY (repo_id, subject, what)) WITHOUT ROWID;"
	"CREATE INDEX shown_at ON shown (at);"
	"DROP INDEX entries_absent;",
};
#define VERSION ((int)(sizeof(migrations) / sizeof(migrations[0])))

/* Children before parents, as the references ask. */
static const char wipe_text[] =
	"DELETE FROM entries; DELETE FROM names; DELETE FROM docs; DELETE FROM publics; DELETE FROM objects;"
	"DELETE FROM identities; DELETE FROM shown;"
	"DELETE FROM grants; DELETE FROM aliases; DELETE FROM blobs; DELETE FROM commits;"
	"DELETE FROM repos; DELETE FROM leaving;";

static int migrate_to(struct conn *c, int version)
{
	char stamp[96];
	int r;

	(void)snprintf(stamp, sizeof(stamp), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
		       INDEX_APPLICATION_ID, version);
	r = sql_exec(c, "BEGIN IMMEDIATE");
	if (r < 0)
		return r;
	r = sql_exec(c, migrations[version - 1]);
	if (r == 0)
		r = sql_exec(c, stamp);
	if (r == 0)
		r = sql_exec(c, "COMMIT");
	if (r < 0)
		(void)sql_exec(c, "ROLLBACK"); /* the error that counts is the first */
	return r;
}

int schema_check(struct conn *c)
{
	int64_t application, version;
	int r;

	r = sql_pragma(c, "PRAGMA application_id", &application);
	if (r == 0)
		r = sql_pragma(c, "PRAGMA user_version", &version);
	if (r < 0)
		return r;
	if (version > VERSION && application == INDEX_APPLICATION_ID)
		return -EPROTO;
	/* somebody else's database under our name: as bad as no database at all */
	if (version > 0 && application != INDEX_APPLICATION_ID)
		return -EBADMSG;
	return (int)version;
}

int schema_migrate(struct conn *c)
{
	int version = schema_check(c);

	while (version >= 0 && version < VERSION) {
		int r = migrate_to(c, version + 1);

		if (r < 0)
			return r;
		version++;
	}
	return version < 0 ? version : 0;
}

int schema_wipe(struct conn *c)
{
	return sql_exec(c, wipe_text);
}

int setting_get(struct conn *c, const char *name, int64_t *ret_value)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(c, ST_GET_SETTING, &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, name);
	r = sql_row(c, st);
	if (r > 0)
		*ret_value = sqlite3_column_int64(st, 0);
	sql_stop(st);
	return r < 0 ? r : r == 0 ? -ENODATA : 0;
}

int setting_put(struct conn *c, const char *name, int64_t value)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(c, ST_PUT_SETTING, &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, name);
	sql_bind_int(st, 2, value);
	return sql_run(c, st);
}
