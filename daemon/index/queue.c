/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/queue - copies of facts on their way to the disk, and batches of them.
 *
 * Owns      each copy, until its batch is applied.
 * Threads   the queue's lock; a batch belongs to the keeper.
 */
#include "index/priv.h"

#include <assert.h>

#include "common/alloc.h"

#include "common/banned.h"

/* Moves *s into the room at *to, with a NUL after it. */
static void take_in(char **to, struct str *s)
{
	if (s->len)
		memcpy(*to, s->ptr, s->len);
	(*to)[s->len] = 0;
	s->ptr = *to;
	*to += s->len + 1;
}

static void take_in_text(char **to, char **text)
{
	struct str s = str_from(*text);

	if (!*text)
		return;
	*text = *to;
	take_in(to, &s);
}

struct item *item_new(const struct fact *f)
{
	size_t len = f->repo.len + f->revision.len + f->path.len + f->to.len + 4;
	struct item *item;
	char *to;

	if (f->doc)
		len += str_from(f->doc->content_type).len + str_from(f->doc->link_next).len + 2;
	item = xcalloc(1, sizeof(*item) + len);
	to = (char *)(item + 1);
	item->fact = *f;
	list_init(&item->node);
	take_in(&to, &item->fact.repo);
	take_in(&to, &item->fact.revision);
	take_in(&to, &item->fact.path);
	take_in(&to, &item->fact.to);
	if (f->doc) {
		item->doc = *f->doc;
		item->fact.doc = &item->doc;
		take_in_text(&to, &item->doc.content_type);
		take_in_text(&to, &item->doc.link_next);
	}
	return item;
}

struct index_batch *batch_new(void)
{
	return xcalloc(1, sizeof(struct index_batch));
}

void batch_add(struct index_batch *b, struct item *item)
{
	if (b->count == b->room) {
		b->room = b->room ? 2 * b->room : 64;
		b->items = xrealloc(b->items, b->room * sizeof(struct item *));
	}
	b->items[b->count++] = item;
}

void batch_free(struct index_batch *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->count; i++)
		free(b->items[i]);
	free(b->items);
	free(b);
}

size_t index_batch_count(const struct index_batch *b)
{
	return b->count;
}

const struct fact *index_batch_fact(const struct index_batch *b, size_t i)
{
	assert(i < b->count);
	return &b->items[i]->fact;
}

bool index_batch_is_refresh(const struct index_batch *b, size_t i)
{
	assert(i < b->count);
	return b->items[i]->same == SAME_YES;
}

void index_batch_unjournaled(struct index_batch *b, size_t i)
{
	assert(i < b->count);
	b->items[i]->is_unjournaled = true;
}

void index_batch_drop(struct index_batch *b, size_t i)
{
	assert(i < b->count);
	b->items[i]->is_dropped = true;
}

void index_on_queue(struct index *x, void (*notify)(void *ctx), void *ctx)
{
	SCOPED_LOCK(&x->queue_lock);

	x->notify = notify;
	x->notify_ctx = ctx;
}

/* A FORGET that is not on disk yet: what the disk has is no reason to leave anything unwritten. */
static enum cover cover_of(struct index *x, const struct key *k)
{
	struct shard *s = &x->table.shards[k->shard];
	enum cover cover;

	shard_read(s);
	cover = forget_covers(s, k);
	shard_drop(s);
	return cover;
}

/* What the disk says about the row, for facts whose row was not in memory when they were learned. */
static void resolve(struct index *x, struct item *item)
{
	struct key keys[FACT_KEYS_MAX];
	unsigned count = fact_keys(&item->fact, keys);
	struct value known = { .state = VALUE_NONE };

	if (count) {
		enum cover cover = cover_of(x, &keys[0]);
		int r = cover == COVERS_ALL ? 0 : read_row(x->writer, &keys[0], &known);

		if (cover == COVERS_DOUBT)
			value_doubt(keys[0].kind, &known);
		item->is_new =
			known.state != VALUE_HELD; /* an entry known absent has a row, but does not count */
		/* unreadable: it is written once more, which does no harm */
		item->same = r < 0 ? SAME_NO : fact_compare(&item->fact, &known);
		value_done(keys[0].kind, &known);
	}
	for (unsigned i = 0; i < count; i++)
		key_done(&keys[i]);
}

static uint64_t count_entries(struct index *x, const struct fact *tree)
{
	sqlite3_stmt *st = NULL;
	int64_t count = 0;

	if (repo_is_covered(x, tree->repo))
		return 0;
	if (sql_start(x->writer, ST_COUNT_ENTRIES, &st) < 0)
		return UINT32_MAX; /* not known: then a rebuild does not trust the tree */
	sql_bind_str(st, 1, tree->repo);
	sql_bind_commit(st, 2, tree->commit);
	if (sql_row(x->writer, st) > 0)
		count = sqlite3_column_int64(st, 0);
	sql_stop(st);
	return (uint64_t)count;
}

/* A tree line says how many entries it stands for, so that a journal that lost some cannot claim to know all. */
static void count_tree(struct index *x, struct index_batch *b, size_t tree)
{
	struct fact *f = &b->items[tree]->fact;

	f->size = count_entries(x, f);
	for (size_t i = 0; i < tree; i++) {
		const struct item *item = b->items[i];

		if (item->fact.kind == FACT_ENTRY && item->is_new && str_eq(item->fact.repo, f->repo) &&
		    memcmp(item->fact.commit, f->commit, COMMIT_HEX) == 0)
			f->size++;
	}
}

struct index_batch *index_take_batch(struct index *x, size_t facts_max)
{
	struct index_batch *b = batch_new();
	bool is_reading;

	writer_assert(x);
	lock_take(&x->queue_lock);
	while (b->count < facts_max && !list_is_empty(&x->queue)) {
		struct item *item = LIST_ENTRY(x->queue.next, struct item, node);

		list_remove(&item->node);
		x->queued--;
		batch_add(b, item);
	}
	lock_drop(&x->queue_lock);

	/* one read transaction around all: a third of the time */
	is_reading = b->count > 1 && sql_run_id(x->writer, ST_BEGIN_READ) == 0;
	for (size_t i = 0; i < b->count; i++) {
		if (b->items[i]->same == SAME_UNKNOWN)
			resolve(x, b->items[i]);
		if (b->items[i]->fact.kind == FACT_TREE && b->items[i]->same != SAME_YES)
			count_tree(x, b, i);
	}
	if (is_reading)
		(void)sql_run_id(x->writer, ST_COMMIT); /* nothing was written */
	return b;
}
