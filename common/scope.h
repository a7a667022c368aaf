/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scope - variables that clean up after themselves when they leave their block.
 *
 * SCOPED(fn) calls fn_p(&variable); DEFINE_SCOPE(type, fn) makes fn_p out of fn. Always initialise a scoped
 * variable where it is declared. Hand the value on with TAKE_PTR or TAKE_FD, which leave the variable empty.
 */
#pragma once
#include <stdlib.h>
#include <unistd.h>

#define SCOPED(fn) __attribute__((cleanup(fn##_p)))
#define SCOPED_FREE SCOPED(scope_free)
#define SCOPED_FD SCOPED(scope_close)

#define DEFINE_SCOPE(type, fn)                                                                               \
	static inline void fn##_p(type *p)                                                                   \
	{                                                                                                    \
		if (*p)                                                                                      \
			fn(*p);                                                                              \
	}                                                                                                    \
	struct scope_needs_semicolon

#define TAKE_PTR(p)                                                                                          \
	({                                                                                                   \
		__typeof__(p) taken_ = (p);                                                                  \
		(p) = NULL;                                                                                  \
		taken_;                                                                                      \
	})

#define TAKE_FD(fd)                                                                                          \
	({                                                                                                   \
		int taken_ = (fd);                                                                           \
		(fd) = -1;                                                                                   \
		taken_;                                                                                      \
	})

static inline void scope_free_p(void *p)
{
	free(*(void **)p);
}

static inline void scope_close_p(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd); /* read side or already synced: nothing left to lose */
}
