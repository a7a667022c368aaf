/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index/forget - what is taken back as a whole: after a write to a repo, when another repo has taken its name, or when a token has
 * lost its rights.
 *
 * A write makes what is known of names old, not wrong: it is doubted, and given when nobody can be asked. What is known of a
 * commit stays, also that it lacks a path.
 * In memory it happens at once. Until the disk has done the same, shard.forgets says that what the disk holds does not count
 * (forget_covers).
 *
 * Threads   any.
 */
#include "index/priv.h"

#include <assert.h>

#include "common/banned.h"

enum forget_scope {
	FORGET_REPO = 'f',
	FORGET_NAME = 'n',  /* of one name: repo and revision */
	FORGET_NAMED = 'd', /* of documents about some name that is no more */
	FORGET_ALL = 'a',
	FORGET_SUBJECT_GRANTS = 's',
	FORGET_REPO_GRANTS = 'r',
	FORGET_SHOWN = 'h', /* to a subject: repo and subject */
};

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

/* The repo's own length keeps both apart. */
static struct str name_in(struct buf *out, struct str repo, struct str revision)
{
	buf_init(out, repo.len + revision.len + sizeof(repo.len));
	(void)buf_append(out, &repo.len, sizeof(repo.len)); /* fits */
	(void)buf_append_str(out, repo);
	(void)buf_append_str(out, revision);
	return buf_str(out);
}

/* Is it one or more whole segments of the key of a document? "m:commits/dev/" is about dev. */
static bool doc_is_about(struct str key, struct str revision)
{
	for (size_t i = 0; revision.len && i + revision.len + 1 < key.len; i++)
		if (key.ptr[i] == '/' && memcmp(key.ptr + i + 1, revision.ptr, revision.len) == 0 &&
		    key.ptr[i + 1 + revision.len] == '/')
			return true;
	return false;
}

void value_doubt(enum row_kind kind, struct value *v)
{
	int64_t *seen_at = kind == ROW_NAME ? &v->name.checked_at : NULL;

	if (v->state == VALUE_HELD && kind == ROW_DOC)
		seen_at = &v->doc->fetched_at;
	if (v->state != VALUE_HELD || !seen_at)
		return;
	*seen_at = -index_seen_at(*seen_at);
	v->journaled_at = 0;
}

/* What a FORGET_ALL takes back. */
static bool is_of_repo(enum row_kind kind)
{
	return kind == ROW_NAME || kind == ROW_ENTRY || kind == ROW_TREE || kind == ROW_OBJECT ||
	       kind == ROW_COMMIT || kind == ROW_DOC || kind == ROW_IDENTITY || kind == ROW_SHOWN;
}

static enum cover name_is_covered(const struct shard *s, const struct key *k)
{
	SCOPED_BUF name = { 0 };

	if (forgets_has(s, FORGET_NAME, name_in(&name, k->repo, k->a)))
		return COVERS_ALL;
	return forgets_has(s, FORGET_REPO, k->repo) ? COVERS_DOUBT : COVERS_NOT;
}

static enum cover doc_is_covered(const struct shard *s, const struct key *k)
{
	if (doc_is_pinned(k->a))
		return COVERS_NOT;
	if (forgets_has(s, FORGET_NAMED, k->repo))
		return COVERS_ALL; /* which name does not matter for the moment that it takes */
	return forgets_has(s, FORGET_REPO, k->repo) ? COVERS_DOUBT : COVERS_NOT;
}

static enum cover shown_is_covered(const struct shard *s, const struct key *k)
{
	SCOPED_BUF whose = { 0 };

	return forgets_has(s, FORGET_SHOWN, name_in(&whose, k->repo, k->a)) ? COVERS_ALL : COVERS_NOT;
}

enum cover forget_covers(const struct shard *s, const struct key *k)
{
	if (map_count(s->forgets) == 0)
		return COVERS_NOT;
	if (is_of_repo(k->kind) && forgets_has(s, FORGET_ALL, k->repo))
		return COVERS_ALL;
	if (k->kind == ROW_SHOWN)
		return shown_is_covered(s, k);
	if (k->kind == ROW_NAME)
		return name_is_covered(s, k);
	if (k->kind == ROW_DOC)
		return doc_is_covered(s, k);
	if (k->kind == ROW_GRANT &&
	    (forgets_has(s, FORGET_SUBJECT_GRANTS, k->a) || forgets_has(s, FORGET_REPO_GRANTS, k->repo)))
		return COVERS_ALL;
	return COVERS_NOT;
}

bool repo_is_covered(struct index *x, struct str repo)
{
	struct shard *s;
	bool is_covered;
	SCOPED_KEY k;

	key_init(&k, ROW_COMMIT, repo, STR(""), STR(""));
	s = &x->table.shards[k.shard];
	shard_read(s);
	is_covered = forget_covers(s, &k) == COVERS_ALL;
	shard_drop(s);
	return is_covered;
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
	row_set(row, &(struct value){ .state = VALUE_NONE });
	return 0;
}

static int doubt_row(void *ctx, struct str key, void *value)
{
	const struct fact *f = ctx;
	struct row *row = value;
	struct str a = key_a(key);
	bool is_gone;

	if (!str_eq(key_repo(key), f->repo) || (row->kind == ROW_DOC && doc_is_pinned(a)))
		return 0;
	is_gone = row->kind == ROW_DOC ? doc_is_about(a, f->revision)
				       : f->revision.len && str_eq(a, f->revision);
	if (is_gone)
		row_set(row, &(struct value){ .state = VALUE_NONE });
	else
		value_doubt(row->kind, &row->value);
	return 0;
}

/* n: 1 it begins, -1 it is on disk. */
static void cover_written(struct shard *s, const struct fact *f, int n)
{
	SCOPED_BUF name = { 0 };

	forgets_add(s, FORGET_REPO, f->repo, n);
	if (f->revision.len == 0)
		return;
	forgets_add(s, FORGET_NAME, name_in(&name, f->repo, f->revision), n);
	forgets_add(s, FORGET_NAMED, f->repo, n);
}

void learn_forget(struct index *x, const struct fact *f, struct push *p)
{
	struct item *item = item_new(f);
	struct fact fact = *f;
	SCOPED_KEY k;
	struct shard *s;

	key_init(&k, ROW_NAME, f->repo, STR(""), STR("")); /* for its shard */
	s = &x->table.shards[k.shard];
	shard_write(s);
	(void)map_each(s->rows[ROW_NAME], doubt_row, &fact);
	(void)map_each(s->rows[ROW_DOC], doubt_row, &fact);
	cover_written(s, f, 1);
	s->epoch++;
	push_locked(x, p, item);
	shard_drop(s);
}

void learn_forget_all(struct index *x, const struct fact *f, struct push *p)
{
	struct item *item = item_new(f);
	struct forget forget = { .repo = f->repo };
	SCOPED_KEY k;
	struct shard *s;

	key_init(&k, ROW_COMMIT, f->repo, STR(""), STR("")); /* for its shard: they are all in one */
	s = &x->table.shards[k.shard];
	shard_write(s);
	for (enum row_kind kind = 0; kind < ROW_KINDS; kind++)
		if (is_of_repo(kind))
			(void)map_each(s->rows[kind], forget_row, &forget);
	forgets_add(s, FORGET_ALL, f->repo, 1);
	s->epoch++;
	push_locked(x, p, item);
	shard_drop(s);
}

/* The grants of a subject lie in one shard, those of a repo in all: then all are locked, in their order. */
void learn_forget_grants(struct index *x, const struct fact *f, struct push *p)
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
		struct forget forget = { .repo = STR("") };

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

/* --- what was shown --- */

static int hide_row(void *ctx, struct str key, void *value)
{
	const struct fact *f = ctx;
	struct row *row = value;

	if (row->value.state != VALUE_HELD || row->value.access.level <= f->level ||
	    !str_eq(key_repo(key), f->repo) || !str_eq(key_a(key), subject_str(f)))
		return 0;
	if (f->level == ACCESS_NONE)
		row_set(row, &(struct value){ .state = VALUE_NONE });
	else
		row->value.access.level = f->level;
	return 0;
}

/* n: as in cover_written(). Shard's lock. */
static void cover_shown(struct shard *s, const struct fact *f, int n)
{
	SCOPED_BUF whose = { 0 };

	forgets_add(s, FORGET_SHOWN, name_in(&whose, f->repo, subject_str(f)), n);
	/* who read the disk before must not keep what he found */
	s->epoch++;
}

static struct shard *shard_of_shown(struct index *x, const struct fact *f)
{
	SCOPED_KEY k;

	key_init(&k, ROW_SHOWN, f->repo, subject_str(f), STR(""));
	return &x->table.shards[k.shard];
}

void learn_hide(struct index *x, const struct fact *f, struct push *p)
{
	struct shard *s = shard_of_shown(x, f);
	struct item *item = item_new(f);
	struct fact fact = *f;

	shard_write(s);
	(void)map_each(s->rows[ROW_SHOWN], hide_row, &fact);
	cover_shown(s, f, 1);
	push_locked(x, p, item);
	shard_drop(s);
}

static void settle_hide(struct index *x, const struct fact *f)
{
	struct shard *s = shard_of_shown(x, f);

	shard_write(s);
	cover_shown(s, f, -1);
	shard_drop(s);
}

void settle_forget(struct index *x, const struct fact *f)
{
	SCOPED_KEY k = { .heap = NULL };
	unsigned first = 0, end = SHARDS;
	enum forget_scope scope = f->kind == FACT_FORGET       ? FORGET_REPO
				  : f->kind == FACT_FORGET_ALL ? FORGET_ALL
				  : f->repo.len                ? FORGET_REPO_GRANTS
							       : FORGET_SUBJECT_GRANTS;
	struct str what = scope == FORGET_SUBJECT_GRANTS ? subject_str(f) : f->repo;

	if (f->kind == FACT_HIDE) {
		settle_hide(x, f);
		return;
	}
	key_init(&k, scope == FORGET_REPO || scope == FORGET_ALL ? ROW_NAME : ROW_GRANT, f->repo,
		 subject_str(f), STR(""));
	if (scope != FORGET_REPO_GRANTS) {
		first = k.shard;
		end = first + 1;
	}
	for (unsigned i = first; i < end; i++) {
		shard_write(&x->table.shards[i]);
		if (scope == FORGET_REPO)
			cover_written(&x->table.shards[i], f, -1);
		else
			forgets_add(&x->table.shards[i], scope, what, -1);
		/* who read the disk before the commit must not keep what he found */
		x->table.shards[i].epoch++;
		shard_drop(&x->table.shards[i]);
	}
}
