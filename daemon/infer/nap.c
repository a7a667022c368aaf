/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/nap - a request that waits for a time instead of an answer: a model that is loading is asked again later.
 * Threads   the bell rings on the fetch thread; all else is the request's.
 */
#include "infer/priv.h"

#include "common/alloc.h"

struct nap {
	_Atomic int refs;
	struct lock lock;
	bool is_over; /* guarded by lock */
	struct waiters waiters;
};

static void nap_unref(struct nap *n)
{
	if (atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) != 1)
		return;
	waiters_done(&n->waiters);
	lock_done(&n->lock);
	free(n);
}

static void ring(void *ctx)
{
	struct nap *n = ctx;

	lock_take(&n->lock);
	n->is_over = true;
	lock_drop(&n->lock);
	waiters_wake_all(&n->waiters);
	nap_unref(n);
}

struct nap *nap_begin(struct fetch *f, uint64_t ms)
{
	struct nap *n = xcalloc(1, sizeof(*n));

	atomic_init(&n->refs, 2);
	lock_init(&n->lock, LOCK_REQUEST);
	waiters_init(&n->waiters);
	fetch_call(f, ms, ring, n);
	return n;
}

bool nap_wait(struct nap *n, struct waiter *w)
{
	SCOPED_LOCK(&n->lock);

	if (n->is_over)
		return false;
	waiters_add(&n->waiters, w);
	return true;
}

void nap_free(struct nap *n)
{
	if (n)
		nap_unref(n);
}
