/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/write - one fact as SQL, within a transaction of the writer.
 *
 * Owns      the ids of the repo and the commit last used: facts come in runs of one repo.
 * Threads   the writer's.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/banned.h"

/* --- ids --- */

void memo_reset(struct index *x)
{
	buf_reset(&x->memo_repo);
	x->memo_repo_id = 0;
	x->memo_commit_id = 0;
}

static int run_for_id(struct conn *c, sqlite3_stmt *find, sqlite3_stmt *add, int64_t *ret_id)
{
	int r = sql_row(c, find);

	if (r > 0)
		*ret_id = sqlite3_column_int64(find, 0);
	sql_stop(find);
	if (r != 0 || !add)
		return r < 0 ? r : r > 0 ? 0 : -ENODATA;
	r = sql_run(c, add);
	if (r == 0)
		*ret_id = sqlite3_last_insert_rowid(c->db);
	return r;
}

/* -ENODATA: there is none and it was not to be made. */
int write_repo_id(struct index *x, struct str repo, bool may_add, int64_t *ret_id)
{
	sqlite3_stmt *find = NULL, *add = NULL;
	int r;

	if (x->memo_repo_id && str_eq(buf_str(&x->memo_repo), repo)) {
		*ret_id = x->memo_repo_id;
		return 0;
	}
	r = sql_start(x->writer, ST_FIND_REPO, &find);
	if (r == 0 && may_add)
		r = sql_start(x->writer, ST_ADD_REPO, &add);
	if (r < 0)
		return r;
	sql_bind_str(find, 1, repo);
	if (add)
		sql_bind_str(add, 1, repo);
	r = run_for_id(x->writer, find, add, ret_id);
	if (r < 0)
		return r;
	memo_reset(x);
	if (buf_append_str(&x->memo_repo, repo) == 0)
		x->memo_repo_id = *ret_id;
	return 0;
}

static int commit_id(struct index *x, struct str repo, const char *commit, int64_t *ret_id)
{
	sqlite3_stmt *find = NULL, *add = NULL;
	int64_t of;
	int r = write_repo_id(x, repo, true, &of);

	if (r < 0)
		return r;
	if (x->memo_commit_id && memcmp(x->memo_commit, commit, COMMIT_HEX) == 0) {
		*ret_id = x->memo_commit_id;
		return 0;
	}
	r = sql_start(x->writer, ST_FIND_COMMIT, &find);
	if (r == 0)
		r = sql_start(x->writer, ST_ADD_COMMIT, &add);
	if (r < 0)
		return r;
	sql_bind_int(find, 1, of);
	sql_bind_commit(find, 2, commit);
	sql_bind_int(add, 1, of);
	sql_bind_commit(add, 2, commit);
	r = run_for_id(x->writer, find, add, ret_id);
	if (r == 0) {
		memcpy(x->memo_commit, commit, COMMIT_TEXT);
		x->memo_commit_id = *ret_id;
	}
	return r;
}

/* --- facts --- */

static int64_t journaled_at(const struct item *item)
{
	if (item->is_unjournaled)
		return 0;
	return item->fact.at > 0 ? item->fact.at : 1;
}

static int apply_alias(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	bool is_drop = f->to.len == 0 || str_eq(f->to, f->repo);
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, is_drop ? ST_DROP_ALIAS : ST_PUT_ALIAS, &st);

	if (r < 0)
		return r;
	sql_bind_str(st, 1, f->repo);
	if (!is_drop) {
		sql_bind_str(st, 2, f->to);
		sql_bind_int(st, 3, f->at);
		sql_bind_int(st, 4, journaled_at(item));
		sql_bind_int(st, 5, item->same == SAME_YES);
	}
	return sql_run(x->writer, st);
}

static int apply_name(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	sqlite3_stmt *st = NULL;
	int64_t repo, commit;
	int r = commit_id(x, f->repo, f->commit, &commit);

	if (r == 0)
		r = write_repo_id(x, f->repo, true, &repo);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_NAME, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_str(st, 2, f->revision);
	sql_bind_commit(st, 3, f->commit);
	sql_bind_int(st, 4, f->at);
	sql_bind_int(st, 5, journaled_at(item));
	sql_bind_int(st, 6, item->same == SAME_YES);
	return sql_run(x->writer, st);
}

static int apply_entry(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	const struct content_id *c = &f->content;
	sqlite3_stmt *st = NULL;
	int64_t commit;
	int r;

	if (f->kind == FACT_ENTRY && item->same == SAME_YES)
		return 0; /* it is there, word for word; what is absent may have been forgotten in between */
	r = commit_id(x, f->repo, f->commit, &commit);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_ENTRY, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, commit);
	sql_bind_str(st, 2, f->path);
	if (f->kind == FACT_ABSENT) {
		sql_bind_int(st, 3, ENTRY_KIND_ABSENT);
		sql_bind_int(st, 5, 0);
	} else {
		sql_bind_int(st, 3, c->kind);
		sql_bind_bytes(st, 4, content_is_git(c) ? c->git.bytes : c->sha256.bytes,
			       content_is_git(c) ? SHA1_BYTES : SHA256_BYTES);
		sql_bind_int(st, 5, (int64_t)c->size);
	}
	sql_bind_int(st, 6, f->at);
	sql_bind_int(st, 7, journaled_at(item));
	sql_bind_int(st, 8, item->same == SAME_YES);
	return sql_run(x->writer, st);
}

static int apply_object(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r;

	if (item->same == SAME_YES)
		return 0; /* by a row of its own or by an entry */
	r = write_repo_id(x, f->repo, true, &repo);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_OBJECT, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_bytes(st, 2, f->content.sha256.bytes, SHA256_BYTES);
	sql_bind_int(st, 3, (int64_t)f->content.size);
	sql_bind_int(st, 4, f->at);
	sql_bind_int(st, 5, journaled_at(item));
	return sql_run(x->writer, st);
}

static int apply_tree(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	sqlite3_stmt *st = NULL;
	int64_t commit;
	int r;

	if (item->same == SAME_YES || tree_is_lost(x, f->repo, f->commit))
		return 0;
	r = commit_id(x, f->repo, f->commit, &commit);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_TREE, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, commit);
	sql_bind_int(st, 2, f->at > 0 ? f->at : 1);
	sql_bind_int(st, 3, (int64_t)f->size);
	sql_bind_int(st, 4, journaled_at(item));
	return sql_run(x->writer, st);
}

static int apply_doc(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	const struct doc *d = f->doc;
	sqlite3_stmt *st = NULL;
	int64_t repo, commit;
	int r = write_repo_id(x, f->repo, true, &repo);

	if (r == 0 && d->commit[0])
		r = commit_id(x, f->repo, d->commit, &commit);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_DOC, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_str(st, 2, f->path);
	sql_bind_bytes(st, 3, d->body.bytes, SHA256_BYTES);
	sql_bind_int(st, 4, (int64_t)d->body_size);
	sql_bind_int(st, 5, d->fetched_at);
	sql_bind_str_or_null(st, 6, d->content_type);
	sql_bind_str_or_null(st, 7, d->link_next);
	if (d->commit[0])
		sql_bind_commit(st, 8, d->commit);
	sql_bind_int(st, 9, journaled_at(item));
	sql_bind_int(st, 10, item->same == SAME_YES);
	return sql_run(x->writer, st);
}

static int apply_public(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	bool is_drop = f->level == ACCESS_NONE;
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r = write_repo_id(x, f->repo, !is_drop, &repo);

	if (r == -ENODATA)
		return 0;
	if (r == 0)
		r = sql_start(x->writer, is_drop ? ST_DROP_PUBLIC : ST_PUT_PUBLIC, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	if (!is_drop) {
		sql_bind_int(st, 2, f->level);
		sql_bind_int(st, 3, f->at);
		sql_bind_int(st, 4, journaled_at(item));
		sql_bind_int(st, 5, item->same == SAME_YES);
	}
	return sql_run(x->writer, st);
}

static int apply_grant(struct index *x, const struct fact *f)
{
	bool is_drop = f->level == ACCESS_NONE;
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r = write_repo_id(x, f->repo, !is_drop, &repo);

	if (r == -ENODATA)
		return 0;
	if (r == 0)
		r = sql_start(x->writer, is_drop ? ST_DROP_GRANT : ST_PUT_GRANT, &st);
	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, f->subject, SUBJECT_BYTES);
	sql_bind_int(st, 2, repo);
	if (!is_drop) {
		sql_bind_int(st, 3, f->level);
		sql_bind_int(st, 4, f->at);
	}
	return sql_run(x->writer, st);
}

/* 1: another blob has this git id; 0: free, or its own. */
static int git_is_taken(struct index *x, const struct fact *f)
{
	struct digest holder;
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, ST_FIND_GIT, &st);

	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, f->git.bytes, SHA1_BYTES);
	r = sql_row(x->writer, st);
	if (r > 0 && sql_copy(st, 0, holder.bytes, SHA256_BYTES) == 0)
		r = !digest_eq(&holder, &f->sha256);
	sql_stop(st);
	return r;
}

static int run_for_digest(struct index *x, enum statement id, const struct digest *sha256)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, id, &st);

	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, sha256->bytes, SHA256_BYTES);
	return sql_run(x->writer, st);
}

static int apply_blob(struct index *x, const struct fact *f)
{
	int is_taken = git_oid_is_none(&f->git) ? 1 : git_is_taken(x, f);
	sqlite3_stmt *st = NULL;
	int r = is_taken < 0 ? is_taken : sql_start(x->writer, ST_PUT_BLOB, &st);

	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, f->sha256.bytes, SHA256_BYTES);
	if (!is_taken)
		sql_bind_bytes(st, 2, f->git.bytes, SHA1_BYTES);
	sql_bind_int(st, 3, (int64_t)f->size);
	sql_bind_int(st, 4, f->at);
	r = sql_run(x->writer, st);
	return r < 0 ? r : run_for_digest(x, ST_DROP_LEAVING, &f->sha256);
}

/*
 * Documents whose body it was go with it: no row may lead to a blob that is not there (I4). The file goes after the commit;
 * a crash before that must not leave a file that nobody knows and nobody evicts.
 */
static int apply_blob_gone(struct index *x, const struct fact *f)
{
	int r = run_for_digest(x, ST_DROP_BLOB, &f->sha256);

	if (r == 0)
		r = run_for_digest(x, ST_DROP_DOCS_OF_BODY, &f->sha256);
	if (r == 0)
		r = run_for_digest(x, ST_ADD_LEAVING, &f->sha256);
	return r;
}

static int apply_identity(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r;

	if (item->same == SAME_YES)
		return 0;
	r = write_repo_id(x, f->repo, true, &repo);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_IDENTITY, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_str(st, 2, f->to);
	sql_bind_int(st, 3, journaled_at(item));
	return sql_run(x->writer, st);
}

static int apply_shown(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r;

	r = write_repo_id(x, f->repo, true, &repo);
	if (r == 0)
		r = sql_start(x->writer, ST_PUT_SHOWN, &st);
	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_bytes(st, 2, f->subject, SUBJECT_BYTES);
	sql_bind_str(st, 3, f->path);
	sql_bind_int(st, 4, f->level);
	sql_bind_int(st, 5, f->at);
	sql_bind_int(st, 6, journaled_at(item));
	sql_bind_int(st, 7, item->same == SAME_YES);
	return sql_run(x->writer, st);
}

int apply_fact(struct index *x, const struct item *item)
{
	const struct fact *f = &item->fact;

	if (item->is_dropped)
		return 0;
	switch (f->kind) {
	case FACT_ALIAS:
		return apply_alias(x, item);
	case FACT_NAME:
		return apply_name(x, item);
	case FACT_ENTRY:
	case FACT_ABSENT:
		return apply_entry(x, item);
	case FACT_OBJECT:
		return apply_object(x, item);
	case FACT_TREE:
		return apply_tree(x, item);
	case FACT_DOC:
		return apply_doc(x, item);
	case FACT_PUBLIC:
		return apply_public(x, item);
	case FACT_GRANT:
		return apply_grant(x, f);
	case FACT_BLOB:
		return apply_blob(x, f);
	case FACT_BLOB_GONE:
		return apply_blob_gone(x, f);
	case FACT_FORGET:
		return apply_forget(x, f);
	case FACT_FORGET_GRANTS:
		return apply_forget_grants(x, f);
	case FACT_FORGET_ALL:
		return apply_forget_all(x, f);
	case FACT_IDENTITY:
		return apply_identity(x, item);
	case FACT_SHOWN:
		return apply_shown(x, item);
	case FACT_HIDE:
		return apply_hide(x, f);
	case FACT_USE:
		break;
	}
	return 0;
}
