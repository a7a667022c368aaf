/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe - a bounded queue of bytes. Not locked: the owner locks.
 *
 * Owns      a ring of the capacity given at init, allocated with the first byte.
 * Promises  (1) never holds more than its capacity; except that a piece which is larger than all of it is taken
 *               when it is empty, so that a sender of large pieces is not stuck for ever.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct pipe {
	char *bytes;     /* owned */
	size_t capacity; /* wanted */
	size_t room;     /* allocated */
	size_t first, len;
};

void pipe_init(struct pipe *p, size_t capacity);
void pipe_done(struct pipe *p);
/* All or nothing. */
bool pipe_put_all(struct pipe *p, const void *bytes, size_t len);
/* As much as fits. */
size_t pipe_put(struct pipe *p, const void *bytes, size_t len);
size_t pipe_take(struct pipe *p, void *bytes, size_t len_max);
static inline size_t pipe_free_room(const struct pipe *p)
{
	return p->len < p->capacity ? p->capacity - p->len : 0;
}
