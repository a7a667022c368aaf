/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes - an immutable byte string shared by count.
 *
 * Owns      the bytes until the last reference goes.
 * Threads   any.
 */
#include "common/bytes.h"

#include <assert.h>
#include <stdatomic.h>

#include "common/alloc.h"

#include "common/banned.h"

struct bytes {
	atomic_uint refs;
	size_t len;
	char *data; /* owned */
};

struct bytes *bytes_new_take(char *data, size_t len)
{
	struct bytes *b = xmalloc(sizeof(*b));

	atomic_init(&b->refs, 1);
	b->data = data;
	b->len = len;
	return b;
}

struct bytes *bytes_new_copy(struct str s)
{
	return bytes_new_take(str_dup(s), s.len);
}

struct bytes *bytes_ref(struct bytes *b)
{
	unsigned before;

	if (!b)
		return NULL;
	before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	assert(before > 0);
	return b;
}

struct bytes *bytes_unref(struct bytes *b)
{
	unsigned before;

	if (!b)
		return NULL;
	before = atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel);
	assert(before > 0);
	if (before == 1) {
		free(b->data);
		free(b);
	}
	return NULL;
}

struct str bytes_str(const struct bytes *b)
{
	return b ? (struct str){ b->data, b->len } : STR("");
}
