/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret - a token in memory, shared by count, wiped with its last reference.
 *
 * Threads   any; the value never changes.
 */
#include "fetch/fetch.h"

#include <assert.h>
#include <stdatomic.h>

#include "common/alloc.h"
#include "common/hash.h"

#include "common/banned.h"

struct secret {
	atomic_uint refs;
	size_t len;
	char value[]; /* NUL terminated */
};

struct secret *secret_new(struct str authorization)
{
	struct secret *s = xmalloc(sizeof(*s) + authorization.len + 1);

	atomic_init(&s->refs, 1);
	s->len = authorization.len;
	if (authorization.len)
		memcpy(s->value, authorization.ptr, authorization.len);
	s->value[s->len] = 0;
	return s;
}

struct secret *secret_ref(struct secret *s)
{
	if (s)
		atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
	return s;
}

struct secret *secret_unref(struct secret *s)
{
	if (!s)
		return NULL;
	if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
		secret_wipe(s->value, s->len);
		free(s);
	}
	return NULL;
}

struct str secret_value(const struct secret *s)
{
	return s ? (struct str){ s->value, s->len } : (struct str){ 0 };
}
