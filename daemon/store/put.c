/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store/put - the bytes of a document into the store, also into a full one: what was not used for the longest time makes room.
 *
 * Threads   those that may wait: work threads. A server thread puts straight into the store.
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include "common/lock.h"

#include "common/banned.h"

/* What is asked for beside the bytes themselves: a sidecar, whole blocks, a line in a journal. */
#define ROOM_SPARE ((uint64_t)64 << 10)

struct room {
	struct lock lock;
	pthread_cond_t told;
	bool is_told;
	int error;
};

static void on_room(void *ctx, int error)
{
	struct room *r = ctx;
	SCOPED_LOCK(&r->lock);

	r->is_told = true;
	r->error = error;
	(void)pthread_cond_signal(&r->told);
}

static int make_room(const struct store_put *p, uint64_t bytes)
{
	struct room r = { 0 };

	if (!p->need_room)
		return -ENOSPC;
	lock_init(&r.lock, LOCK_WAITER);
	(void)pthread_cond_init(&r.told, NULL);
	p->need_room(p->ctx, bytes, on_room, &r);
	lock_take(&r.lock);
	while (!r.is_told)
		(void)pthread_cond_wait(&r.told, &r.lock.mutex);
	lock_drop(&r.lock);
	(void)pthread_cond_destroy(&r.told);
	lock_done(&r.lock);
	return r.error;
}

int store_put_making_room(struct store_put p, struct bytes *bytes, struct blob_meta *ret_meta)
{
	int r = store_put_bytes(p.store, bytes, ret_meta);

	if (r == -ENOSPC && make_room(&p, bytes_str(bytes).len + ROOM_SPARE) == 0)
		r = store_put_bytes(p.store, bytes, ret_meta);
	return r;
}
