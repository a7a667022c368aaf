/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/shelf - answers that were given lately, ready to be given again: their line read, their body in the form that was wanted.
 *
 * Owns      16 MiB of memory at most; those not given for longest go first.
 * Never     decides whether an answer is still there: the index does, by its blob's digest, which is the key here.
 * Threads   any.
 */
#include "infer/priv.h"

#include "common/alloc.h"

#define SHELF_BYTES_MAX ((size_t)16 << 20)
#define KEY_BYTES (SHA256_BYTES + 1)

struct shelved {
	struct list node; /* guarded by the shelf's lock */
	char key[KEY_BYTES];
	struct kept *kept; /* a reference */
	size_t bytes;
};

struct kept *kept_new(const struct digest *blob)
{
	struct kept *k = xcalloc(1, sizeof(*k));

	atomic_init(&k->refs, 1);
	k->digest = *blob;
	return k;
}

struct kept *kept_ref(struct kept *k)
{
	atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
	return k;
}

struct kept *kept_unref(struct kept *k)
{
	if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	record_done(&k->record);
	bytes_unref(k->body);
	blob_unref(k->blob);
	free(k);
	return NULL;
}

void shelf_init(struct shelf *s)
{
	lock_init(&s->lock, LOCK_REQUEST);
	s->by_key = map_new();
	list_init(&s->oldest);
}

static void drop_locked(struct shelf *s, struct shelved *e)
{
	(void)map_take(s->by_key, (struct str){ e->key, KEY_BYTES });
	list_remove(&e->node);
	s->bytes -= e->bytes;
	kept_unref(e->kept);
	free(e);
}

void shelf_done(struct shelf *s)
{
	while (!list_is_empty(&s->oldest))
		drop_locked(s, LIST_ENTRY(s->oldest.next, struct shelved, node));
	map_free(s->by_key, NULL);
	lock_done(&s->lock);
}

static void key_of(const struct digest *blob, char form, char ret[KEY_BYTES])
{
	memcpy(ret, blob->bytes, SHA256_BYTES);
	ret[SHA256_BYTES] = form;
}

struct kept *shelf_find(struct shelf *s, const struct digest *blob, char form)
{
	char key[KEY_BYTES];
	struct shelved *e;
	SCOPED_LOCK(&s->lock);

	key_of(blob, form, key);
	e = map_get(s->by_key, (struct str){ key, KEY_BYTES });
	if (!e)
		return NULL;
	list_remove(&e->node);
	list_add_tail(&s->oldest, &e->node);
	return kept_ref(e->kept);
}

void shelf_put(struct shelf *s, struct kept *kept, char form)
{
	struct shelved *e = xcalloc(1, sizeof(*e)), *other;
	SCOPED_LOCK(&s->lock);

	key_of(&kept->digest, form, e->key);
	e->kept = kept_ref(kept);
	e->bytes = sizeof(*e) + sizeof(*kept) + 1024 + bytes_str(kept->body).len;
	other = map_get(s->by_key, (struct str){ e->key, KEY_BYTES });
	if (other)
		drop_locked(s, other);
	(void)map_put(s->by_key, (struct str){ e->key, KEY_BYTES }, e);
	list_add_tail(&s->oldest, &e->node);
	s->bytes += e->bytes;
	while (s->bytes > SHELF_BYTES_MAX)
		drop_locked(s, LIST_ENTRY(s->oldest.next, struct shelved, node));
}
