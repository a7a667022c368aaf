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

/* A row that says the same as before is written to its journal again after this time, and not before. */
#define JOURNAL_AGAIN_S (6 * 3600)
#define LOST_TREES_MAX 10000

static struct str subject_str(const struct fact *f)
{
	return (struct str){ (const char *)f->subject, SUBJECT_BYTES };
}

static struct str commit_str(const char *commit)
{
	return (struct str){ commit, COMMIT_HEX };
}

static struct str digest_str(const struct digest *d)
{
	return (struct str){ (const char *)d->bytes, SHA256_BYTES };
}

static struct str git_str(const struct git_oid *g)
{
	return (struct str){ (const char *)g->bytes, SHA1_BYTES };
}

static bool is_commit(const char *commit)
{
	size_t len = strnlen(commit, COMMIT_TEXT);

	return len == COMMIT_HEX && str_is_lower_hex((struct str){ commit, len });
}

unsigned fact_keys(const struct fact *f, struct key keys[FACT_KEYS_MAX])
{
	struct str none = STR("");
	struct str commit = commit_str(f->commit);

	switch (f->kind) {
	case FACT_ALIAS:
		key_init(&keys[0], ROW_ALIAS, f->repo, none, none);
		return 1;
	case FACT_NAME:
		key_init(&keys[0], ROW_NAME, f->repo, f->revision, none);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_ENTRY:
	case FACT_ABSENT:
		key_init(&keys[0], ROW_ENTRY, f->repo, commit, f->path);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_TREE:
		key_init(&keys[0], ROW_TREE, f->repo, commit, none);
		key_init(&keys[1], ROW_COMMIT, f->repo, commit, none);
		return 2;
	case FACT_DOC:
		key_init(&keys[0], ROW_DOC, f->repo, f->path, none);
		return 1;
	case FACT_PUBLIC:
		key_init(&keys[0], ROW_PUBLIC, f->repo, none, none);
		return 1;
	case FACT_GRANT:
		key_init(&keys[0], ROW_GRANT, f->repo, subject_str(f), none);
		return 1;
	case FACT_DENY:
		key_init(&keys[0], ROW_DENY, f->repo, subject_str(f), none);
		return 1;
	case FACT_BLOB:
	case FACT_BLOB_GONE:
		key_init(&keys[0], ROW_BLOB, none, digest_str(&f->sha256), none);
		if (f->kind == FACT_BLOB_GONE || git_oid_is_none(&f->git))
			return 1;
		key_init(&keys[1], ROW_GIT, none, git_str(&f->git), none);
		return 2;
	case FACT_USE:
	case FACT_FORGET:
	case FACT_FORGET_GRANTS:
		break;
	}
	return 0;
}

static bool alias_is_none(const struct fact *f)
{
	return f->to.len == 0 || str_eq(f->to, f->repo);
}

static void value_from_fact(const struct fact *f, struct value *v)
{
	*v = (struct value){ .state = VALUE_HELD };
	switch (f->kind) {
	case FACT_ALIAS:
		if (alias_is_none(f))
			v->state = VALUE_NONE;
		else
			v->to = str_dup(f->to);
		break;
	case FACT_NAME:
		memcpy(v->name.commit, f->commit, COMMIT_TEXT);
		v->name.checked_at = f->at;
		break;
	case FACT_ENTRY:
		v->content = f->content;
		break;
	case FACT_ABSENT:
		v->state = VALUE_ABSENT;
		break;
	case FACT_DOC:
		v->doc = doc_dup(f->doc);
		break;
	case FACT_PUBLIC:
	case FACT_GRANT:
		v->state = f->level == ACCESS_NONE ? VALUE_NONE : VALUE_HELD;
		v->access.level = f->level;
		v->access.at = f->at;
		break;
	case FACT_DENY:
		v->access.at = f->at;
		break;
	case FACT_BLOB:
		v->blob.git = f->git;
		v->blob.size = f->size;
		v->blob.used_at = f->at;
		break;
	case FACT_BLOB_GONE:
		v->state = VALUE_NONE;
		break;
	case FACT_TREE:
	case FACT_USE:
	case FACT_FORGET:
	case FACT_FORGET_GRANTS:
		break;
	}
}

/* --- is it news? --- */

static bool text_eq(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool doc_eq(const struct doc *a, const struct doc *b)
{
	return digest_eq(&a->body, &b->body) && a->body_size == b->body_size && text_eq(a->content_type, b->content_type) &&
	       text_eq(a->link_next, b->link_next) && text_eq(a->commit, b->commit);
}

static bool says_the_same(const struct fact *f, const struct value *known)
{
	switch (f->kind) {
	case FACT_ALIAS:
		return known->state == VALUE_HELD ? str_eq(f->to, str_from(known->to)) : alias_is_none(f);
	case FACT_NAME:
		return known->state == VALUE_HELD && memcmp(f->commit, known->name.commit, COMMIT_HEX) == 0;
	case FACT_ENTRY:
		return known->state == VALUE_HELD && content_id_eq(&f->content, &known->content);
	case FACT_ABSENT:
		return known->state == VALUE_ABSENT;
	case FACT_TREE:
		return known->state == VALUE_HELD;
	case FACT_DOC:
		return known->state == VALUE_HELD && doc_eq(f->doc, known->doc);
	case FACT_PUBLIC:
	case FACT_GRANT:
		return f->level == (known->state == VALUE_HELD ? known->access.level : ACCESS_NONE);
	default:
		return false;
	}
}

enum sameness fact_compare(const struct fact *f, const struct value *known)
{
	if (!says_the_same(f, known))
		return SAME_NO;
	if (known->state == VALUE_NONE || f->kind == FACT_GRANT)
		return SAME_YES; /* there is nothing for the journal to keep */
	if (known->journaled_at == 0)
		return SAME_NO;
	if (f->kind == FACT_ENTRY || f->kind == FACT_ABSENT || f->kind == FACT_TREE)
		return SAME_YES;
	return f->at - known->journaled_at < JOURNAL_AGAIN_S ? SAME_YES : SAME_NO;
}

/* Nothing about it would change, not even a time that somebody reads. */
static bool is_old_news(const struct fact *f, enum sameness same, const struct value *known)
{
	if (same != SAME_YES)
		return false;
	return f->kind == FACT_ENTRY || f->kind == FACT_ABSENT || f->kind == FACT_TREE || f->kind == FACT_ALIAS ||
	       ((f->kind == FACT_PUBLIC || f->kind == FACT_GRANT) && known->state == VALUE_NONE);
}

bool fact_is_revocation(const struct fact *f)
{
	return f->kind == FACT_FORGET || f->kind == FACT_FORGET_GRANTS ||
	       ((f->kind == FACT_PUBLIC || f->kind == FACT_GRANT) && f->level != ACCESS_FILES);
}

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
		row_set(s, row, &(struct value){ .state = VALUE_NONE });
	shard_drop(s);
}

/* --- the queue's end --- */

struct push {
	struct index_batch *batch; /* NULL: to the queue */
	bool was_empty;
};

static void push_locked(struct index *x, struct push *p, struct item *item)
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
	if (!is_full || fact_is_revocation(f) || f->kind == FACT_BLOB || f->kind == FACT_BLOB_GONE)
		return false;
	if (is_first)
		log_warning("index", "the disk does not keep up with what is learned: some of it is passed over", LOG_END);
	if (f->kind == FACT_ENTRY)
		lose_tree(x, f);
	return true;
}

/* --- learning --- */

/* Sets one row. Returns true if the fact is to be written. */
static bool set_row_locked(struct index *x, struct shard *s, const struct key *k, const struct fact *f, struct item *item)
{
	bool was_there;
	struct row *row = row_make(&x->table, s, k, &was_there);
	enum sameness same = was_there ? fact_compare(f, &row->value) : SAME_UNKNOWN;
	int64_t journaled_at = f->at > 0 ? f->at : 1;
	struct value v;

	if (was_there && is_old_news(f, same, &row->value))
		return false;
	item->same = same;
	item->is_new = was_there && row->value.state != VALUE_HELD;
	value_from_fact(f, &v);
	v.journaled_at = same == SAME_YES ? row->value.journaled_at : journaled_at;
	row_set(s, row, &v);
	row_pin(s, row);
	return true;
}

static void drop_denial_locked(struct index *x, struct shard *s, const struct fact *f)
{
	SCOPED_KEY k;
	struct row *row;

	key_init(&k, ROW_DENY, f->repo, subject_str(f), STR(""));
	row = row_find(s, &k);
	if (row && f->at >= row->value.access.at)
		row_set(s, row, &(struct value){ .state = VALUE_NONE });
}

/* Kinds of which all rows lie in one shard. */
static void learn_rows(struct index *x, const struct fact *f, struct push *p)
{
	struct key keys[FACT_KEYS_MAX];
	unsigned count = fact_keys(f, keys);
	struct shard *s = &x->table.shards[keys[0].shard];
	struct item *item = item_new(f);
	bool was_there;

	shard_write(s);
	if (set_row_locked(x, s, &keys[0], f, item)) {
		s->epoch++;
		if (count > 1) {
			struct row *row = row_make(&x->table, s, &keys[1], &was_there);

			row_set(s, row, &(struct value){ .state = VALUE_HELD });
			row_pin(s, row);
		}
		if (f->kind == FACT_GRANT && f->level != ACCESS_NONE)
			drop_denial_locked(x, s, f);
		push_locked(x, p, item);
		item = NULL;
	}
	shard_drop(s);
	free(item);
	for (unsigned i = 0; i < count; i++)
		key_done(&keys[i]);
}

static void learn_denial(struct index *x, const struct fact *f)
{
	SCOPED_KEY k;
	struct shard *s;
	struct row *row;
	struct value v;
	bool was_there;

	key_init(&k, ROW_DENY, f->repo, subject_str(f), STR(""));
	s = &x->table.shards[k.shard];
	value_from_fact(f, &v);
	shard_write(s);
	row = row_make(&x->table, s, &k, &was_there);
	row_set(s, row, &v);
	atomic_store(&row->is_used, true);
	shard_drop(s);
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
	log_warning("index", "two different files have the same git id: the first one keeps it", LOG_TEXT("git", git),
		    LOG_TEXT("kept", kept), LOG_TEXT("other", other), LOG_END);
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
	row_set(s, row, &(struct value){ .state = VALUE_HELD, .sha256 = f->sha256 });
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

/* --- forgetting --- */

enum forget_scope { FORGET_REPO = 'f', FORGET_SUBJECT_GRANTS = 's', FORGET_REPO_GRANTS = 'r' };

static struct str forget_key(struct buf *out, enum forget_scope scope, struct str what)
{
	buf_init(out, what.len + 2);
	(void)buf_append_char(out, (char)scope); /* fits */
	(void)buf_append_str(out, what);
	return buf_str(out);
}

static bool forgets_has(const struct shard *s, enum forget_scope scope, struct str what)
{
	SCOPED_BUF key = { 0 };

	return map_get(s->forgets, forget_key(&key, scope, what)) != NULL;
}

static bool doc_is_pinned(struct str key)
{
	return str_starts_with(key, STR("c:"));
}

bool forget_covers(const struct shard *s, const struct key *k)
{
	if (map_count(s->forgets) == 0)
		return false;
	switch (k->kind) {
	case ROW_NAME:
	case ROW_ENTRY:
		return forgets_has(s, FORGET_REPO, k->repo);
	case ROW_DOC:
		return !doc_is_pinned(k->a) && forgets_has(s, FORGET_REPO, k->repo);
	case ROW_GRANT:
		return forgets_has(s, FORGET_SUBJECT_GRANTS, k->a) || forgets_has(s, FORGET_REPO_GRANTS, k->repo);
	default:
		return false;
	}
}

static void forgets_add(struct shard *s, enum forget_scope scope, struct str what, int n)
{
	SCOPED_BUF buf = { 0 };
	struct str key = forget_key(&buf, scope, what);
	intptr_t count = (intptr_t)map_get(s->forgets, key) + n;

	assert(count >= 0);
	if (count > 0)
		(void)map_put(s->forgets, key, (void *)count);
	else
		(void)map_take(s->forgets, key);
}

struct forget {
	struct shard *shard;
	struct str repo;    /* empty: any */
	struct str subject; /* empty: any */
};

static int forget_row(void *ctx, struct str key, void *value)
{
	const struct forget *f = ctx;
	struct row *row = value;

	if (f->repo.len && !str_eq(key_repo(key), f->repo))
		return 0;
	if (f->subject.len && !str_eq(key_a(key), f->subject))
		return 0;
	if (row->kind == ROW_DOC && doc_is_pinned(key_a(key)))
		return 0;
	row_set(f->shard, row, &(struct value){ .state = VALUE_NONE });
	return 0;
}

static void learn_forget(struct index *x, const struct fact *f, struct push *p)
{
	struct item *item = item_new(f);
	struct forget forget = { .repo = f->repo };
	SCOPED_KEY k;
	struct shard *s;

	key_init(&k, ROW_NAME, f->repo, STR(""), STR("")); /* for its shard */
	s = &x->table.shards[k.shard];
	forget.shard = s;
	shard_write(s);
	(void)map_each(s->rows[ROW_NAME], forget_row, &forget);
	(void)map_each(s->rows[ROW_DOC], forget_row, &forget);
	LIST_EACH(it, &s->absent) {
		struct row *row = LIST_ENTRY(it, struct row, absent);

		(void)forget_row(&forget, (struct str){ row->key, row->key_len }, row);
	}
	forgets_add(s, FORGET_REPO, f->repo, 1);
	s->epoch++;
	push_locked(x, p, item);
	shard_drop(s);
}

/* The grants of a subject lie in one shard, those of a repo in all: then all are locked, in their order. */
static void learn_forget_grants(struct index *x, const struct fact *f, struct push *p)
{
	bool is_repo = f->repo.len > 0;
	struct str what = is_repo ? f->repo : subject_str(f);
	struct item *item = item_new(f);
	unsigned first = 0, end = SHARDS;
	SCOPED_KEY k;

	key_init(&k, ROW_GRANT, STR(""), subject_str(f), STR("")); /* for its shard */
	if (!is_repo) {
		first = k.shard;
		end = first + 1;
	}
	for (unsigned i = first; i < end; i++) {
		struct shard *s = &x->table.shards[i];
		struct forget forget = { .shard = s };

		*(is_repo ? &forget.repo : &forget.subject) = what;
		shard_write(s);
		(void)map_each(s->rows[ROW_GRANT], forget_row, &forget);
		forgets_add(s, is_repo ? FORGET_REPO_GRANTS : FORGET_SUBJECT_GRANTS, what, 1);
		s->epoch++;
	}
	push_locked(x, p, item);
	for (unsigned i = first; i < end; i++)
		shard_drop(&x->table.shards[i]);
}

/* --- the door --- */

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
	case FACT_ALIAS:
	case FACT_PUBLIC:
	case FACT_GRANT:
	case FACT_DENY:
	case FACT_FORGET:
		return f->repo.len > 0;
	default:
		return true;
	}
}

static void learn(struct index *x, const struct fact *f, struct push *p)
{
	if (!is_sound(f)) {
		log_debug("index", "a fact without a repo or with a commit that is none", LOG_U64("kind", f->kind),
			  LOG_STR("repo", f->repo), LOG_END);
		return;
	}
	if (f->kind == FACT_USE) {
		index_touch_blob(x, &f->sha256, f->at);
		return;
	}
	if (f->kind == FACT_DENY) {
		learn_denial(x, f);
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
	case FACT_FORGET_GRANTS:
		learn_forget_grants(x, f, p);
		break;
	case FACT_TREE:
		if (!tree_is_lost(x, f->repo, f->commit))
			learn_rows(x, f, p);
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
		row_set(s, row, &(struct value){ .state = VALUE_NONE });
	row_unpin(&x->table, s, k);
	shard_drop(s);
}

static void settle_forget(struct index *x, const struct fact *f)
{
	SCOPED_KEY k;
	unsigned first = 0, end = SHARDS;
	enum forget_scope scope = f->kind == FACT_FORGET ? FORGET_REPO :
				  f->repo.len            ? FORGET_REPO_GRANTS :
							   FORGET_SUBJECT_GRANTS;
	struct str what = scope == FORGET_SUBJECT_GRANTS ? subject_str(f) : f->repo;

	key_init(&k, scope == FORGET_REPO ? ROW_NAME : ROW_GRANT, f->repo, subject_str(f), STR(""));
	if (scope != FORGET_REPO_GRANTS) {
		first = k.shard;
		end = first + 1;
	}
	for (unsigned i = first; i < end; i++) {
		shard_write(&x->table.shards[i]);
		forgets_add(&x->table.shards[i], scope, what, -1);
		/* who read the disk before the commit must not keep what he found */
		x->table.shards[i].epoch++;
		shard_drop(&x->table.shards[i]);
	}
}

static void settle_item(struct index *x, const struct item *item)
{
	struct key keys[FACT_KEYS_MAX];
	unsigned count;

	if (item->fact.kind == FACT_FORGET || item->fact.kind == FACT_FORGET_GRANTS) {
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
