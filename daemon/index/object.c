/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/object - what a repo holds by SHA-256, whatever names it.
 *
 * Two facts tell of an object: an LFS entry of any commit, and FACT_OBJECT. Entries on disk are found by an index over their
 * content; those that are only in memory yet, by a walk over them; what was found is kept as a row of its own.
 *
 * Threads   any.
 * Promises  (1) only "there is one" is kept in memory: a row that says "none" could outlive the entry that comes next.
 *           (2) what is known of one repo never answers for another.
 */
#include "index/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

void object_done(struct object *o)
{
	free(o->path);
	o->path = NULL;
}

struct search {
	const struct key *key; /* of the object */
	struct value found;
};

static int visit_entry(void *ctx, struct str key, void *value)
{
	struct search *s = ctx;
	const struct row *row = value;
	const struct content_id *content = &row->value.content;
	struct str commit, path;

	if (row->pins == 0 || row->value.state != VALUE_HELD || content_is_git(content) ||
	    !str_eq(digest_str(&content->sha256), s->key->a) || !str_eq(key_repo(key), s->key->repo))
		return 0;
	commit = key_a(key);
	path = key_b(key);
	s->found = (struct value){ .state = VALUE_HELD, .object = { .size = content->size } };
	memcpy(s->found.object.commit, commit.ptr, COMMIT_HEX);
	s->found.object.path = str_dup(path);
	return 1;
}

/* What memory knows. *ret_is_final: the disk knows no more, or nothing that counts. */
static void look_in_memory(struct index *x, const struct key *k, struct value *ret, bool *ret_is_final,
			   uint64_t *ret_epoch)
{
	struct search search = { .key = k, .found = { .state = VALUE_NONE } };
	struct shard *s = &x->table.shards[k->shard];
	struct row *row;

	*ret = (struct value){ .state = VALUE_NONE };
	shard_read(s);
	*ret_epoch = s->epoch;
	row = row_find(s, k);
	if (row && row->value.state == VALUE_HELD) {
		atomic_store_explicit(&row->is_used, true, memory_order_relaxed);
		value_copy(ROW_OBJECT, &row->value, ret);
	}
	*ret_is_final = ret->state == VALUE_HELD && (ret->object.path || ret->object.was_looked);
	if (!*ret_is_final && s->pinned_entries && map_each(s->rows[ROW_ENTRY], visit_entry, &search) != 0) {
		value_done(ROW_OBJECT, ret);
		*ret = search.found;
		*ret_is_final = true;
	}
	*ret_is_final = *ret_is_final || forget_covers(s, k) == COVERS_ALL;
	shard_drop(s);
}

/* A row that is there stays what it is, but for the place that names it; nothing is kept if anything was learned meanwhile. */
static void keep(struct index *x, const struct key *k, const struct value *v, uint64_t epoch)
{
	struct shard *s = &x->table.shards[k->shard];
	struct value copy;
	struct row *row;
	bool was_there;

	shard_write(s);
	row = s->epoch == epoch ? row_find(s, k) : NULL;
	if (!row && s->epoch == epoch)
		row = row_make(&x->table, s, k, &was_there);
	if (row && (row->value.state != VALUE_HELD || !row->value.object.path)) {
		value_copy(ROW_OBJECT, v, &copy);
		if (row->value.state == VALUE_HELD)
			copy.journaled_at = row->value.journaled_at;
		row_set(row, &copy);
	}
	shard_drop(s);
}

/* 1 with *ret, the caller's; 0 not known. */
static int find_object(struct index *x, const struct key *k, struct value *ret)
{
	struct value on_disk = { .state = VALUE_NONE };
	uint64_t epoch;
	bool is_final;

	look_in_memory(x, k, ret, &is_final, &epoch);
	if (is_final)
		return ret->state == VALUE_HELD;
	(void)find_on_disk(x, k, &on_disk);
	/* the word in memory is younger than the one on disk; an entry says more than either */
	if (ret->state == VALUE_HELD && !(on_disk.state == VALUE_HELD && on_disk.object.path)) {
		value_done(ROW_OBJECT, &on_disk);
		ret->object.was_looked = true;
	} else {
		value_done(ROW_OBJECT, ret);
		*ret = on_disk;
	}
	if (ret->state == VALUE_HELD)
		keep(x, k, ret, epoch);
	return ret->state == VALUE_HELD;
}

int index_find_object(struct index *x, struct str repo, const struct digest *sha256,
		      struct object *ret_object)
{
	struct value v;
	SCOPED_KEY k;

	key_init(&k, ROW_OBJECT, repo, digest_str(sha256), STR(""));
	if (find_object(x, &k, &v) == 0)
		return -ENODATA;
	*ret_object = (struct object){ .path = v.object.path }; /* the caller's from here on */
	ret_object->content.kind = CONTENT_LFS;
	ret_object->content.sha256 = *sha256;
	ret_object->content.size = v.object.size;
	memcpy(ret_object->commit, v.object.commit, COMMIT_TEXT);
	return 0;
}

/* --- all of its places ------------------------------------------------------------------------------------------ */

struct places {
	const struct key *key; /* of the object */
	struct object *at;     /* owned */
	size_t count;
};

static void places_add(struct places *p, uint64_t size, struct str commit, struct str path)
{
	struct object *o;

	if (p->count == OBJECT_COMMITS_MAX || commit.len != COMMIT_HEX)
		return;
	if (!p->at)
		p->at = xcalloc(OBJECT_COMMITS_MAX, sizeof(*p->at));
	o = &p->at[p->count++];
	o->content.kind = CONTENT_LFS;
	memcpy(o->content.sha256.bytes, p->key->a.ptr, SHA256_BYTES);
	o->content.size = size;
	memcpy(o->commit, commit.ptr, COMMIT_HEX);
	o->path = str_dup(path);
}

static int add_pinned_entry(void *ctx, struct str key, void *value)
{
	struct places *p = ctx;
	const struct row *row = value;
	const struct content_id *content = &row->value.content;

	if (row->pins > 0 && row->value.state == VALUE_HELD && !content_is_git(content) &&
	    str_eq(digest_str(&content->sha256), p->key->a) && str_eq(key_repo(key), p->key->repo))
		places_add(p, content->size, key_a(key), key_b(key));
	return 0;
}

static void add_places_on_disk(struct conn *c, struct places *p)
{
	char commit[COMMIT_TEXT];
	sqlite3_stmt *st = NULL;

	if (sql_start(c, ST_EACH_OBJECT, &st) < 0)
		return;
	sql_bind_str(st, 1, p->key->repo);
	sql_bind_str(st, 2, p->key->a);
	sql_bind_int(st, 3, OBJECT_COMMITS_MAX);
	while (sql_row(c, st) > 0)
		if (sql_copy_commit(st, 1, commit) == 0)
			places_add(p, (uint64_t)sqlite3_column_int64(st, 0), str_from(commit),
				   sql_str(st, 2));
	sql_stop(st);
}

int index_object_each(struct index *x, struct str repo, const struct digest *sha256,
		      int (*visit)(void *ctx, const struct object *o), void *ctx)
{
	struct places p = { .count = 0 };
	struct conn *conn;
	struct shard *s;
	bool is_covered;
	SCOPED_KEY k;
	int r = 0;

	key_init(&k, ROW_OBJECT, repo, digest_str(sha256), STR(""));
	p.key = &k;
	s = &x->table.shards[k.shard];
	shard_read(s);
	if (s->pinned_entries)
		(void)map_each(s->rows[ROW_ENTRY], add_pinned_entry, &p);
	is_covered = forget_covers(s, &k) == COVERS_ALL;
	shard_drop(s);
	conn = is_covered ? NULL : readers_take(&x->readers);
	if (conn) {
		add_places_on_disk(conn, &p);
		readers_give(&x->readers, conn);
	}
	for (size_t i = 0; r == 0 && i < p.count; i++)
		r = visit(ctx, &p.at[i]);
	for (size_t i = 0; i < p.count; i++)
		object_done(&p.at[i]);
	free(p.at);
	return r;
}
