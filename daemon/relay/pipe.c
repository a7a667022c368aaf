/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe - the ring in pipe.h.
 */
#include "relay/pipe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/alloc.h"

#include "common/banned.h"

void pipe_init(struct pipe *p, size_t capacity)
{
	assert(capacity > 0);
	*p = (struct pipe){ .capacity = capacity };
}

void pipe_done(struct pipe *p)
{
	free(p->bytes);
	*p = (struct pipe){ .capacity = p->capacity };
}

static void make_room(struct pipe *p, size_t room)
{
	if (p->room >= room)
		return;
	assert(p->len == 0); /* only an empty one grows: nothing has to move */
	free(p->bytes);
	p->bytes = xmalloc(room);
	p->room = room;
	p->first = 0;
}

static void append(struct pipe *p, const char *bytes, size_t len)
{
	size_t at = (p->first + p->len) % p->room;
	size_t to_end = p->room - at;
	size_t head = len < to_end ? len : to_end;

	assert(p->len + len <= p->room);
	memcpy(p->bytes + at, bytes, head);
	memcpy(p->bytes, bytes + head, len - head);
	p->len += len;
}

bool pipe_put_all(struct pipe *p, const void *bytes, size_t len)
{
	if (len == 0)
		return true;
	if (p->len && len > pipe_free_room(p))
		return false;
	if (p->len == 0)
		make_room(p, len > p->capacity ? len : p->capacity);
	append(p, bytes, len);
	return true;
}

size_t pipe_put(struct pipe *p, const void *bytes, size_t len)
{
	size_t room = pipe_free_room(p);

	if (len > room)
		len = room;
	return pipe_put_all(p, bytes, len) ? len : 0;
}

size_t pipe_take(struct pipe *p, void *bytes, size_t len_max)
{
	size_t len = len_max < p->len ? len_max : p->len;
	size_t to_end = p->room - p->first;
	size_t head = len < to_end ? len : to_end;

	if (len == 0)
		return 0;
	memcpy(bytes, p->bytes + p->first, head);
	memcpy((char *)bytes + head, p->bytes, len - head);
	p->first = (p->first + len) % p->room;
	p->len -= len;
	return len;
}
