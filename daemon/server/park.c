/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/park - an exchange waits for news; its connection is suspended meanwhile.
 *
 *   RUNNING -- prepare --> PARKING -- commit: suspended --> PARKED -- wake: resumed --> RUNNING
 *      ^                      \-- wake came first --> WOKEN -- commit: suspended and resumed --.
 *      '-- abandon ------------'                                                              -> RUNNING
 *
 * The library forgets a resume that comes before its suspend, so the one who wakes may resume only what is PARKED; if it
 * is too early it leaves WOKEN, and the loop resumes by itself.
 *
 * Threads   wake: any. All others: the loop's own.
 */
#include "server/priv.h"

#include <assert.h>

#include "common/banned.h"

void park_prepare(struct exchange *x)
{
	waiter_cancel(&x->request.waiter); /* what it waited for before does not matter any more */
	atomic_store(&x->park, PARK_PARKING);
}

static void resume(struct conn *c)
{
	struct loop *l = c->loop; /* the connection may be gone as soon as the loop sees the resume */

	MHD_resume_connection(c->library);
	loop_wake(l);
}

void park_commit(struct exchange *x)
{
	int state = PARK_PARKING;

	MHD_suspend_connection(x->conn->library);
	if (atomic_compare_exchange_strong(&x->park, &state, PARK_PARKED))
		return;
	assert(state == PARK_WOKEN);
	atomic_store(&x->park, PARK_RUNNING);
	resume(x->conn);
}

void park_abandon(struct exchange *x)
{
	waiter_cancel(&x->request.waiter);
	atomic_store(&x->park, PARK_RUNNING);
}

void park_wake(struct waiter *w)
{
	struct request *q = LIST_ENTRY(w, struct request, waiter);
	struct exchange *x = LIST_ENTRY(q, struct exchange, request);
	int state = atomic_load(&x->park);

	while (state == PARK_PARKED || state == PARK_PARKING) {
		bool is_parked = state == PARK_PARKED;

		if (!atomic_compare_exchange_weak(&x->park, &state, is_parked ? PARK_RUNNING : PARK_WOKEN))
			continue;
		if (is_parked)
			resume(x->conn);
		return;
	}
}

void park_break(struct exchange *x)
{
	int state = PARK_PARKED;

	waiter_cancel(&x->request.waiter);
	if (atomic_compare_exchange_strong(&x->park, &state, PARK_RUNNING))
		resume(x->conn);
}
