/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock - a mutex with a rank. A thread may take a lock only if its rank is higher than that of every lock
 * it holds;
 * debug builds assert it. Never hold one across a callback, I/O, or a call into another room.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>

/* The order in which locks may be nested, outermost first. */
enum lock_rank {
	LOCK_SERVER = 1,
	LOCK_REQUEST,
	LOCK_INTERCEPT,
	LOCK_RELAY,
	LOCK_ASK,
	LOCK_CASTS, /* the table of casts */
	LOCK_CAST,  /* one cast */
	LOCK_BACKENDS,
	LOCK_FLIGHTS, /* the table of flights */
	LOCK_FLIGHT,  /* one flight */
	LOCK_KEEPER,
	LOCK_AUTH,
	LOCK_FETCH,
	LOCK_SPLICE,
	LOCK_STORE,
	LOCK_INDEX,
	LOCK_INDEX_QUEUE,
	LOCK_WORK,
	LOCK_CA,
	LOCK_WAITER,
	LOCK_METRICS,
};

struct lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

void lock_init(struct lock *l, enum lock_rank rank);
void lock_done(struct lock *l);
void lock_take(struct lock *l);
void lock_drop(struct lock *l);
/* For assert(lock_is_mine(l)) in x_locked() functions; true in builds without rank checks. */
bool lock_is_mine(const struct lock *l);

static inline void lock_drop_p(struct lock **l)
{
	if (*l)
		lock_drop(*l);
}
/* Holds the lock to the end of the block. */
#define SCOPED_LOCK(l)                                                                                       \
	__attribute__((cleanup(lock_drop_p), unused)) struct lock *scoped_lock_ = (lock_take(l), (l))
