/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub/hrefs - where upstream said, a moment ago, that an object's bytes are.
 *
 * Such an address is signed: who has it may read. So it stays in memory, is overwritten when it goes, and is never logged.
 *
 * Promises  (1) an address is given until it expires, and never longer than HREF_S_MAX. (2) never more than HREFS_MAX of
 *           them, nor HREFS_BYTES_MAX: the oldest goes first.
 */
#include "hub/priv.h"

#include "common/alloc.h"

/* So that one that upstream has stopped honouring does no harm for long. */
#define HREF_S_MAX 900
/* What is about to expire would do so on its way. */
#define HREF_S_LEFT 10

struct href {
	struct list node;
	int64_t until;
	char *key, *url; /* owned */
	size_t key_len, url_len;
};

static size_t bytes_of(const struct href *p)
{
	return sizeof(*p) + p->key_len + p->url_len;
}

static void href_free(void *v)
{
	struct href *p = v;

	list_remove(&p->node);
	secret_wipe(p->url, p->url_len);
	free(p->url);
	free(p->key);
	free(p);
}

void hrefs_init(struct hrefs *s)
{
	lock_init(&s->lock, LOCK_REQUEST);
	s->by_key = map_new();
	list_init(&s->oldest);
	s->bytes = 0;
}

void hrefs_done(struct hrefs *s)
{
	map_free(s->by_key, href_free);
	lock_done(&s->lock);
}

static void make_key(struct str repo, const struct digest *oid, struct buf *out)
{
	buf_init(out, 8192);
	buf_append(out, oid->bytes, SHA256_BYTES);
	buf_append_str(out, repo);
}

static void drop_locked(struct hrefs *s, struct str key)
{
	struct href *old = map_take(s->by_key, key);

	if (!old)
		return;
	s->bytes -= bytes_of(old);
	href_free(old);
}

static void make_room_locked(struct hrefs *s, size_t bytes)
{
	while (!list_is_empty(&s->oldest) &&
	       (map_count(s->by_key) >= HREFS_MAX || s->bytes + bytes > HREFS_BYTES_MAX)) {
		struct href *oldest = LIST_ENTRY(s->oldest.next, struct href, node);

		drop_locked(s, (struct str){ oldest->key, oldest->key_len });
	}
}

void hrefs_put(struct hrefs *s, struct str repo, const struct digest *oid, struct str url, int64_t expires_at,
	       int64_t now)
{
	SCOPED_BUF key;
	struct href *p;

	make_key(repo, oid, &key);
	if (buf_error(&key) || url.len == 0 || url.len > HREF_BYTES_MAX || expires_at - HREF_S_LEFT <= now)
		return;
	p = xcalloc(1, sizeof(*p));
	list_init(&p->node);
	p->until = expires_at - HREF_S_LEFT < now + HREF_S_MAX ? expires_at - HREF_S_LEFT : now + HREF_S_MAX;
	p->url = str_dup(url);
	p->url_len = url.len;
	p->key = buf_take(&key, &p->key_len);

	SCOPED_LOCK(&s->lock);
	drop_locked(s, (struct str){ p->key, p->key_len });
	make_room_locked(s, bytes_of(p));
	map_put(s->by_key, (struct str){ p->key, p->key_len }, p);
	list_add_tail(&s->oldest, &p->node);
	s->bytes += bytes_of(p);
}

bool hrefs_find(struct hrefs *s, struct str repo, const struct digest *oid, int64_t now, struct buf *out)
{
	SCOPED_BUF key;
	const struct href *p;

	make_key(repo, oid, &key);
	SCOPED_LOCK(&s->lock);
	p = buf_error(&key) ? NULL : map_get(s->by_key, buf_str(&key));
	if (!p || p->until <= now)
		return false;
	return buf_append_str(out, (struct str){ p->url, p->url_len }) == 0;
}
