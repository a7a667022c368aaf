/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/apply - facts into the database: one batch, one transaction.
 *
 * Owns      the ids of the repo and commit last used within a transaction.
 * Threads   the writer's.
 * Promises  (1) a batch is on disk as a whole or not at all.
 *           (2) a batch that failed is tried once more with the next one, then given up; facts that take rights away are
 *               never given up: they are tried until they are written, and if they are too many, all rights on disk
 *               count as none until they can be deleted.
 */
#include "index/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/log.h"

#include "common/banned.h"

void writer_assert(const struct index *x)
{
	/* two threads that write or checkpoint at once can corrupt the WAL (fixed in SQLite 3.51.3) */
	assert(pthread_equal(x->owner, pthread_self()));
}

void index_own_writer(struct index *x)
{
	x->owner = pthread_self();
}

void memo_reset(struct index *x)
{
	buf_reset(&x->memo_repo);
	x->memo_repo_id = 0;
	x->memo_commit_id = 0;
}

int writer_begin(struct index *x)
{
	writer_assert(x);
	memo_reset(x);
	return sql_run_id(x->writer, ST_BEGIN);
}

int writer_end(struct index *x, int r)
{
	memo_reset(x);
	if (r == 0)
		r = sql_run_id(x->writer, ST_COMMIT);
	if (r < 0 && x->writer && !sqlite3_get_autocommit(x->writer->db))
		(void)sql_run_id(x->writer, ST_ROLLBACK); /* the error that counts is the first */
	return r;
}

/* --- ids --- */

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
static int repo_id(struct index *x, struct str repo, bool may_add, int64_t *ret_id)
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
	int r = repo_id(x, repo, true, &of);

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

/* --- one fact --- */

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
		r = repo_id(x, f->repo, true, &repo);
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
	int r = repo_id(x, f->repo, true, &repo);

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
	int r = repo_id(x, f->repo, !is_drop, &repo);

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
	int r = repo_id(x, f->repo, !is_drop, &repo);

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

static int run_for_repo(struct index *x, enum statement id, int64_t repo)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, id, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	return sql_run(x->writer, st);
}

static int apply_forget(struct index *x, const struct fact *f)
{
	int64_t repo;
	int r = repo_id(x, f->repo, false, &repo);

	if (r < 0)
		return r == -ENODATA ? 0 : r;
	r = run_for_repo(x, ST_FORGET_NAMES, repo);
	if (r == 0)
		r = run_for_repo(x, ST_FORGET_DOCS, repo);
	if (r == 0)
		r = run_for_repo(x, ST_FORGET_ABSENT, repo);
	return r;
}

static int apply_forget_grants(struct index *x, const struct fact *f)
{
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r;

	if (f->repo.len) {
		r = repo_id(x, f->repo, false, &repo);
		return r == -ENODATA ? 0 : r < 0 ? r : run_for_repo(x, ST_FORGET_GRANTS_OF_REPO, repo);
	}
	r = sql_start(x->writer, ST_FORGET_GRANTS_OF_SUBJECT, &st);
	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, f->subject, SUBJECT_BYTES);
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
	case FACT_DENY:
	case FACT_USE:
		break;
	}
	return 0;
}

/* --- batches --- */

static int apply_items(struct index *x, const struct index_batch *b)
{
	for (size_t i = 0; b && i < b->count; i++) {
		int r = apply_fact(x, b->items[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

static int wipe_rights(struct index *x)
{
	return sql_exec(x->writer, "DELETE FROM grants; DELETE FROM publics;");
}

static int apply_all(struct index *x, const struct index_batch *b)
{
	int r = writer_begin(x);

	if (r < 0)
		return r;
	if (atomic_load(&x->is_distrusted))
		r = wipe_rights(x);
	if (r == 0 && x->have_left)
		r = sql_run_id(x->writer, ST_CLEAR_LEAVING);
	if (r == 0 && x->has_gaps && !x->knows_gaps)
		r = setting_put(x->writer, "has_gaps", 1);
	if (r == 0)
		r = apply_items(x, x->owed);
	if (r == 0)
		r = apply_items(x, x->failed);
	if (r == 0)
		r = apply_items(x, b);
	return writer_end(x, r);
}

static void settle_and_free(struct index *x, struct index_batch *b, bool is_lost)
{
	if (!b)
		return;
	learn_settle(x, b, is_lost);
	batch_free(b);
}

/* Too many revocations that cannot be written: from now on no right on disk counts. */
static void distrust(struct index *x)
{
	log_error("index", "revoked rights cannot be written: all rights on disk are void until they can", LOG_END);
	atomic_store(&x->is_distrusted, true);
	table_drop_clean(&x->table);
	settle_and_free(x, x->owed, true);
	x->owed = NULL;
}

/* Gives a batch up but for the facts that take rights away. */
static void give_up(struct index *x, struct index_batch *b)
{
	struct index_batch *lost = batch_new();

	if (!x->owed)
		x->owed = batch_new();
	for (size_t i = 0; i < b->count; i++)
		batch_add(fact_is_revocation(&b->items[i]->fact) ? x->owed : lost, b->items[i]);
	b->count = 0;
	batch_free(b);
	if (lost->count)
		x->has_gaps = true;
	settle_and_free(x, lost, true);
	if (x->owed->count > OWED_MAX)
		distrust(x);
}

int index_apply(struct index *x, struct index_batch *b)
{
	uint64_t began_us = clock_mono_us(x->clock);
	int r;

	writer_assert(x);
	if (b->count == 0 && !x->failed && !x->owed) {
		batch_free(b);
		return 0;
	}
	r = apply_all(x, b);
	if (x->metrics)
		metrics_observe_us(x->metrics, METRIC_INDEX_TRANSACTION, 0, 0, clock_mono_us(x->clock) - began_us);
	if (r < 0) {
		if (x->failed)
			give_up(x, x->failed);
		x->failed = b;
		return r;
	}
	atomic_store(&x->is_distrusted, false);
	x->knows_gaps = x->has_gaps;
	x->have_left = false;
	settle_and_free(x, x->owed, false);
	settle_and_free(x, x->failed, false);
	settle_and_free(x, b, false);
	x->owed = x->failed = NULL;
	return 0;
}
