/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/alone - what a repo, or one of its commits, names and nobody else does: what can go when it is forgotten.
 *
 * Large files and documents are looked up by their digests. Small files have no index by their git ids, so all entries are read
 * once, a piece at a time.
 *
 * Never     looks at what is not on disk yet: who wants that, has the keeper write it first.
 * Threads   any that may wait for the disk for long.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Commits whose entries are read with one statement. */
#define PIECE 2000
/* 100 bytes of memory each. */
#define NAMED_MAX ((size_t)4 << 20)
#define ALIASES_BYTES_MAX (1 << 20)

struct search {
	struct index *x;
	const struct usage_query *query;
	int64_t repo, commit; /* commit 0: all of the repo */
	struct alone *alone;
	size_t room;
	struct conn *conn; /* in hand for one step */
};

static int check_stop(const struct search *s)
{
	return s->query->is_stopping && atomic_load(s->query->is_stopping) ? -ECANCELED : 0;
}

/* --- what it names --- */

static struct alone_item *add_item(struct search *s)
{
	struct alone *a = s->alone;

	if (a->count == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		a->items = xrealloc(a->items, s->room * sizeof(*a->items));
	}
	a->items[a->count] = (struct alone_item){ .is_held = false };
	return &a->items[a->count++];
}

/* Columns: sha256, git and size of the blob or NULL, then kind, content and size of what is named. */
static int add_row(struct search *s, sqlite3_stmt *st)
{
	bool is_held = sqlite3_column_type(st, 0) != SQLITE_NULL;
	struct content_id content;
	struct alone_item *item;

	if (s->alone->count == NAMED_MAX)
		return -E2BIG;
	if (content_from_columns(st, 3, 4, 5, &content) < 0)
		return 0;
	if (!is_held && (!s->query->is_partial || !s->query->is_partial(s->query->ctx, &content)))
		return 0;
	item = add_item(s);
	item->content = content;
	item->is_held = is_held;
	item->size = content.size;
	if (!is_held)
		return 0;
	item->size = (uint64_t)sqlite3_column_int64(st, 2);
	(void)sql_copy(st, 1, item->git.bytes,
		       SHA1_BYTES); /* NULL: it has none, and the zeros name nothing */
	return sql_copy(st, 0, item->sha256.bytes, SHA256_BYTES);
}

static int add_rows(struct search *s, enum statement id)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(s->conn, id, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, s->repo);
	sql_bind_int(st, 2, s->commit);
	while ((r = sql_row(s->conn, st)) > 0) {
		r = check_stop(s);
		if (r == 0)
			r = add_row(s, st);
		if (r < 0)
			break;
	}
	sql_stop(st);
	return r;
}

/* Held ones by digest, then the others; the same ones beside each other. */
static int compare_items(const void *a, const void *b)
{
	const struct alone_item *x = a, *y = b;

	if (x->is_held != y->is_held)
		return x->is_held ? -1 : 1;
	if (x->is_held)
		return memcmp(x->sha256.bytes, y->sha256.bytes, SHA256_BYTES);
	if (x->content.kind != y->content.kind)
		return x->content.kind < y->content.kind ? -1 : 1;
	return content_is_git(&x->content)
		       ? memcmp(x->content.git.bytes, y->content.git.bytes, SHA1_BYTES)
		       : memcmp(x->content.sha256.bytes, y->content.sha256.bytes, SHA256_BYTES);
}

static void drop_doubles(struct alone *a)
{
	size_t kept = 0;

	if (a->count)
		qsort(a->items, a->count, sizeof(*a->items), compare_items);
	for (size_t i = 0; i < a->count; i++)
		if (kept == 0 || compare_items(&a->items[kept - 1], &a->items[i]) != 0)
			a->items[kept++] = a->items[i];
	a->count = kept;
}

/* --- who else names it --- */

static const struct digest *digest_of(const struct alone_item *item)
{
	if (item->is_held)
		return &item->sha256;
	return content_is_git(&item->content) ? NULL : &item->content.sha256;
}

static const struct git_oid *git_of(const struct alone_item *item)
{
	if (item->is_held)
		return git_oid_is_none(&item->git) ? NULL : &item->git;
	return content_is_git(&item->content) ? &item->content.git : NULL;
}

/* By index: entries of large files, and documents. */
static int look_up_others(struct search *s, struct alone_item *item)
{
	const struct digest *sha256 = digest_of(item);
	sqlite3_stmt *st = NULL;
	int r = sha256 ? sql_start(s->conn, ST_ALONE_OTHERS, &st) : 0;

	if (r < 0 || !st)
		return r;
	sql_bind_bytes(st, 1, sha256->bytes, SHA256_BYTES);
	sql_bind_int(st, 2, s->repo);
	sql_bind_int(st, 3, s->commit);
	r = sql_row(s->conn, st);
	item->has_others |= r > 0;
	sql_stop(st);
	return r < 0 ? r : 0;
}

struct by_git {
	struct git_oid git;
	size_t at;
};

static int compare_git(const void *a, const void *b)
{
	return memcmp(((const struct by_git *)a)->git.bytes, ((const struct by_git *)b)->git.bytes,
		      SHA1_BYTES);
}

static struct by_git *sort_by_git(const struct alone *a, size_t *ret_count)
{
	struct by_git *all = xcalloc(a->count + 1, sizeof(*all));
	size_t count = 0;

	for (size_t i = 0; i < a->count; i++) {
		const struct git_oid *git = git_of(&a->items[i]);

		if (git)
			all[count++] = (struct by_git){ *git, i };
	}
	if (count)
		qsort(all, count, sizeof(*all), compare_git);
	*ret_count = count;
	return all;
}

static void mark_git(struct search *s, const struct by_git *all, size_t count, struct by_git *key)
{
	const struct by_git *found = bsearch(key, all, count, sizeof(*all), compare_git);

	if (!found)
		return;
	/* two contents of one git id, held and in part: all of them */
	while (found > all && compare_git(found - 1, key) == 0)
		found--;
	for (; found < all + count && compare_git(found, key) == 0; found++)
		s->alone->items[found->at].has_others = true;
}

/* One piece of all entries of small files that are not the repo's, or the commit's. */
static int scan_piece(struct search *s, int64_t from, const struct by_git *all, size_t count)
{
	sqlite3_stmt *st = NULL;
	struct by_git key = { .at = 0 };
	int r = sql_start(s->conn, ST_ALONE_SMALL, &st);

	if (r < 0)
		return r;
	sql_bind_int(st, 1, from);
	sql_bind_int(st, 2, from + PIECE);
	sql_bind_int(st, 3, s->repo);
	sql_bind_int(st, 4, s->commit);
	while ((r = sql_row(s->conn, st)) > 0) {
		r = check_stop(s);
		if (r < 0)
			break;
		if (sql_copy(st, 0, key.git.bytes, SHA1_BYTES) == 0)
			mark_git(s, all, count, &key);
	}
	sql_stop(st);
	return r;
}

static int last_commit(struct search *s, int64_t *ret_id)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(s->conn, ST_ALONE_LAST_COMMIT, &st);

	if (r < 0)
		return r;
	r = sql_row(s->conn, st);
	*ret_id = r > 0 ? sqlite3_column_int64(st, 0) : 0;
	sql_stop(st);
	return r < 0 ? r : 0;
}

/* The connection is given back between pieces: whoever closes the readers waits for one piece only. */
static int next_step(struct search *s)
{
	if (s->conn)
		readers_give(&s->x->readers, TAKE_PTR(s->conn));
	s->conn = readers_take(&s->x->readers);
	return s->conn ? check_stop(s) : -EIO;
}

static int scan_small(struct search *s)
{
	int64_t last = 0;
	size_t count;
	struct by_git *all = sort_by_git(s->alone, &count);
	int r = count ? last_commit(s, &last) : 0;

	for (int64_t from = 0; r == 0 && count && from <= last; from += PIECE) {
		r = next_step(s);
		if (r == 0)
			r = scan_piece(s, from, all, count);
	}
	free(all);
	return r;
}

static int compare_digest(const void *key, const void *item)
{
	return memcmp(key, ((const struct alone_item *)item)->sha256.bytes, SHA256_BYTES);
}

/* Objects of other repos that no entry of theirs names. The held ones are in front, in order. */
static int scan_objects(struct search *s)
{
	struct alone *a = s->alone;
	sqlite3_stmt *st = NULL;
	size_t held = 0;
	int r;

	while (held < a->count && a->items[held].is_held)
		held++;
	r = held ? sql_start(s->conn, ST_ALONE_OBJECTS, &st) : 0;
	if (r < 0 || !st)
		return r;
	sql_bind_int(st, 1, s->repo);
	while ((r = sql_row(s->conn, st)) > 0) {
		struct str sha256 = sql_str(st, 0);
		struct alone_item *found =
			sha256.len == SHA256_BYTES
				? bsearch(sha256.ptr, a->items, held, sizeof(*a->items), compare_digest)
				: NULL;

		if (found)
			found->has_others = true;
		r = check_stop(s);
		if (r < 0)
			break;
	}
	sql_stop(st);
	return r;
}

static int mark_others(struct search *s)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->alone->count; i++) {
		if (i % PIECE == 0)
			r = next_step(s);
		if (r == 0)
			r = look_up_others(s, &s->alone->items[i]);
	}
	if (r == 0)
		r = scan_objects(s);
	return r == 0 ? scan_small(s) : r;
}

/* --- the door --- */

/* Returns 0; -ENODATA nothing is known of it. */
static int find_ids(struct search *s, struct str repo, const char *commit)
{
	sqlite3_stmt *st = NULL;
	int r = sql_start(s->conn, ST_ALONE_REPO, &st);

	if (r < 0)
		return r;
	sql_bind_str(st, 1, repo);
	if (commit)
		sql_bind_commit(st, 2, commit);
	r = sql_row(s->conn, st);
	if (r > 0) {
		s->repo = sqlite3_column_int64(st, 0);
		s->commit = sqlite3_column_int64(st, 1);
	}
	/* of a repo that was forgotten the bare name stays; of a commit that is not known there is no row */
	if (r > 0 && (commit ? s->commit == 0 : sqlite3_column_int(st, 2) == 0))
		r = 0;
	sql_stop(st);
	return r > 0 ? 0 : r < 0 ? r : -ENODATA;
}

static int search(struct search *s, struct str repo, const char *commit)
{
	int r = next_step(s);

	if (r == 0)
		r = find_ids(s, repo, commit);
	if (r == 0)
		r = add_rows(s, commit ? ST_ALONE_OF_COMMIT : ST_ALONE_OF_REPO);
	if (r == 0)
		r = add_rows(s, commit ? ST_ALONE_DOCS_OF_COMMIT : ST_ALONE_DOCS_OF_REPO);
	if (r == 0 && !commit)
		r = add_rows(s, ST_ALONE_OBJECTS_OF_REPO);
	if (r < 0)
		return r;
	drop_doubles(s->alone);
	return mark_others(s);
}

int index_find_alone(struct index *x, struct str repo, const char *commit, const struct usage_query *query,
		     struct alone *ret_alone)
{
	struct search s = { .x = x, .query = query, .alone = ret_alone };
	int r;

	*ret_alone = (struct alone){ .count = 0 };
	r = search(&s, repo, commit);
	if (s.conn)
		readers_give(&x->readers, s.conn);
	if (r < 0)
		alone_done(ret_alone);
	return r;
}

/* Gathered first: whoever visits may learn. */
int index_aliases_each(struct index *x, struct str repo, int (*visit)(void *ctx, struct str name), void *ctx)
{
	struct conn *c = readers_take(&x->readers);
	sqlite3_stmt *st = NULL;
	SCOPED_BUF names = { 0 };
	int r = c ? sql_start(c, ST_ALIASES_OF, &st) : -EIO;

	buf_init(&names, ALIASES_BYTES_MAX);
	if (r == 0) {
		sql_bind_str(st, 1, repo);
		while ((r = sql_row(c, st)) > 0)
			if (!memchr(sql_str(st, 0).ptr, 0, sql_str(st, 0).len)) {
				(void)buf_append_str(&names, sql_str(st, 0));
				(void)buf_append_char(&names, 0);
			}
		sql_stop(st);
	}
	if (c)
		readers_give(&x->readers, c);
	for (struct str name, rest = buf_str(&names); r == 0 && rest.len;) {
		(void)str_cut(rest, 0, &name, &rest);
		r = visit(ctx, name);
	}
	return r;
}

void alone_done(struct alone *a)
{
	free(a->items);
	*a = (struct alone){ .count = 0 };
}
