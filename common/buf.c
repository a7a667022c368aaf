/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf - a growing byte string with a maximum. Promises in the door.
 *
 * Owns      its bytes.
 * Threads   one at a time.
 */
#include "common/buf.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/alloc.h"

#include "common/banned.h"

/* The first allocation: most of our strings are header lines and short JSON. */
#define BUF_ROOM_MIN 64

void buf_init(struct buf *b, size_t bytes_max)
{
	/* room for the NUL must be countable */
	*b = (struct buf){ .bytes_max = bytes_max < SIZE_MAX / 2 ? bytes_max : SIZE_MAX / 2 };
}

void buf_done(struct buf *b)
{
	free(b->bytes);
	*b = (struct buf){ .bytes_max = b->bytes_max };
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->error = 0;
	if (b->bytes)
		b->bytes[0] = 0;
}

/* Makes room for len more bytes and a NUL. */
static int reserve(struct buf *b, size_t len)
{
	size_t need, room;

	if (b->error)
		return b->error;
	if (len > b->bytes_max - b->len) {
		b->error = -E2BIG;
		return b->error;
	}
	need = b->len + len + 1;
	if (need <= b->room)
		return 0;
	room = b->room ? b->room : BUF_ROOM_MIN;
	while (room < need)
		room *= 2;
	if (room > b->bytes_max + 1)
		room = b->bytes_max + 1;
	b->bytes = xrealloc(b->bytes, room);
	b->room = room;
	return 0;
}

int buf_append(struct buf *b, const void *bytes, size_t len)
{
	int r = reserve(b, len);

	if (r < 0)
		return r;
	if (len)
		memcpy(b->bytes + b->len, bytes, len);
	b->len += len;
	b->bytes[b->len] = 0;
	return 0;
}

int buf_append_str(struct buf *b, struct str s)
{
	return buf_append(b, s.ptr, s.len);
}

int buf_append_char(struct buf *b, char c)
{
	return buf_append(b, &c, 1);
}

static int append_formatted(struct buf *b, const char *format, va_list args)
{
	va_list again;
	size_t left;
	int len, r;

	r = reserve(b, 0);
	if (r < 0)
		return r;
	left = b->room - b->len;
	va_copy(again, args);
	len = vsnprintf(b->bytes + b->len, left, format, args);
	assert(len >= 0);
	if ((size_t)len >= left) {
		b->bytes[b->len] = 0; /* promise 2, should there be no room */
		r = reserve(b, (size_t)len);
		if (r == 0)
			(void)vsnprintf(b->bytes + b->len, (size_t)len + 1, format, again);
	}
	if (r == 0)
		b->len += (size_t)len;
	va_end(again);
	return r;
}

int buf_appendf(struct buf *b, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = append_formatted(b, format, args);
	va_end(args);
	return r;
}

char *buf_take(struct buf *b, size_t *ret_len)
{
	char *bytes = b->bytes ? b->bytes : xstrdup("");

	if (ret_len)
		*ret_len = b->len;
	*b = (struct buf){ .bytes_max = b->bytes_max };
	return bytes;
}
