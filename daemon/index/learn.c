/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/learn - facts into memory, at once, and into the queue for the disk.
 *
 * Both happen under the lock of the fact's shard, so that memory and disk see the facts of one row in one order.
 *
 * Never     reads or writes the disk (but a new blob's git id is looked up once).
 * Threads   any.
 */
#include "index/priv.h"

#include <assert.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define LOST_TREES_MAX 10000

/* --- trees that lost entries --- */

static struct str tree_key(struct buf *out, struct str repo, const char *commit)
{
	buf_init(out, repo.len + COMMIT_TEXT);
	(void)buf_append(out, commit, COMMIT_HEX); /* fits */
	(void)buf_append_str(out, repo);
	return buf_str(out);
}

bool tree_is_lost(struct index *x, struct str repo, const char *commit)
{
	SCOPED_BUF key = { 0 };
	SCOPED_LOCK(&x->queue_lock);

	if (x->all_trees_lost)
		return true;
	return map_count(x->lost_trees) && map_get(x->lost_trees, tree_key(&key, repo, commit));
}

static void lose_tree(struct index *x, const struct fact *f)
{
	SCOPED_BUF key = { 0 };
	SCOPED_KEY row_key;
	struct shard *s;
	struct row *row;

	lock_take(&x->queue_lock);
	if (map_count(x->lost_trees) < LOST_TREES_MAX)
		(void)map_put(x->lost_trees, tree_key(&key, f->repo, f->commit), x);
	else
		x->all_trees_lost = true;
	lock_drop(&x->queue_lock);

	key_init(&row_key, ROW_TREE, f->repo, commit_str(f->commit), STR(""));
	s = &x->table.shards[row_key.shard];
	shard_write(s);
	row = row_find(s, &row_key);
	if (row)
		row_set(row, &(struct value){ .state = VALUE_NONE });
	shard_drop(s);
}

/* --- the queue's end --- */

void push_locked(struct index *x, struct push *p, struct item *item)
{
	if (p->batch) {
		batch_add(p->batch, item);
		return;
	}
	lock_take(&x->queue_lock);
	p->was_empty |= list_is_empty(&x->queue);
	list_add_tail(&x->queue, &item->node);
	x->queued++;
	lock_drop(&x->queue_lock);
}

static void push_notify(struct index *x, const struct push *p)
{
	void (*notify)(void *ctx);
	void *ctx;

	if (!p->was_empty)
		return;
	lock_take(&x->queue_lock);
	notify = x->notify;
	ctx = x->notify_ctx;
	lock_drop(&x->queue_lock);
	if (notify)
		notify(ctx);
}

/* The disk does not keep up: what can be learned again is not learned, so that memory stays bounded. */
static bool must_pass_over(struct index *x, const struct fact *f)
{
	bool is_full, is_first;

	lock_take(&x->queue_lock);
	is_full = x->queued >= QUEUE_MAX;
	is_first = is_full && !x->was_full;
	x->was_full = is_full;
	lock_drop(&x->queue_lock);
	if (!is_full || fact_is_kept(f) || f->kind == FACT_BLOB)
		return false;
	if (is_first)
		log_warning("index",
			    "the disk does not keep up with what is learned: some of it is passed over",
			    LOG_END);
	if (f->kind == FACT_ENTRY)
		lose_tree(x, f);
	return true;
}

/* --- learning --- */

/* Sets one row. Returns true if the fact is to be written. */
static bool set_row_locked(struct index *x, struct shard *s, const struct key *k, const struct fact *f,
			   struct item *item)
{
	bool was_there;
	struct row *row = row_make(&x->table, s, k, &was_there);
	enum sameness same = was_there ? fact_compare(f, &row->value) : SAME_UNKNOWN;
	int64_t journaled_at = f->at > 0 ? f->at : 1;
	struct value v;

	if (was_there && fact_is_old_news(f, same, &row->value))
		return false;
	item->same = same;
	item->is_new = was_there && row->value.state != VALUE_HELD;
	value_from_fact(f, &v);
	v.journaled_at = same == SAME_YES ? row->value.journaled_at : journaled_at;
	row_set(row, &v);
	row_pin(s, row);
	return true;
}

/* Kinds of which all rows lie in one shard. */
static void learn_rows(struct index *x, const struct fact *f, struct push *p)
{
	struct key keys[FACT_KEYS_MAX];
	unsigned count = fact_keys(f, keys);
	struct shard *s = &x->table.shards[keys[0].shard];
	struct item *item = item_new(f);
	bool was_there, is_lost;

	shard_write(s);
	/* under the lock: lose_tree() says so first and then takes what is here back */
	is_lost = f->kind == FACT_TREE && tree_is_lost(x, f->repo, f->commit);
	if (!is_lost && set_row_locked(x, s, &keys[0], f, item)) {
		s->epoch++;
		if (count > 1) {
			struct row *row = row_make(&x->table, s, &keys[1], &was_there);

			row_set(row, &(struct value){ .state = VALUE_HELD });
			row_pin(s, row);
		}
		push_locked(x, p, item);
		item = NULL;
	}
	shard_drop(s);
	free(item);
	for (unsigned i = 0; i < count; i++)
		key_done(&keys[i]);
}

/* Two blobs with one git id (R05): the first keeps it. */
static bool has_collision(struct index *x, const struct fact *f)
{
	struct digest first;
	char git[2 * SHA1_BYTES + 1], kept[2 * SHA256_BYTES + 1], other[2 * SHA256_BYTES + 1];

	if (find_blob_of_git(x, &f->git, &first) < 0 || digest_eq(&first, &f->sha256))
		return false;
	format_hex(f->git.bytes, SHA1_BYTES, git);
	format_hex(first.bytes, SHA256_BYTES, kept);
	format_hex(f->sha256.bytes, SHA256_BYTES, other);
	log_warning("index", "two different files have the same git id: the first one keeps it",
		    LOG_TEXT("git", git), LOG_TEXT("kept", kept), LOG_TEXT("other", other), LOG_END);
	return true;
}

/* The git id's row first: whoever finds it looks at the blob's row, and only that one counts. */
static void learn_git(struct index *x, const struct fact *f)
{
	SCOPED_KEY k;
	struct shard *s;
	struct row *row;
	bool was_there;

	key_init(&k, ROW_GIT, STR(""), git_str(&f->git), STR(""));
	s = &x->table.shards[k.shard];
	shard_write(s);
	row = row_make(&x->table, s, &k, &was_there);
	row_set(row, &(struct value){ .state = VALUE_HELD, .sha256 = f->sha256 });
	row_pin(s, row);
	s->epoch++;
	shard_drop(s);
}

static void learn_blob(struct index *x, const struct fact *f, struct push *p)
{
	struct fact blob = *f;
	SCOPED_KEY k;
	struct shard *s;
	struct item *item;
	bool is_set;

	if (blob.at == 0)
		blob.at = clock_wall_s(x->clock);
	if (blob.kind == FACT_BLOB && !git_oid_is_none(&blob.git)) {
		if (has_collision(x, &blob))
			memset(&blob.git, 0, sizeof(blob.git));
		else
			learn_git(x, &blob);
	}
	key_init(&k, ROW_BLOB, STR(""), digest_str(&blob.sha256), STR(""));
	s = &x->table.shards[k.shard];
	item = item_new(&blob);
	shard_write(s);
	is_set = set_row_locked(x, s, &k, &blob, item);
	assert(is_set);
	s->epoch++;
	push_locked(x, p, item);
	shard_drop(s);
}

/* --- the door --- */

static bool is_commit(const char *commit)
{
	size_t len = strnlen(commit, COMMIT_TEXT);

	return len == COMMIT_HEX && str_is_lower_hex((struct str){ commit, len });
}

static bool is_sound(const struct fact *f)
{
	switch (f->kind) {
	case FACT_NAME:
	case FACT_ENTRY:
	case FACT_ABSENT:
	case FACT_TREE:
		return f->repo.len > 0 && is_commit(f->commit);
	case FACT_DOC:
		return f->repo.len > 0 && f->doc && (f->doc->commit[0] == 0 || is_commit(f->doc->commit));
	case FACT_OBJECT:
		return f->repo.len > 0 && f->content.kind == CONTENT_LFS;
	case FACT_ALIAS:
	case FACT_PUBLIC:
	case FACT_GRANT:
	case FACT_FORGET:
	case FACT_FORGET_ALL:
	case FACT_HIDE:
		return f->repo.len > 0;
	case FACT_IDENTITY:
		return f->repo.len > 0 && f->to.len > 0;
	case FACT_SHOWN:
		return f->repo.len > 0 && f->path.len > 0 && f->level != ACCESS_NONE;
	default:
		return true;
	}
}

static void learn(struct index *x, const struct fact *f, struct push *p)
{
	if (!is_sound(f)) {
		log_debug("index", "a fact without a repo or with a commit that is none",
			  LOG_U64("kind", f->kind), LOG_STR("repo", f->repo), LOG_END);
		return;
	}
	if (f->kind == FACT_USE) {
		index_touch_blob(x, &f->sha256, f->at);
		return;
	}
	if (!p->batch && must_pass_over(x, f))
		return;
	switch (f->kind) {
	case FACT_BLOB:
	case FACT_BLOB_GONE:
		learn_blob(x, f, p);
		break;
	case FACT_FORGET:
		learn_forget(x, f, p);
		break;
	case FACT_FORGET_ALL:
		learn_forget_all(x, f, p);
		break;
	case FACT_FORGET_GRANTS:
		learn_forget_grants(x, f, p);
		break;
	case FACT_HIDE:
		learn_hide(x, f, p);
		break;
	default:
		learn_rows(x, f, p);
		break;
	}
	push_notify(x, p);
}

void index_learn(struct index *x, const struct fact *f)
{
	learn(x, f, &(struct push){ .batch = NULL });
}

void index_batch_learn(struct index *x, struct index_batch *b, const struct fact *f)
{
	writer_assert(x);
	learn(x, f, &(struct push){ .batch = b });
}

/* --- when a batch is done with --- */

static void settle_row(struct index *x, const struct key *k, const struct item *item)
{
	struct shard *s = &x->table.shards[k->shard];
	struct row *row;

	shard_write(s);
	row = row_find(s, k);
	assert(row);
	if (item->is_unjournaled)
		row->value.journaled_at = 0;
	/* only if nothing newer was learned about it */
	if (item->is_dropped && row->pins == 1)
		row_set(row, &(struct value){ .state = VALUE_NONE });
	row_unpin(&x->table, s, k);
	shard_drop(s);
}

static void settle_item(struct index *x, const struct item *item)
{
	struct key keys[FACT_KEYS_MAX];
	unsigned count;

	if (item->fact.kind == FACT_FORGET || item->fact.kind == FACT_FORGET_GRANTS ||
	    item->fact.kind == FACT_FORGET_ALL || item->fact.kind == FACT_HIDE) {
		settle_forget(x, &item->fact);
		return;
	}
	count = fact_keys(&item->fact, keys);
	for (unsigned i = 0; i < count; i++) {
		settle_row(x, &keys[i], item);
		key_done(&keys[i]);
	}
}

void learn_settle(struct index *x, struct index_batch *b, bool is_lost)
{
	/* before any pin goes: a tree must not say "all is known" when an entry of it can no longer be found */
	for (size_t i = 0; is_lost && i < b->count; i++)
		if (b->items[i]->fact.kind == FACT_ENTRY && b->items[i]->same != SAME_YES)
			lose_tree(x, &b->items[i]->fact);
	for (size_t i = 0; i < b->count; i++)
		settle_item(x, b->items[i]);
}
