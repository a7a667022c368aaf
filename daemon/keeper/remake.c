/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper/remake - a journal written anew, without the lines that do not count any more.
 *
 *   before the last forget-all    nothing stays but who may read the repo and whose old name it is
 *   documents                     those whose bytes are gone go, once no refresh relies on their line (index_batch_is_refresh)
 *
 * Threads   the keeper's.
 * Promises  (1) a rebuild from the new journal gives what one from the old journal would have given.
 *           (2) the file is replaced as a whole: a crash leaves the old one or the new one.
 */
#include "keeper/priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

#define KEPT_BYTES_MAX (UINT64_C(64) << 20)
#define SCRATCH_BYTES_MAX (UINT64_C(8) << 20)
/* An hour more than a line spares the next one that says the same. */
#define RELIED_ON_S (7 * 3600)

struct remake {
	const struct journal *journal;
	int64_t now;
	size_t seen, last; /* lines so far; the number of the last forget-all, 0: there is none */
	struct buf scratch, public, alias, rest;
	size_t kept;
};

static int look_for_last(void *ctx, struct str repo, struct str line)
{
	struct remake *m = ctx;
	struct doc doc = { 0 };
	struct fact f;

	m->seen++;
	if (fact_decode(repo, line, &m->scratch, &f, &doc) == 0 && f.kind == FACT_FORGET_ALL)
		m->last = m->seen;
	return 0;
}

static bool is_dead(const struct remake *m, const struct fact *f)
{
	struct content_id body = { .kind = CONTENT_LFS };
	struct blob *blob = NULL;
	struct digest sha256;
	int error;

	if (f->kind != FACT_DOC || m->now - index_seen_at(f->at) < RELIED_ON_S)
		return false;
	body.sha256 = f->doc->body;
	body.size = f->doc->body_size;
	if (index_find_blob(m->journal->index, &body, &sha256) != -ENODATA)
		return false;
	/* an index that is damaged knows nothing: it will be rebuilt from these very lines */
	error = store_open_blob(m->journal->store, &f->doc->body, &blob);
	(void)blob_unref(blob);
	return error == -ENODATA;
}

static int set_line(struct buf *b, struct str line)
{
	buf_reset(b);
	return buf_append_str(b, line);
}

static int keep(void *ctx, struct str repo, struct str line)
{
	struct remake *m = ctx;
	struct doc doc = { 0 };
	bool is_before = ++m->seen < m->last, is_known;
	struct fact f;

	is_known = fact_decode(repo, line, &m->scratch, &f, &doc) == 0; /* else a newer program's */
	if (is_before && is_known && f.kind == FACT_PUBLIC)
		return set_line(&m->public, line);
	if (is_before && is_known && f.kind == FACT_ALIAS)
		return set_line(&m->alias, line);
	if (is_before || (is_known && is_dead(m, &f)))
		return 0;
	m->kept++;
	(void)buf_append_str(&m->rest, line);
	return buf_append_char(&m->rest, '\n') < 0 ? -E2BIG : 0;
}

static int read_lines(struct remake *m, struct str repo, const struct str *more, size_t count,
		      int (*visit)(void *ctx, struct str repo, struct str line))
{
	int r;

	m->seen = 0;
	r = store_journal_visit(m->journal->store, repo, visit, m);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = visit(m, repo, more[i]);
	return r;
}

static int write_lines(struct remake *m, struct str repo)
{
	SCOPED_FREE struct str *lines = xcalloc(m->kept + 2, sizeof(*lines));
	struct str rest = buf_str(&m->rest);
	size_t count = 0;

	if (m->public.len)
		lines[count++] = buf_str(&m->public);
	if (m->alias.len)
		lines[count++] = buf_str(&m->alias);
	while (rest.len)
		(void)str_cut(rest, '\n', &lines[count++], &rest);
	return store_journal_replace(m->journal->store, repo, lines, count);
}

int journal_remake(const struct journal *j, struct str repo, const struct str *more, size_t count)
{
	struct remake m = { .journal = j, .now = clock_wall_s(j->clock) };
	int r;

	buf_init(&m.scratch, SCRATCH_BYTES_MAX);
	buf_init(&m.public, SCRATCH_BYTES_MAX);
	buf_init(&m.alias, SCRATCH_BYTES_MAX);
	buf_init(&m.rest, KEPT_BYTES_MAX);
	r = read_lines(&m, repo, more, count, look_for_last);
	if (r == 0)
		r = read_lines(&m, repo, more, count, keep);
	if (r == 0)
		r = write_lines(&m, repo);
	buf_done(&m.scratch);
	buf_done(&m.public);
	buf_done(&m.alias);
	buf_done(&m.rest);
	return r;
}
