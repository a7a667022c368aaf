/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc - small allocations that cannot fail.
 *
 * Owns      nothing.
 * Threads   any.
 * Promises  (1) a returned pointer is never NULL, for 0 bytes too.
 */
#include "common/alloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/banned.h"

static void __attribute__((noreturn)) out_of_memory(void)
{
	static const char text[] = "level=error room=alloc msg=\"out of memory\"\n";

	/* No stdio: it might want memory. The result does not matter any more. */
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		abort();
	abort();
}

void *xmalloc(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xcalloc(size_t count, size_t bytes)
{
	void *p = calloc(count ? count : 1, bytes ? bytes : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc(void *p, size_t bytes)
{
	void *grown = realloc(p, bytes ? bytes : 1);

	if (!grown)
		out_of_memory();
	return grown;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t len)
{
	char *copy = xmalloc(len + 1);

	if (len)
		memcpy(copy, s, len);
	copy[len] = 0;
	return copy;
}

char *xasprintf(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&text, format, args);
	va_end(args);
	if (len < 0)
		out_of_memory();
	return text;
}
