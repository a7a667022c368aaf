/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock - a mutex with a rank, and a witness that knows which ones a thread holds.
 *
 * Owns      a short stack per thread of the locks it holds.
 * Threads   any.
 * Promises  (1) taking a lock whose rank is not above all held ones aborts at once, not only on the day it
 *               deadlocks.
 */
#include "common/lock.h"

#include <assert.h>
#include <stddef.h>

#include "common/banned.h"

/* More than the ranks there are: a thread cannot hold two of one rank. */
#define HELD_MAX 32

static _Thread_local struct {
	const struct lock *locks[HELD_MAX];
	unsigned count;
} held;

void lock_init(struct lock *l, enum lock_rank rank)
{
	int r = pthread_mutex_init(&l->mutex, NULL);

	assert(r == 0);
	l->rank = rank;
}

void lock_done(struct lock *l)
{
	int r = pthread_mutex_destroy(&l->mutex);

	assert(r == 0); /* EBUSY: somebody still holds it */
}

static void witness_take(const struct lock *l)
{
	/*
	 * each was above the one before when it was taken, and dropping keeps the order: the last is the
	 * highest
	 */
	if (held.count)
		assert(l->rank > held.locks[held.count - 1]->rank);
	assert(held.count < HELD_MAX);
	held.locks[held.count++] = l;
}

static void witness_drop(const struct lock *l)
{
	unsigned i = held.count;

	while (i > 0 && held.locks[i - 1] != l)
		i--;
	assert(i > 0); /* dropped by a thread that does not hold it */
	for (; i < held.count; i++)
		held.locks[i - 1] = held.locks[i];
	held.count--;
}

void lock_take(struct lock *l)
{
	int r;

	witness_take(l); /* before the wait: a wrong order must be seen also when it would block for ever */
	r = pthread_mutex_lock(&l->mutex);
	assert(r == 0);
}

void lock_drop(struct lock *l)
{
	int r;

	witness_drop(l);
	r = pthread_mutex_unlock(&l->mutex);
	assert(r == 0);
}

bool lock_is_mine(const struct lock *l)
{
	for (unsigned i = 0; i < held.count; i++)
		if (held.locks[i] == l)
			return true;
	return false;
}
