/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map - byte-string keys to pointers, over uthash.
 *
 * The only file that includes uthash.h. Keys are chosen by clients (names, URLs), so they are hashed with
 * SipHash under a secret of the map's own: nobody can choose thousands of keys for one bucket.
 * Owns      its copies of the keys; never the values.
 * Threads   the owner locks.
 */
#include "common/map.h"

#include <assert.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/hash.h"

#define uthash_malloc(bytes) xmalloc(bytes)
#define uthash_fatal(text) abort()
#include <uthash.h>

#include "common/banned.h"

struct entry {
	UT_hash_handle hh;
	void *value; /* borrowed from the map's user */
	size_t key_len;
	char key[];
};

struct map {
	struct entry *entries; /* owned; NULL when empty */
	uint64_t secret[2];
};

static uint64_t rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

/* SipHash-1-3: one round a word, three to finish; what Rust and Python use for their tables. */
static unsigned hash_key(const struct map *m, struct str key)
{
	uint64_t v[4] = { m->secret[0] ^ 0x736f6d6570736575, m->secret[1] ^ 0x646f72616e646f6d,
			  m->secret[0] ^ 0x6c7967656e657261, m->secret[1] ^ 0x7465646279746573 };
	uint64_t word, last = (uint64_t)key.len << 56;
	size_t at;

	for (at = 0; at + 8 <= key.len; at += 8) {
		memcpy(&word, key.ptr + at, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; at + i < key.len; i++)
		last |= (uint64_t)(unsigned char)key.ptr[at + i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	word = v[0] ^ v[1] ^ v[2] ^ v[3];
	return (unsigned)(word ^ word >> 32);
}

static struct entry *find(const struct map *m, struct str key, unsigned hash)
{
	struct entry *e = NULL;

	if (!key.ptr)
		key.ptr = "";
	HASH_FIND_BYHASHVALUE(hh, m->entries, key.ptr, key.len, hash, e);
	return e;
}

struct map *map_new(void)
{
	struct map *m = xcalloc(1, sizeof(*m));

	random_bytes(m->secret, sizeof(m->secret));
	return m;
}

static void *remove_entry(struct map *m, struct entry *e)
{
	void *value = e->value;

	HASH_DELETE(hh, m->entries, e);
	free(e);
	return value;
}

void map_free(struct map *m, void (*free_value)(void *))
{
	struct entry *e, *next;

	if (!m)
		return;
	HASH_ITER(hh, m->entries, e, next) {
		void *value = remove_entry(m, e);

		if (free_value)
			free_value(value);
	}
	free(m);
}

void *map_get(const struct map *m, struct str key)
{
	struct entry *e = find(m, key, hash_key(m, key));

	return e ? e->value : NULL;
}

void *map_put(struct map *m, struct str key, void *value)
{
	unsigned hash = hash_key(m, key);
	struct entry *e = find(m, key, hash);
	void *before = NULL;

	assert(value);                /* NULL is how map_get() says "none" */
	assert(key.len < UINT32_MAX); /* uthash counts in unsigned */
	if (e) {
		before = e->value;
		e->value = value;
		return before;
	}
	e = xmalloc(sizeof(*e) + key.len);
	e->value = value;
	e->key_len = key.len;
	if (key.len)
		memcpy(e->key, key.ptr, key.len);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, m->entries, e->key, key.len, hash, e);
	return NULL;
}

void *map_take(struct map *m, struct str key)
{
	struct entry *e = find(m, key, hash_key(m, key));

	return e ? remove_entry(m, e) : NULL;
}

size_t map_count(const struct map *m)
{
	return HASH_COUNT(m->entries);
}

int map_each(struct map *m, int (*visit)(void *ctx, struct str key, void *value), void *ctx)
{
	struct entry *e, *next;

	HASH_ITER(hh, m->entries, e, next) {
		int r = visit(ctx, (struct str){ e->key, e->key_len }, e->value);

		if (r)
			return r;
	}
	return 0;
}
