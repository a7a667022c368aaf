/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter - one who waits, once, for something that somebody else will announce.
 *
 * The waiter lives in the one who waits (a request). The announcing side keeps a struct waiters and calls
 * waiters_wake_all(), which takes every waiter off the list and calls wake() outside of all locks.
 *
 * Promises (1) wake() is called at most once for each waiters_add().
 *          (2) after waiter_cancel() returned, wake() is not running and will not be called.
 * (3) one side need not keep the other alive: cancelling is safe while the list is woken and done with,
 *              and waiters_done() waits for those who are in the middle of cancelling.
 * Threads  all calls from any thread. wake() must be short and must not call back into the room that wakes,
 *          nor
 *          add or cancel its own waiter: those wait for it to end. It may have another thread do so.
 */
#pragma once
#include <stdint.h>
#include "common/list.h"
#include "common/lock.h"

struct waiters {
	struct lock lock;    /* rank WAITER */
	struct list list;    /* guarded by lock */
	pthread_cond_t left; /* a cancelled one has left the list */
};

struct waiter {
	struct list node;       /* guarded by at->lock */
	struct waiters *at;     /* borrowed from the announcing side; valid while listed */
	_Atomic uint32_t state; /* see waiter.c */
	void (*wake)(struct waiter *);
};

void waiters_init(struct waiters *w);
void waiters_done(struct waiters *w); /* nobody may wait any more */
void waiter_init(struct waiter *w, void (*wake)(struct waiter *));
void waiters_add(struct waiters *list, struct waiter *w);
void waiters_wake_all(struct waiters *list);
bool waiters_is_empty(struct waiters *list);
void waiter_cancel(struct waiter *w);
