/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/erase - facts that take something back, as SQL, within a transaction of the writer. What they mean is in forget.c.
 *
 * Threads   the writer's.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/banned.h"

static int run_for_repo(struct index *x, enum statement id, int64_t repo)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, id, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	return sql_run(x->writer, st);
}

static int run_for_repo_and(struct index *x, enum statement id, int64_t repo, struct str text)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(x->writer, id, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_str(st, 2, text);
	return sql_run(x->writer, st);
}

static int drop_name(struct index *x, int64_t repo, struct str revision)
{
	SCOPED_BUF segment = { 0 };
	int r = run_for_repo_and(x, ST_FORGET_NAME, repo, revision);

	buf_init(&segment, revision.len + 2);
	(void)buf_append_char(&segment, '/'); /* fits */
	(void)buf_append_str(&segment, revision);
	(void)buf_append_char(&segment, '/');
	return r < 0 ? r : run_for_repo_and(x, ST_FORGET_DOCS_ABOUT, repo, buf_str(&segment));
}

int apply_forget(struct index *x, const struct fact *f)
{
	int64_t repo;
	int r = write_repo_id(x, f->repo, false, &repo);

	if (r < 0)
		return r == -ENODATA ? 0 : r;
	if (f->revision.len)
		r = drop_name(x, repo, f->revision);
	if (r == 0)
		r = run_for_repo(x, ST_DOUBT_NAMES, repo);
	if (r == 0)
		r = run_for_repo(x, ST_DOUBT_DOCS, repo);
	return r;
}

int apply_forget_grants(struct index *x, const struct fact *f)
{
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r;

	if (f->repo.len) {
		r = write_repo_id(x, f->repo, false, &repo);
		return r == -ENODATA ? 0 : r < 0 ? r : run_for_repo(x, ST_FORGET_GRANTS_OF_REPO, repo);
	}
	r = sql_start(x->writer, ST_FORGET_GRANTS_OF_SUBJECT, &st);
	if (r < 0)
		return r;
	sql_bind_bytes(st, 1, f->subject, SUBJECT_BYTES);
	return sql_run(x->writer, st);
}

/* Children before parents. The commits go as well, and with them what the memo says about them. */
int apply_forget_all(struct index *x, const struct fact *f)
{
	static const enum statement steps[] = { ST_FORGET_NAMES,       ST_FORGET_ALL_DOCS,
						ST_FORGET_ALL_OBJECTS, ST_FORGET_ALL_ENTRIES,
						ST_FORGET_ALL_COMMITS, ST_FORGET_IDENTITY,
						ST_FORGET_ALL_SHOWN };
	int64_t repo;
	int r = write_repo_id(x, f->repo, false, &repo);

	if (r < 0)
		return r == -ENODATA ? 0 : r;
	memo_reset(x);
	for (size_t i = 0; r == 0 && i < sizeof(steps) / sizeof(steps[0]); i++)
		r = run_for_repo(x, steps[i], repo);
	return r;
}

int apply_hide(struct index *x, const struct fact *f)
{
	sqlite3_stmt *st = NULL;
	int64_t repo;
	int r = write_repo_id(x, f->repo, false, &repo);

	if (r == 0)
		r = sql_start(x->writer, f->level == ACCESS_NONE ? ST_DROP_SHOWN : ST_LOWER_SHOWN, &st);
	if (r < 0)
		return r == -ENODATA ? 0 : r;
	sql_bind_int(st, 1, repo);
	sql_bind_bytes(st, 2, f->subject, SUBJECT_BYTES);
	if (f->level != ACCESS_NONE)
		sql_bind_int(st, 3, f->level);
	return sql_run(x->writer, st);
}
