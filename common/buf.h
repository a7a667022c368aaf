/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buf - a growing byte string with a maximum.
 *
 * Promises (1) never longer than the maximum given at init.
 *          (2) after a failed append the contents are as before, and every later append fails too (-E2BIG),
 *              so that a chain of appends may be checked once at its end with buf_error().
 */
#pragma once
#include "common/scope.h"
#include "common/str.h"

struct buf {
	char *bytes; /* owned; always NUL terminated when not NULL */
	size_t len;
	size_t room; /* allocated */
	size_t bytes_max;
	int error; /* 0 or -E2BIG, sticky */
};

void buf_init(struct buf *b, size_t bytes_max);
void buf_done(struct buf *b);
/* Empties it and forgets the error; keeps the memory. */
void buf_reset(struct buf *b);
int buf_append(struct buf *b, const void *bytes, size_t len);
int buf_append_str(struct buf *b, struct str s);
int buf_append_char(struct buf *b, char c);
int buf_appendf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline int buf_error(const struct buf *b)
{
	return b->error;
}
static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->bytes ? b->bytes : "", b->len };
}
/* The bytes are now the caller's (NUL terminated, free()); the buf is empty again. */
char *buf_take(struct buf *b, size_t *ret_len);

static inline void buf_done_p(struct buf *b)
{
	buf_done(b);
}
#define SCOPED_BUF __attribute__((cleanup(buf_done_p))) struct buf
