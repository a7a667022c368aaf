/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc - small allocations that cannot fail (the process aborts: a restart is safe, see ARCHITECTURE.md).
 *
 * Never for sizes that come from outside: check those against a limit first and return -E2BIG.
 */
#pragma once
#include <stddef.h>

void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
/* Copies len bytes and adds a NUL. */
char *xstrndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
