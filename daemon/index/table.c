/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/table - rows in memory: the hot path of every request.
 *
 * A row lives in one of 32 shards, chosen by its repo (grants: by subject; blobs: by digest), so that what is dropped
 * together lies together and threads seldom meet. Each kind has a maximum; beyond it a clock with a second chance gives up
 * rows. Rows with a pin are in no clock: they are the only place where a fact is until it is on disk.
 *
 * Owns      the rows.
 * Never     touches the disk; evicts a pinned row.
 * Threads   any; lookups share a shard's lock, changes have it alone, for a few hundred nanoseconds.
 */
#include "index/priv.h"

#include <assert.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Rows the hand passes at most before it leaves a shard. */
#define CLOCK_LOOKS 16
/* Rows given up at most for one new one: after a burst of pins the table shrinks back step by step. */
#define VICTIMS_MAX 2

/* --- values --- */

struct doc *doc_dup(const struct doc *from)
{
	struct doc *d = xmalloc(sizeof(*d));

	*d = *from;
	d->content_type = from->content_type ? xstrdup(from->content_type) : NULL;
	d->link_next = from->link_next ? xstrdup(from->link_next) : NULL;
	return d;
}

void doc_done(struct doc *d)
{
	free(d->content_type);
	free(d->link_next);
	*d = (struct doc){ .content_type = NULL };
}

void value_done(enum row_kind kind, struct value *v)
{
	if (v->state == VALUE_HELD && (kind == ROW_ALIAS || kind == ROW_IDENTITY))
		free(v->to);
	if (v->state == VALUE_HELD && kind == ROW_OBJECT)
		free(v->object.path);
	if (v->state == VALUE_HELD && kind == ROW_DOC) {
		doc_done(v->doc);
		free(v->doc);
	}
	v->state = VALUE_NONE;
}

void value_copy(enum row_kind kind, const struct value *from, struct value *ret)
{
	*ret = *from;
	if (from->state == VALUE_HELD && (kind == ROW_ALIAS || kind == ROW_IDENTITY))
		ret->to = xstrdup(from->to);
	if (from->state == VALUE_HELD && kind == ROW_OBJECT && from->object.path)
		ret->object.path = xstrdup(from->object.path);
	if (from->state == VALUE_HELD && kind == ROW_DOC)
		ret->doc = doc_dup(from->doc);
}

/* --- keys: the lengths of repo and a, then all three --- */

struct key_head {
	uint32_t repo_len, a_len;
};

static unsigned shard_of(enum row_kind kind, struct str repo, struct str a)
{
	uint32_t hash = 2166136261u;
	struct str by = kind == ROW_GRANT || kind == ROW_BLOB || kind == ROW_GIT ? a : repo;

	for (size_t i = 0; i < by.len; i++)
		hash = (hash ^ (unsigned char)by.ptr[i]) * 16777619u;
	return (hash ^ hash >> 16) % SHARDS;
}

static void append(char **to, struct str s)
{
	if (s.len)
		memcpy(*to, s.ptr, s.len);
	*to += s.len;
}

void key_init(struct key *k, enum row_kind kind, struct str repo, struct str a, struct str b)
{
	struct key_head head = { (uint32_t)repo.len, (uint32_t)a.len };
	size_t len = sizeof(head) + repo.len + a.len + b.len;
	char *to;

	k->kind = kind;
	k->repo = repo;
	k->a = a;
	k->b = b;
	k->shard = shard_of(kind, repo, a);
	k->heap = len > KEY_INLINE ? xmalloc(len) : NULL;
	to = k->heap ? k->heap : k->inline_bytes;
	k->bytes = (struct str){ to, len };
	append(&to, (struct str){ (const char *)&head, sizeof(head) });
	append(&to, repo);
	append(&to, a);
	append(&to, b);
}

static struct key_head head_of(struct str bytes)
{
	struct key_head head;

	assert(bytes.len >= sizeof(head));
	memcpy(&head, bytes.ptr, sizeof(head));
	return head;
}

struct str key_repo(struct str bytes)
{
	struct key_head head = head_of(bytes);

	return (struct str){ bytes.ptr + sizeof(head), head.repo_len };
}

struct str key_a(struct str bytes)
{
	struct key_head head = head_of(bytes);

	return (struct str){ bytes.ptr + sizeof(head) + head.repo_len, head.a_len };
}

struct str key_b(struct str bytes)
{
	struct key_head head = head_of(bytes);
	size_t before = sizeof(head) + head.repo_len + head.a_len;

	return (struct str){ bytes.ptr + before, bytes.len - before };
}

/* --- shards --- */

void shard_read(struct shard *s)
{
	int rc = pthread_rwlock_rdlock(&s->lock);

	assert(rc == 0);
}

void shard_write(struct shard *s)
{
	int rc = pthread_rwlock_wrlock(&s->lock);

	assert(rc == 0);
}

void shard_drop(struct shard *s)
{
	int rc = pthread_rwlock_unlock(&s->lock);

	assert(rc == 0);
}

static void row_free(void *p)
{
	struct row *row = p;

	list_remove(&row->clock);
	value_done(row->kind, &row->value);
	free(row);
}

static void row_remove(struct table *t, struct shard *s, struct row *row)
{
	void *taken = map_take(s->rows[row->kind], (struct str){ row->key, row->key_len });

	assert(taken == row);
	assert(row->pins == 0);
	atomic_fetch_sub(&t->counts[row->kind], 1);
	row_free(row);
}

struct row *row_find(const struct shard *s, const struct key *k)
{
	return map_get(s->rows[k->kind], k->bytes);
}

/* One victim from this shard, if the hand finds one soon. Blobs whose use is not on disk yet go last. */
static bool shard_evict(struct table *t, struct shard *s, enum row_kind kind)
{
	for (int i = 0; i < CLOCK_LOOKS && !list_is_empty(&s->clocks[kind]); i++) {
		struct row *row = LIST_ENTRY(s->clocks[kind].next, struct row, clock);
		bool is_used = atomic_exchange(&row->is_used, false);

		if (is_used || (i < CLOCK_LOOKS / 2 && atomic_load(&row->is_touched))) {
			list_remove(&row->clock);
			list_add_tail(&s->clocks[kind], &row->clock);
			continue;
		}
		row_remove(t, s, row);
		return true;
	}
	return false;
}

/* `mine` is locked; others are only tried, so that no order of locks is needed. */
static bool evict_somewhere(struct table *t, struct shard *mine, enum row_kind kind)
{
	/* a shard that has more than its share pays first: one repo of a million files does not push out all others */
	if (map_count(mine->rows[kind]) > t->rows_max[kind] / SHARDS && shard_evict(t, mine, kind))
		return true;
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shards[atomic_fetch_add(&t->hand, 1) % SHARDS];
		bool found;

		if (s == mine)
			continue;
		if (pthread_rwlock_trywrlock(&s->lock) != 0)
			continue;
		found = shard_evict(t, s, kind);
		shard_drop(s);
		if (found)
			return true;
	}
	return shard_evict(t, mine, kind);
}

static void make_room(struct table *t, struct shard *mine, enum row_kind kind, size_t spare)
{
	for (int i = 0; i < VICTIMS_MAX; i++)
		if (atomic_load(&t->counts[kind]) + spare <= t->rows_max[kind] ||
		    !evict_somewhere(t, mine, kind))
			return;
}

struct row *row_make(struct table *t, struct shard *s, const struct key *k, bool *ret_was_there)
{
	struct row *row = row_find(s, k);

	*ret_was_there = row != NULL;
	if (row)
		return row;
	make_room(t, s, k->kind, 1);
	row = xcalloc(1, sizeof(*row) + k->bytes.len);
	row->kind = k->kind;
	row->key_len = k->bytes.len;
	memcpy(row->key, k->bytes.ptr, k->bytes.len);
	list_init(&row->clock);
	list_add_tail(&s->clocks[k->kind], &row->clock);
	(void)map_put(s->rows[k->kind], k->bytes, row);
	atomic_fetch_add(&t->counts[k->kind], 1);
	return row;
}

void row_set(struct row *row, const struct value *take)
{
	value_done(row->kind, &row->value);
	row->value = *take;
	if (row->kind == ROW_BLOB) {
		atomic_store(&row->used_at, take->state == VALUE_HELD ? take->blob.used_at : 0);
		atomic_store(&row->is_touched, false);
	}
}

void row_pin(struct shard *s, struct row *row)
{
	if (row->pins++ > 0)
		return;
	list_remove(&row->clock);
	if (row->kind == ROW_ENTRY)
		s->pinned_entries++;
}

void row_unpin(struct table *t, struct shard *s, const struct key *k)
{
	struct row *row = row_find(s, k);

	assert(row);
	assert(row->pins > 0);
	if (--row->pins > 0)
		return;
	if (row->kind == ROW_ENTRY)
		s->pinned_entries--;
	list_add_tail(&s->clocks[row->kind], &row->clock);
	if (row->kind == ROW_COMMIT)
		row_remove(t, s, row); /* from now on the disk knows it */
	else
		make_room(t, s, row->kind, 0);
}

/* --- the table --- */

void table_init(struct table *t, size_t rows_max)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shards[i];

		(void)pthread_rwlock_init(&s->lock, NULL);
		s->forgets = map_new();
		for (int kind = 0; kind < ROW_KINDS; kind++) {
			s->rows[kind] = map_new();
			list_init(&s->clocks[kind]);
		}
	}
	for (int kind = 0; kind < ROW_KINDS; kind++)
		t->rows_max[kind] = rows_max;
}

void table_done(struct table *t)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shards[i];

		for (int kind = 0; kind < ROW_KINDS; kind++)
			map_free(s->rows[kind], row_free);
		map_free(s->forgets, NULL);
		(void)pthread_rwlock_destroy(&s->lock);
	}
}

void table_drop_clean(struct table *t)
{
	for (int i = 0; i < SHARDS; i++) {
		struct shard *s = &t->shards[i];

		shard_write(s);
		s->epoch++; /* what readers have in their hands is of the old file */
		for (int kind = 0; kind < ROW_KINDS; kind++) {
			LIST_EACH(it, &s->clocks[kind])
				row_remove(t, s, LIST_ENTRY(it, struct row, clock));
		}
		shard_drop(s);
	}
}
