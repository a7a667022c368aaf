/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter - one who waits, once. Promises in the door.
 *
 * Owns      nothing: waiters live in those who wait, lists in those who announce.
 * Threads   any; lock rank WAITER. The state decides every race, the lock only guards the links of the list:
 *
 *            IDLE -- add --> LISTED -- wake_all wins --> WAKING ------ wake() returned --> IDLE
 *                              \---- cancel wins ------> CANCELLING -- unlinked --------> IDLE
 *
 *           Whoever moves it away from LISTED has won and ends the waiting alone. The loser, and whoever
 *           wants to add or cancel meanwhile, sets AWAITED and sleeps until the winner is done.
 *
 * A list may only go away when no waiter points to it any more: one in CANCELLING still does, although nobody
 * will wake it. It stays linked until its canceller unlinks it under the list's lock, so waiters_done() can
 * see it and wait.
 */
#include "common/waiter.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/banned.h"

enum {
	IDLE,
	LISTED,
	WAKING,
	CANCELLING,
	AWAITED = 8, /* flag beside WAKING and CANCELLING: somebody sleeps until it is over */
};

/*
 * May be called after the waiter's memory is gone (the sleeper it was for may have been quick): a futex
 * address that nobody waits on is no error, and a stranger who does wait there re-checks his own word.
 */
static void futex_wake_all(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
	/* every reason to return leads the caller to look at the word again */
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

/* Returns IDLE or LISTED, whichever it is once nobody is waking or cancelling. */
static uint32_t wait_for_rest(struct waiter *w)
{
	uint32_t state = atomic_load(&w->state);

	while ((state & ~AWAITED) == WAKING || (state & ~AWAITED) == CANCELLING) {
		if (!(state & AWAITED) && !atomic_compare_exchange_weak(&w->state, &state, state | AWAITED))
			continue;
		futex_wait(&w->state, state | AWAITED);
		state = atomic_load(&w->state);
	}
	return state;
}

/* The last touch of the waiter: after the exchange it may be freed or added again. */
static void come_to_rest(struct waiter *w)
{
	_Atomic uint32_t *word = &w->state;

	if (atomic_exchange(word, IDLE) & AWAITED)
		futex_wake_all(word);
}

void waiters_init(struct waiters *w)
{
	lock_init(&w->lock, LOCK_WAITER);
	list_init(&w->list);
	pthread_cond_init(&w->left, NULL);
}

void waiters_done(struct waiters *w)
{
	lock_take(&w->lock);
	while (!list_is_empty(&w->list)) {
		struct waiter *first = LIST_ENTRY(w->list.next, struct waiter, node);

		/* else somebody still waits, for what will never come */
		assert((atomic_load(&first->state) & ~AWAITED) == CANCELLING);
		pthread_cond_wait(&w->left, &w->lock.mutex);
	}
	lock_drop(&w->lock);
	pthread_cond_destroy(&w->left);
	lock_done(&w->lock);
}

void waiter_init(struct waiter *w, void (*wake)(struct waiter *))
{
	list_init(&w->node);
	w->at = NULL;
	atomic_init(&w->state, IDLE);
	w->wake = wake;
}

void waiters_add(struct waiters *list, struct waiter *w)
{
	uint32_t state = wait_for_rest(w);

	assert(state == IDLE); /* waits once at a time */
	SCOPED_LOCK(&list->lock);
	w->at = list;
	list_add_tail(&list->list, &w->node);
	atomic_store(&w->state, LISTED);
}

/*
 * Unlinks the next one that is ours to wake; those being cancelled go back to the list for waiters_done() to
 * see.
 */
static struct waiter *next_to_wake(struct waiters *list, struct list *batch)
{
	SCOPED_LOCK(&list->lock);

	while (!list_is_empty(batch)) {
		struct waiter *w = LIST_ENTRY(batch->next, struct waiter, node);
		uint32_t state = LISTED;

		list_remove(&w->node);
		if (atomic_compare_exchange_strong(&w->state, &state, WAKING))
			return w;
		list_add_tail(&list->list, &w->node);
	}
	return NULL;
}

void waiters_wake_all(struct waiters *list)
{
	struct list batch; /* so that one who waits again at once is not woken twice */
	struct waiter *w;

	list_init(&batch);
	lock_take(&list->lock);
	list_move_all(&batch, &list->list);
	lock_drop(&list->lock);
	while ((w = next_to_wake(list, &batch))) {
		w->wake(w);
		come_to_rest(w);
	}
}

bool waiters_is_empty(struct waiters *list)
{
	SCOPED_LOCK(&list->lock);

	return list_is_empty(&list->list);
}

void waiter_cancel(struct waiter *w)
{
	uint32_t state;

	while ((state = wait_for_rest(w)) == LISTED) {
		struct waiters *list;

		if (!atomic_compare_exchange_strong(&w->state, &state, CANCELLING))
			continue;
		list = w->at; /* ours: waiters_done() waits while we are linked */
		lock_take(&list->lock);
		list_remove(&w->node);
		pthread_cond_broadcast(&list->left);
		lock_drop(&list->lock);
		come_to_rest(w);
		return;
	}
}
