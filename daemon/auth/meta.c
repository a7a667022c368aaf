/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth/meta - who was lately shown a repo's metadata, although the proof for its files has grown old.
 *
 * A grant has one level and one time. An answer about metadata must neither make the proof for the files younger nor take it
 * away: without upstream it is still good for its grace. So the younger time is kept here, in memory only; losing it costs a
 * question upstream.
 *
 * Promises  (1) never more than METAS_MAX of them: when they are, all are forgotten.
 */
#include "auth/priv.h"

#include "common/alloc.h"

void metas_init(struct metas *m)
{
	lock_init(&m->lock, LOCK_AUTH);
	m->by_key = map_new();
}

void metas_done(struct metas *m)
{
	map_free(m->by_key, free);
	lock_done(&m->lock);
}

static void make_key(struct buf *out, const uint8_t subject[SUBJECT_BYTES], struct str repo)
{
	buf_init(out, 8192);
	buf_append(out, subject, SUBJECT_BYTES);
	buf_append_str(out, repo);
}

void metas_put(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo, int64_t at)
{
	int64_t *value = xmalloc(sizeof(*value));
	SCOPED_BUF key;

	make_key(&key, subject, repo);
	*value = at;
	SCOPED_LOCK(&m->lock);
	if (map_count(m->by_key) >= METAS_MAX) {
		map_free(m->by_key, free);
		m->by_key = map_new();
	}
	free(map_put(m->by_key, buf_str(&key), value));
}

int64_t metas_find(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo)
{
	SCOPED_BUF key;

	make_key(&key, subject, repo);
	SCOPED_LOCK(&m->lock);
	const int64_t *value = map_get(m->by_key, buf_str(&key));

	return value ? *value : 0;
}

void metas_forget(struct metas *m, const uint8_t subject[SUBJECT_BYTES], struct str repo)
{
	SCOPED_BUF key;

	make_key(&key, subject, repo);
	SCOPED_LOCK(&m->lock);
	free(map_take(m->by_key, buf_str(&key)));
}

struct forgetting {
	struct map *map;
	const uint8_t *subject;
	struct str repo;
};

static int forget_if_its(void *ctx, struct str key, void *value)
{
	const struct forgetting *f = ctx;

	if (key.len >= SUBJECT_BYTES && memcmp(key.ptr, f->subject, SUBJECT_BYTES) == 0)
		free(map_take(f->map, key));
	return 0;
}

void metas_forget_subject(struct metas *m, const uint8_t subject[SUBJECT_BYTES])
{
	SCOPED_LOCK(&m->lock);

	(void)map_each(m->by_key, forget_if_its,
		       &(struct forgetting){ .map = m->by_key, .subject = subject });
}

static int forget_if_of_repo(void *ctx, struct str key, void *value)
{
	const struct forgetting *f = ctx;

	if (key.len == SUBJECT_BYTES + f->repo.len && str_ends_with(key, f->repo))
		free(map_take(f->map, key));
	return 0;
}

void metas_forget_repo(struct metas *m, struct str repo)
{
	SCOPED_LOCK(&m->lock);

	(void)map_each(m->by_key, forget_if_of_repo, &(struct forgetting){ .map = m->by_key, .repo = repo });
}
