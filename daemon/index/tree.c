/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/tree - all entries of a commit in byte order: what is on disk, merged with what is not there yet.
 *
 * Threads   any.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Entries of one tree that are not on disk yet, in byte order. */
struct fresh {
	struct str repo, commit;
	struct fresh_entry {
		struct str path; /* owned */
		enum value_state state;
		struct content_id content;
	} * at; /* owned */
	size_t count, room;
	bool is_all; /* what the disk still has of it counts no more */
};

static int add_fresh(void *ctx, struct str key, void *value)
{
	struct fresh *f = ctx;
	const struct row *row = value;
	struct str path = key_b(key);

	if (row->pins == 0 || !str_eq(key_repo(key), f->repo) || !str_eq(key_a(key), f->commit))
		return 0;
	if (f->count == f->room) {
		f->room = f->room ? 2 * f->room : 64;
		f->at = xrealloc(f->at, f->room * sizeof(*f->at));
	}
	f->at[f->count++] = (struct fresh_entry){
		.path = { str_dup(path), path.len },
		.state = row->value.state,
		.content = row->value.content,
	};
	return 0;
}

static void fresh_done(struct fresh *f)
{
	for (size_t i = 0; i < f->count; i++)
		free((char *)f->at[i].path.ptr);
	free(f->at);
}

static int str_compare(struct str a, struct str b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len ? memcmp(a.ptr, b.ptr, len) : 0;

	return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static int fresh_compare(const void *a, const void *b)
{
	return str_compare(((const struct fresh_entry *)a)->path, ((const struct fresh_entry *)b)->path);
}

static void fresh_collect(struct index *x, struct fresh *f)
{
	SCOPED_KEY k;
	struct shard *s;

	key_init(&k, ROW_ENTRY, f->repo, f->commit, STR("")); /* for its shard */
	s = &x->table.shards[k.shard];
	shard_read(s);
	if (s->pinned_entries)
		(void)map_each(s->rows[ROW_ENTRY], add_fresh, f);
	f->is_all = forget_covers(s, &k) == COVERS_ALL;
	shard_drop(s);
	if (f->count)
		qsort(f->at, f->count, sizeof(*f->at), fresh_compare);
}

struct walk {
	int (*visit)(void *ctx, struct str path, const struct content_id *content);
	void *ctx;
	struct fresh fresh;
	size_t next; /* of fresh */
};

static int walk_fresh(struct walk *w)
{
	const struct fresh_entry *e = &w->fresh.at[w->next++];

	return e->state == VALUE_HELD ? w->visit(w->ctx, e->path, &e->content) : 0;
}

/* Both lists are in order; where both have a path, the fresh one counts. */
static int walk_disk(struct walk *w, struct conn *c, sqlite3_stmt *st)
{
	int r, row;

	while ((row = sql_row(c, st)) > 0) {
		struct str path = sql_str(st, 0);
		struct content_id content;
		int order = 1;

		while (w->next < w->fresh.count &&
		       (order = str_compare(w->fresh.at[w->next].path, path)) <= 0) {
			r = walk_fresh(w);
			if (r)
				return r;
			if (order == 0)
				break;
		}
		if (order == 0)
			continue;
		if (content_from_columns(st, 1, 2, 3, &content) < 0)
			return sql_error(c, SQLITE_CORRUPT);
		r = w->visit(w->ctx, path, &content);
		if (r)
			return r;
	}
	return row;
}

static int walk_both(struct walk *w, struct conn *c)
{
	sqlite3_stmt *st = NULL;
	int r = w->fresh.is_all ? 0 : sql_start(c, ST_EACH_ENTRY, &st);

	if (r < 0)
		return r;
	if (st) {
		sql_bind_str(st, 1, w->fresh.repo);
		sql_bind_commit(st, 2, w->fresh.commit.ptr);
		r = walk_disk(w, c, st);
		sql_stop(st);
	}
	while (r == 0 && w->next < w->fresh.count)
		r = walk_fresh(w);
	return r;
}

int index_tree_each(struct index *x, struct str repo, struct str commit,
		    int (*visit)(void *ctx, struct str path, const struct content_id *content), void *ctx)
{
	struct walk w = { .visit = visit, .ctx = ctx, .fresh = { .repo = repo, .commit = commit } };
	struct conn *c;
	int r;

	if (!index_tree_is_known(x, repo, commit))
		return -ENODATA;
	fresh_collect(x, &w.fresh);
	c = readers_take(&x->readers);
	r = c ? walk_both(&w, c) : -ENODATA;
	if (c)
		readers_give(&x->readers, c);
	fresh_done(&w.fresh);
	return r;
}
