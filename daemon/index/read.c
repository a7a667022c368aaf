/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/read - one row from the disk as a value, for each kind of row.
 *
 * Threads   whoever has the connection.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

static int read_alias(sqlite3_stmt *st, struct value *v)
{
	v->to = str_dup(sql_str(st, 0));
	v->journaled_at = sqlite3_column_int64(st, 1);
	v->to_at = sqlite3_column_int64(st, 2);
	return 0;
}

static int read_identity(sqlite3_stmt *st, struct value *v)
{
	v->to = str_dup(sql_str(st, 0));
	v->journaled_at = sqlite3_column_int64(st, 1);
	return 0;
}

static int read_name(sqlite3_stmt *st, struct value *v)
{
	v->name.checked_at = sqlite3_column_int64(st, 1);
	v->journaled_at = sqlite3_column_int64(st, 2);
	return sql_copy_commit(st, 0, v->name.commit);
}

int content_from_columns(sqlite3_stmt *st, int kind, int content, int size, struct content_id *ret)
{
	bool is_git = sqlite3_column_int(st, kind) == CONTENT_GIT;

	memset(ret, 0, sizeof(*ret));
	ret->kind = is_git ? CONTENT_GIT : CONTENT_LFS;
	ret->size = (uint64_t)sqlite3_column_int64(st, size);
	if (is_git)
		return sql_copy(st, content, ret->git.bytes, SHA1_BYTES);
	return sql_copy(st, content, ret->sha256.bytes, SHA256_BYTES);
}

static int read_entry(sqlite3_stmt *st, struct value *v)
{
	v->journaled_at = sqlite3_column_int64(st, 3);
	if (sqlite3_column_int(st, 0) != ENTRY_KIND_ABSENT)
		return content_from_columns(st, 0, 1, 2, &v->content);
	v->state = VALUE_ABSENT;
	return 0;
}

static int read_object(sqlite3_stmt *st, struct value *v)
{
	v->object.size = (uint64_t)sqlite3_column_int64(st, 0);
	v->object.was_looked = true;
	v->journaled_at = sqlite3_column_int64(st, 3);
	if (sqlite3_column_type(st, 1) == SQLITE_NULL)
		return 0;
	v->object.path = str_dup(sql_str(st, 2));
	return sql_copy_commit(st, 1, v->object.commit);
}

static int read_tree(sqlite3_stmt *st, struct value *v)
{
	v->journaled_at = sqlite3_column_int64(st, 0);
	return 0;
}

static int read_doc(sqlite3_stmt *st, struct value *v)
{
	struct doc *d = xcalloc(1, sizeof(*d));

	v->doc = d; /* the value's from here on, also when the row is bad */
	d->body_size = (uint64_t)sqlite3_column_int64(st, 1);
	d->fetched_at = sqlite3_column_int64(st, 2);
	d->content_type = sql_dup_or_null(st, 3);
	d->link_next = sql_dup_or_null(st, 4);
	v->journaled_at = sqlite3_column_int64(st, 6);
	if (sqlite3_column_type(st, 5) != SQLITE_NULL && sql_copy_commit(st, 5, d->commit) < 0)
		return -EBADMSG;
	return sql_copy(st, 0, d->body.bytes, SHA256_BYTES);
}

static int read_access(sqlite3_stmt *st, struct value *v)
{
	int level = sqlite3_column_int(st, 0);

	if (level != ACCESS_META && level != ACCESS_FILES)
		return -EBADMSG;
	v->access.level = level == ACCESS_FILES ? ACCESS_FILES : ACCESS_META;
	v->access.at = sqlite3_column_int64(st, 1);
	return 0;
}

static int read_public(sqlite3_stmt *st, struct value *v)
{
	v->journaled_at = sqlite3_column_int64(st, 2);
	return read_access(st, v);
}

static int read_blob(sqlite3_stmt *st, struct value *v)
{
	v->blob.size = (uint64_t)sqlite3_column_int64(st, 1);
	v->blob.used_at = sqlite3_column_int64(st, 2);
	if (sqlite3_column_type(st, 0) == SQLITE_NULL)
		return 0;
	return sql_copy(st, 0, v->blob.git.bytes, SHA1_BYTES);
}

static int read_git(sqlite3_stmt *st, struct value *v)
{
	return sql_copy(st, 0, v->sha256.bytes, SHA256_BYTES);
}

enum binding { BY_REPO, BY_REPO_AND_A, BY_REPO_A_AND_B, BY_REPO_AND_COMMIT, BY_A_AND_REPO, BY_A };

static const struct {
	enum statement statement;
	enum binding binding;
	int (*read)(sqlite3_stmt *st, struct value *v);
} readers_of[ROW_KINDS] = {
	[ROW_ALIAS] = { ST_FIND_ALIAS, BY_REPO, read_alias },
	[ROW_NAME] = { ST_FIND_NAME, BY_REPO_AND_A, read_name },
	[ROW_ENTRY] = { ST_FIND_ENTRY, BY_REPO_AND_COMMIT, read_entry },
	[ROW_OBJECT] = { ST_FIND_OBJECT, BY_REPO_AND_A, read_object },
	[ROW_TREE] = { ST_FIND_TREE, BY_REPO_AND_COMMIT, read_tree },
	[ROW_DOC] = { ST_FIND_DOC, BY_REPO_AND_A, read_doc },
	[ROW_PUBLIC] = { ST_FIND_PUBLIC, BY_REPO, read_public },
	[ROW_IDENTITY] = { ST_FIND_IDENTITY, BY_REPO, read_identity },
	[ROW_SHOWN] = { ST_FIND_SHOWN, BY_REPO_A_AND_B, read_public },
	[ROW_GRANT] = { ST_FIND_GRANT, BY_A_AND_REPO, read_access },
	[ROW_BLOB] = { ST_FIND_BLOB, BY_A, read_blob },
	[ROW_GIT] = { ST_FIND_GIT, BY_A, read_git },
};

static void bind(sqlite3_stmt *st, enum binding binding, const struct key *k)
{
	switch (binding) {
	case BY_REPO:
		sql_bind_str(st, 1, k->repo);
		break;
	case BY_REPO_AND_A:
		sql_bind_str(st, 1, k->repo);
		sql_bind_str(st, 2, k->a);
		break;
	case BY_REPO_A_AND_B:
		sql_bind_str(st, 1, k->repo);
		sql_bind_str(st, 2, k->a);
		sql_bind_str(st, 3, k->b);
		break;
	case BY_REPO_AND_COMMIT:
		sql_bind_str(st, 1, k->repo);
		sql_bind_commit(st, 2, k->a.ptr);
		if (k->kind == ROW_ENTRY)
			sql_bind_str(st, 3, k->b);
		break;
	case BY_A_AND_REPO:
		sql_bind_str(st, 1, k->a);
		sql_bind_str(st, 2, k->repo);
		break;
	case BY_A:
		sql_bind_str(st, 1, k->a);
		break;
	}
}

int read_row(struct conn *c, const struct key *k, struct value *ret)
{
	struct value v = { .state = VALUE_HELD };
	sqlite3_stmt *st = NULL;
	int r;

	if (!readers_of[k->kind].read)
		return 0;
	r = sql_start(c, readers_of[k->kind].statement, &st);
	if (r < 0)
		return r;
	bind(st, readers_of[k->kind].binding, k);
	r = sql_row(c, st);
	if (r > 0) {
		int bad = readers_of[k->kind].read(st, &v);

		if (bad < 0) {
			value_done(k->kind, &v);
			r = sql_error(c, SQLITE_CORRUPT); /* a row that we would never write */
		} else {
			*ret = v;
		}
	}
	sql_stop(st);
	return r;
}
