/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/journal - facts into the journals of their repos: the files from which the index can be rebuilt.
 *
 * Never     writes a line for a fact that the journal has already (index_batch_is_refresh), so that a branch that is
 *           checked every 30 s does not make a file grow for ever.
 * Threads   the keeper's.
 * Promises  (1) lines of one repo are in the order in which they were learned.
 *           (2) a mark or a whole repo taken away that could not be written is written later: else a rebuild would open a
 *           repo again, or give an old repo's files for those of a new one. Lines for which a full store has no room wait until
 *           the turn has made some.
 *           (3) what was forgotten as a whole is in the journal no longer (remake.c); and a long journal holds at most about
 *           as many lines that do not count any more as others.
 */
#include "keeper/priv.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/map.h"

#include "common/banned.h"

/* Clients choose the names of what does not exist: in one life of the program no more of them than this (N05). */
#define ABSENT_LINES_MAX 100000
#define OWED_LINES_MAX 1000
#define TEXT_BYTES_MAX (UINT64_C(256) << 20)
/* A journal is long from here on; it is made anew when it is twice as long as it was then. */
#define LONG_BYTES (UINT64_C(256) << 10)
/* Asked for when there is none for lines. */
#define SHORT_BYTES (UINT64_C(64) << 10)
#define TO_MAKE_MAX 1000
#define PAUSE_TURNS 8
#define JOURNAL_REPO_MAX 8192

struct owed_line {
	struct list node;
	char *repo, *line; /* owned */
};

/* The lines of one repo within one batch. */
struct group {
	struct list node;
	struct str repo; /* borrowed from the batch */
	size_t *facts;   /* owned: their places in the batch */
	size_t count, room;
};

/* A batch as text: facts[i] lies at [at[i], at[i] + len[i]); len 0: no line. */
struct text {
	struct buf buf;
	size_t *at, *len; /* owned */
	struct list groups;
	struct map *by_repo;
};

void journal_init(struct journal *j, const struct keeper_opts *opts)
{
	j->store = opts->store;
	j->index = opts->index;
	j->clock = opts->clock;
	j->made = map_new();
	j->to_make = map_new();
	list_init(&j->owed);
}

static void owed_free(struct journal *j, struct owed_line *o)
{
	list_remove(&o->node);
	j->owed_count--;
	free(o->repo);
	free(o->line);
	free(o);
}

void journal_done(struct journal *j)
{
	LIST_EACH(it, &j->owed)
		owed_free(j, LIST_ENTRY(it, struct owed_line, node));
	map_free(j->made, NULL);
	map_free(j->to_make, NULL);
}

static void note_result(struct journal *j, int r, struct str repo)
{
	if (r < 0 && !j->is_failing)
		log_error("keeper",
			  "a journal cannot be written: what is learned now is lost if the index is",
			  LOG_STR("repo", repo), LOG_ERR("error", r), LOG_END);
	if (r == 0 && j->is_failing)
		log_info("keeper", "journals can be written again", LOG_END);
	j->is_failing = r < 0;
}

/* --- what is owed --- */

static void owe(struct journal *j, struct str repo, struct str line)
{
	struct owed_line *o;

	if (j->owed_count >= OWED_LINES_MAX)
		owed_free(j, LIST_ENTRY(j->owed.next, struct owed_line, node));
	o = xcalloc(1, sizeof(*o));
	o->repo = str_dup(repo);
	o->line = str_dup(line);
	list_add_tail(&j->owed, &o->node);
	j->owed_count++;
}

static bool owes(const struct journal *j, struct str repo)
{
	LIST_EACH(it, (struct list *)&j->owed)
		if (str_eq(str_from(LIST_ENTRY(it, struct owed_line, node)->repo), repo))
			return true;
	return false;
}

static void pay(struct journal *j)
{
	LIST_EACH(it, &j->owed) {
		struct owed_line *o = LIST_ENTRY(it, struct owed_line, node);
		struct str line = str_from(o->line);

		if (store_journal_append(j->store, str_from(o->repo), &line, 1) < 0)
			return;
		owed_free(j, o);
	}
}

/* --- what waits for room --- */

static void make_later(struct journal *j, struct str repo, uint64_t size)
{
	if (map_count(j->to_make) < TO_MAKE_MAX)
		(void)map_put(j->to_make, repo, (void *)(uintptr_t)size);
}

struct next {
	struct buf repo;
	uint64_t size;
};

static int take_first(void *ctx, struct str repo, void *size)
{
	struct next *n = ctx;

	n->size = (uintptr_t)size;
	return buf_append_str(&n->repo, repo) == 0;
}

uint64_t journal_wants(const struct journal *j)
{
	struct next n = { .size = 0 };

	buf_init(&n.repo, JOURNAL_REPO_MAX);
	(void)map_each(j->to_make, take_first, &n);
	buf_done(&n.repo);
	return j->is_short || n.size ? n.size + SHORT_BYTES : 0;
}

static void make_next(struct journal *j)
{
	struct next n = { .size = 0 };
	struct str repo;
	int r;

	if (j->pause && --j->pause)
		return;
	buf_init(&n.repo, JOURNAL_REPO_MAX);
	(void)map_each(j->to_make, take_first, &n);
	repo = buf_str(&n.repo);
	if (repo.len) {
		(void)map_take(j->to_make, repo);
		r = journal_remake(j, repo, NULL, 0);
		if (r == 0)
			(void)map_put(j->made, repo, (void *)(uintptr_t)store_journal_size(j->store, repo));
		/* what room was made others have taken: again, but not in every turn */
		if (r == -ENOSPC) {
			make_later(j, repo, store_journal_size(j->store, repo));
			j->pause = PAUSE_TURNS;
		}
	}
	buf_done(&n.repo);
}

void journal_settle(struct journal *j)
{
	if (j->is_short) {
		pay(j);
		note_result(j, j->owed_count ? -ENOSPC : 0, STR(""));
		j->is_short = false;
	}
	make_next(j);
}

/* --- one batch --- */

static void group_add(struct text *t, struct str repo, size_t fact)
{
	struct group *g = map_get(t->by_repo, repo);

	if (!g) {
		g = xcalloc(1, sizeof(*g));
		g->repo = repo;
		list_add_tail(&t->groups, &g->node);
		(void)map_put(t->by_repo, repo, g);
	}
	if (g->count == g->room) {
		g->room = g->room ? 2 * g->room : 16;
		g->facts = xrealloc(g->facts, g->room * sizeof(*g->facts));
	}
	g->facts[g->count++] = fact;
}

static bool is_over_absent(struct journal *j, const struct fact *f)
{
	if (f->kind != FACT_ABSENT)
		return false;
	if (j->absent_lines == ABSENT_LINES_MAX)
		log_warning("keeper",
			    "very many names that do not exist were asked for: no more of them are journaled",
			    LOG_END);
	return j->absent_lines++ >= ABSENT_LINES_MAX;
}

static void encode(struct journal *j, struct index_batch *b, struct text *t)
{
	size_t count = index_batch_count(b);

	t->at = xcalloc(count, sizeof(*t->at));
	t->len = xcalloc(count, sizeof(*t->len));
	for (size_t i = 0; i < count; i++) {
		const struct fact *f = index_batch_fact(b, i);
		int r;

		if (index_batch_is_refresh(b, i))
			continue;
		t->at[i] = t->buf.len;
		r = is_over_absent(j, f) ? -E2BIG : fact_encode(f, &t->buf);
		if (r < 0)
			index_batch_unjournaled(b, i);
		if (r <= 0)
			continue;
		t->len[i] = t->buf.len - t->at[i];
		group_add(t, f->repo, i);
	}
}

static struct str line_of(const struct text *t, size_t fact)
{
	return (struct str){ t->buf.bytes + t->at[fact], t->len[fact] };
}

static void group_failed(struct journal *j, struct index_batch *b, const struct text *t,
			 const struct group *g)
{
	for (size_t i = 0; i < g->count; i++) {
		const struct fact *f = index_batch_fact(b, g->facts[i]);

		index_batch_unjournaled(b, g->facts[i]);
		if (f->kind == FACT_FORGET_ALL || f->kind == FACT_FORGET || f->kind == FACT_HIDE ||
		    (f->kind == FACT_PUBLIC && f->level != ACCESS_FILES))
			owe(j, f->repo, line_of(t, g->facts[i]));
	}
}

/* Returns false: they are too many. */
static bool group_waits(struct journal *j, struct index_batch *b, const struct text *t, const struct group *g)
{
	if (j->owed_count + g->count > OWED_LINES_MAX)
		return false;
	for (size_t i = 0; i < g->count; i++) {
		index_batch_unjournaled(b, g->facts[i]);
		owe(j, g->repo, line_of(t, g->facts[i]));
	}
	j->is_short = true;
	return true;
}

static bool group_has(const struct index_batch *b, const struct group *g, enum fact_kind kind)
{
	for (size_t i = 0; i < g->count; i++)
		if (index_batch_fact(b, g->facts[i])->kind == kind)
			return true;
	return false;
}

/* What is forgotten as a whole goes from the file as well, with the line that says so. */
static int group_append(struct journal *j, struct index_batch *b, const struct group *g,
			const struct str *lines)
{
	int r;

	if (!group_has(b, g, FACT_FORGET_ALL))
		return store_journal_append(j->store, g->repo, lines, g->count);
	if (journal_remake(j, g->repo, lines, g->count) == 0)
		return 0;
	r = store_journal_append(j->store, g->repo, lines, g->count);
	if (r == 0)
		make_later(j, g->repo, store_journal_size(j->store, g->repo));
	return r;
}

/* Documents come and go: their lines must not stay for ever. */
static void shorten(struct journal *j, struct str repo)
{
	uint64_t size = store_journal_size(j->store, repo), made = (uintptr_t)map_get(j->made, repo);

	if (size < 2 * (made > LONG_BYTES / 2 ? made : LONG_BYTES / 2))
		return;
	/* if there is no room for it just now, that is made; else it is tried again when it is twice as long */
	if (journal_remake(j, repo, NULL, 0) == -ENOSPC)
		make_later(j, repo, size);
	(void)map_put(j->made, repo, (void *)(uintptr_t)store_journal_size(j->store, repo));
}

static void group_write(struct journal *j, struct index_batch *b, const struct text *t, const struct group *g)
{
	SCOPED_FREE struct str *lines = xcalloc(g->count, sizeof(*lines));
	int r;

	/* in their order */
	if (j->owed_count && owes(j, g->repo) && group_waits(j, b, t, g))
		return;
	for (size_t i = 0; i < g->count; i++)
		lines[i] = line_of(t, g->facts[i]);
	r = group_append(j, b, g, lines);
	if (r == -ENOSPC && group_waits(j, b, t, g))
		return;
	note_result(j, r, g->repo);
	if (r < 0)
		group_failed(j, b, t, g);
	else if (group_has(b, g, FACT_DOC))
		shorten(j, g->repo);
}

void journal_write(struct journal *j, struct index_batch *b)
{
	struct text t = { .by_repo = map_new() };

	pay(j);
	list_init(&t.groups);
	buf_init(&t.buf, TEXT_BYTES_MAX);
	if (index_batch_count(b))
		encode(j, b, &t);
	LIST_EACH(it, &t.groups) {
		struct group *g = LIST_ENTRY(it, struct group, node);

		group_write(j, b, &t, g);
		free(g->facts);
		free(g);
	}
	map_free(t.by_repo, NULL);
	free(t.at);
	free(t.len);
	buf_done(&t.buf);
}
