/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/names - all names of a repo: those in memory and those on disk.
 *
 * They are gathered first and visited afterwards, with no lock held: whoever visits may look at each and forget it.
 *
 * Threads   any.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

#define NAMES_BYTES_MAX ((size_t)16 * 1024 * 1024)

/* Each with its length before it. One that is in memory and on disk is there twice. */
struct names {
	struct str repo;
	struct buf found;
};

static void names_add(struct names *n, struct str revision)
{
	(void)buf_append(&n->found, &revision.len, sizeof(revision.len));
	(void)buf_append_str(&n->found, revision);
}

static int add_row(void *ctx, struct str key, void *value)
{
	struct names *n = ctx;
	const struct row *row = value;

	if (row->value.state == VALUE_HELD && str_eq(key_repo(key), n->repo))
		names_add(n, key_a(key));
	return 0;
}

static int add_from_disk(struct index *x, struct names *n)
{
	struct conn *c = readers_take(&x->readers);
	sqlite3_stmt *st = NULL;
	int r = c ? sql_start(c, ST_EACH_NAME, &st) : -EIO;

	if (r == 0) {
		sql_bind_str(st, 1, n->repo);
		while ((r = sql_row(c, st)) > 0)
			names_add(n, sql_str(st, 0));
		sql_stop(st);
	}
	if (c)
		readers_give(&x->readers, c);
	return r;
}

static int visit_all(const struct names *n, int (*visit)(void *ctx, struct str revision), void *ctx)
{
	struct str rest = buf_str(&n->found);

	while (rest.len > 0) {
		struct str revision;
		int r;

		memcpy(&revision.len, rest.ptr, sizeof(revision.len));
		revision.ptr = rest.ptr + sizeof(revision.len);
		rest = str_from_range(revision.ptr + revision.len, rest.ptr + rest.len);
		r = visit(ctx, revision);
		if (r)
			return r;
	}
	return 0;
}

int index_names_each(struct index *x, struct str repo, int (*visit)(void *ctx, struct str revision),
		     void *ctx)
{
	struct names n = { .repo = repo };
	struct shard *s;
	SCOPED_KEY k;
	int r;

	key_init(&k, ROW_NAME, repo, STR(""), STR("")); /* for its shard: they are all in one */
	buf_init(&n.found, NAMES_BYTES_MAX);
	/* memory before disk: what is written between the two is seen twice, not missed */
	s = &x->table.shards[k.shard];
	shard_read(s);
	(void)map_each(s->rows[ROW_NAME], add_row, &n);
	shard_drop(s);
	r = add_from_disk(x, &n);
	if (r == 0)
		r = buf_error(&n.found);
	if (r == 0)
		r = visit_all(&n, visit, ctx);
	buf_done(&n.found);
	return r;
}
