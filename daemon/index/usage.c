/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/usage - what is held of every repo, for people.
 *
 * One pass over all repos. Each blob remembers which repo named it first, and which named it last: so it is counted once for each
 * repo, and as shared from the second on. Every statement is a short one of its own, so that no checkpoint waits for the whole.
 *
 * Never     looks at what is not on disk yet: who wants that, has the keeper write it first.
 * Threads   any that may wait for the disk for long; one call takes some seconds where there are very many files.
 */
#include "index/priv.h"

#include <assert.h>
#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* 24 bytes of memory each. */
#define BLOBS_MAX ((size_t)16 << 20)
#define REPOS_MAX ((size_t)4 << 20)

struct noted {
	int64_t rowid;
	uint64_t size;
	uint32_t first, last; /* 1 + the place of the repo that named it; 0: none did */
};

struct survey {
	struct index *x;
	const struct usage_query *query;
	struct noted *blobs; /* owned, by rowid */
	size_t blob_count, blob_room;
	struct usage *usage;
	int64_t *ids; /* owned: of the repos, in the order of usage->rows */
	size_t id_room;
};

static bool is_stopped(const struct survey *s)
{
	return s->query->is_stopping && atomic_load(s->query->is_stopping);
}

/* --- one short statement with one number bound --- */

static int run_each(struct survey *s, enum statement id, int64_t bound,
		    int (*row)(struct survey *, sqlite3_stmt *, void *), void *ctx)
{
	struct conn *c = readers_take(&s->x->readers);
	sqlite3_stmt *st = NULL;
	int r = c ? sql_start(c, id, &st) : -EIO;

	if (r == 0) {
		sql_bind_int(st, 1, bound);
		while ((r = sql_row(c, st)) > 0) {
			r = is_stopped(s) ? -ECANCELED : row(s, st, ctx);
			if (r < 0)
				break;
		}
		sql_stop(st);
	}
	if (c)
		readers_give(&s->x->readers, c);
	return r;
}

/* --- blobs --- */

static int note_blob(struct survey *s, sqlite3_stmt *st, void *ctx)
{
	int64_t *last = ctx;

	if (s->blob_count == BLOBS_MAX)
		return -E2BIG;
	if (s->blob_count == s->blob_room) {
		s->blob_room = s->blob_room ? 2 * s->blob_room : 1024;
		s->blobs = xrealloc(s->blobs, s->blob_room * sizeof(*s->blobs));
	}
	*last = sqlite3_column_int64(st, 0);
	s->blobs[s->blob_count++] =
		(struct noted){ .rowid = *last, .size = (uint64_t)sqlite3_column_int64(st, 1) };
	return 0;
}

static int note_blobs(struct survey *s)
{
	int64_t last = -1;
	size_t before;
	int r;

	do {
		before = s->blob_count;
		r = run_each(s, ST_USAGE_BLOBS, last, note_blob, &last);
	} while (r == 0 && s->blob_count > before);
	return r;
}

static struct noted *find_noted(const struct survey *s, int64_t rowid)
{
	size_t low = 0, high = s->blob_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->blobs[middle].rowid < rowid)
			low = middle + 1;
		else
			high = middle;
	}
	/* a younger one came after we looked */
	return low < s->blob_count && s->blobs[low].rowid == rowid ? &s->blobs[low] : NULL;
}

/* --- repos --- */

static int note_repo(struct survey *s, sqlite3_stmt *st, void *ctx)
{
	struct usage *u = s->usage;

	if (u->count == REPOS_MAX)
		return -E2BIG;
	if (u->count == s->id_room) {
		s->id_room = s->id_room ? 2 * s->id_room : 256;
		u->rows = xrealloc(u->rows, s->id_room * sizeof(*u->rows));
		s->ids = xrealloc(s->ids, s->id_room * sizeof(*s->ids));
	}
	assert(s->ids && u->count < s->id_room);
	s->ids[u->count] = sqlite3_column_int64(st, 0);
	u->rows[u->count++] = (struct usage_row){ .repo = str_dup(sql_str(st, 1)),
						  .is_public = sqlite3_column_int(st, 2) == ACCESS_FILES,
						  .commits = (uint64_t)sqlite3_column_int64(st, 3) };
	return 0;
}

/* By name, so that lists are in order. A statement for each thousand. */
static int note_repos(struct survey *s)
{
	size_t before;
	int r = 0;

	do {
		struct conn *c = readers_take(&s->x->readers);
		sqlite3_stmt *st = NULL;

		before = s->usage->count;
		r = c ? sql_start(c, ST_USAGE_REPOS, &st) : -EIO;
		if (r == 0) {
			sql_bind_str(st, 1, before ? str_from(s->usage->rows[before - 1].repo) : STR(""));
			while ((r = sql_row(c, st)) > 0) {
				r = is_stopped(s) ? -ECANCELED : note_repo(s, st, NULL);
				if (r < 0)
					break;
			}
			sql_stop(st);
		}
		if (c)
			readers_give(&s->x->readers, c);
	} while (r == 0 && s->usage->count > before);
	return r;
}

/* --- what a repo names --- */

/* Returns true the first time that this repo names it. */
static bool count_blob(struct survey *s, uint32_t place, int64_t rowid, int64_t used_at)
{
	struct usage_row *row = &s->usage->rows[place - 1];
	struct noted *b = find_noted(s, rowid);

	if (!b || b->last == place)
		return false;
	row->bytes += b->size;
	if (used_at > row->used_at)
		row->used_at = used_at;
	if (b->first == 0) {
		b->first = place;
	} else {
		row->shared_bytes += b->size;
		if (b->last == b->first) /* the second one: from now on it is shared for the first as well */
			s->usage->rows[b->first - 1].shared_bytes += b->size;
	}
	b->last = place;
	return true;
}

struct of_repo {
	uint32_t place;
	struct map *partial; /* owned or NULL: contents that are held in part */
};

static int content_of_usage(sqlite3_stmt *st, struct content_id *ret)
{
	return content_from_columns(st, 2, 3, 4, ret);
}

static void count_partial(struct survey *s, struct of_repo *o, sqlite3_stmt *st)
{
	struct content_id content;
	struct str key = sql_str(st, 3);

	if (!s->query->is_partial || content_of_usage(st, &content) < 0 ||
	    !s->query->is_partial(s->query->ctx, &content))
		return;
	if (!o->partial)
		o->partial = map_new();
	if (!map_put(o->partial, key, s))
		s->usage->rows[o->place - 1].partial_files++;
}

/* Columns: the blob's row or NULL, its last use, then what its content is. */
static int count_entry(struct survey *s, sqlite3_stmt *st, void *ctx)
{
	struct of_repo *o = ctx;

	if (sqlite3_column_type(st, 0) == SQLITE_NULL)
		count_partial(s, o, st);
	else if (count_blob(s, o->place, sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1)))
		s->usage->rows[o->place - 1].files++;
	return 0;
}

static int count_doc(struct survey *s, sqlite3_stmt *st, void *ctx)
{
	struct of_repo *o = ctx;

	if (sqlite3_column_type(st, 0) != SQLITE_NULL &&
	    count_blob(s, o->place, sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1)))
		s->usage->rows[o->place - 1].documents++;
	return 0;
}

static int count_repo(struct survey *s, size_t i)
{
	struct of_repo o = { .place = (uint32_t)i + 1 };
	int r = run_each(s, ST_USAGE_ENTRIES, s->ids[i], count_entry, &o);

	if (r == 0)
		r = run_each(s, ST_USAGE_OBJECTS, s->ids[i], count_entry, &o);
	if (r == 0)
		r = run_each(s, ST_USAGE_DOCS, s->ids[i], count_doc, &o);
	map_free(o.partial, NULL);
	return r;
}

/* Repos of which only a name or a right is known are no usage. */
static void drop_empty(struct usage *u)
{
	size_t kept = 0;

	for (size_t i = 0; i < u->count; i++) {
		struct usage_row *row = &u->rows[i];

		if (row->files || row->documents || row->partial_files)
			u->rows[kept++] = *row;
		else
			free(row->repo);
	}
	u->count = kept;
}

static void sum_up(struct survey *s)
{
	for (size_t i = 0; i < s->blob_count; i++) {
		s->usage->bytes += s->blobs[i].size;
		if (s->blobs[i].first == 0)
			s->usage->unreferenced_bytes += s->blobs[i].size;
	}
	drop_empty(s->usage);
}

int index_survey(struct index *x, const struct usage_query *query, struct usage **ret_usage)
{
	struct survey s = { .x = x, .query = query, .usage = xcalloc(1, sizeof(struct usage)) };
	int r = note_repos(&s);

	if (r == 0)
		r = note_blobs(&s);
	for (size_t i = 0; r == 0 && i < s.usage->count; i++)
		r = count_repo(&s, i);
	if (r == 0)
		sum_up(&s);
	free(s.blobs);
	free(s.ids);
	if (r == 0)
		*ret_usage = s.usage;
	else
		usage_free(s.usage);
	return r;
}

void usage_free(struct usage *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->count; i++)
		free(u->rows[i].repo);
	free(u->rows);
	free(u);
}

/* --- the commits of one repo --- */

struct of_commits {
	const struct usage_query *query;
	int (*visit)(void *ctx, const struct usage_commit *commit);
	void *ctx;
};

static int count_commit(struct conn *c, const struct usage_query *query, int64_t id, struct usage_commit *ret)
{
	sqlite3_stmt *st = NULL;
	struct content_id content;
	int r = sql_start(c, ST_USAGE_COMMIT, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, id);
	while ((r = sql_row(c, st)) > 0) {
		if (sqlite3_column_type(st, 0) != SQLITE_NULL) {
			ret->files++;
			ret->bytes += (uint64_t)sqlite3_column_int64(st, 1);
		} else if (query->is_partial && content_of_usage(st, &content) == 0 &&
			   query->is_partial(query->ctx, &content)) {
			ret->partial_files++;
		}
	}
	sql_stop(st);
	return r;
}

/* Its names, each with a NUL after it. */
static int name_commit(struct conn *c, int64_t repo, const char *commit, struct buf *names)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(c, ST_USAGE_NAMES, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, repo);
	sql_bind_commit(st, 2, commit);
	while ((r = sql_row(c, st)) > 0) {
		struct str name = sql_str(st, 0);

		/* a commit is asked for by its own name as well, and that is none to be shown */
		if (str_eq(name, commit_str(commit)) || memchr(name.ptr, 0, name.len))
			continue;
		(void)buf_append_str(names, name);
		(void)buf_append_char(names, 0);
	}
	sql_stop(st);
	return r;
}

#define NAMES_BYTES_MAX 65536

static int visit_commit(struct conn *c, const struct of_commits *o, int64_t repo, int64_t id,
			const char *hash)
{
	struct usage_commit commit = { .commit = hash };
	SCOPED_BUF names = { 0 };
	int r = count_commit(c, o->query, id, &commit);

	buf_init(&names, NAMES_BYTES_MAX);
	if (r == 0)
		r = name_commit(c, repo, hash, &names);
	commit.names = buf_str(&names);
	if (r == 0 && (commit.files || commit.partial_files || commit.names.len))
		r = o->visit(o->ctx, &commit);
	return r;
}

static int each_commit(struct conn *c, struct str repo, const struct of_commits *o)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(c, ST_USAGE_COMMITS, &st);

	if (r < 0)
		return r;
	sql_bind_str(st, 1, repo);
	while ((r = sql_row(c, st)) > 0) {
		char hash[COMMIT_TEXT];

		if (o->query->is_stopping && atomic_load(o->query->is_stopping))
			r = -ECANCELED;
		else if (sql_copy_commit(st, 2, hash) < 0)
			continue;
		else
			r = visit_commit(c, o, sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 0),
					 hash);
		if (r)
			break;
	}
	sql_stop(st);
	return r;
}

int index_commits_each(struct index *x, struct str repo, const struct usage_query *query,
		       int (*visit)(void *ctx, const struct usage_commit *commit), void *ctx)
{
	struct conn *c = readers_take(&x->readers);
	int r = c ? each_commit(c, repo, &(struct of_commits){ query, visit, ctx }) : -EIO;

	if (c)
		readers_give(&x->readers, c);
	return r;
}
