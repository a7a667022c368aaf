/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/arrive - connections that do not come from a listener: whoever has one gives it to a loop, in turn.
 *
 * Owns      sockets between server_add() and the loop's next turn.
 * Threads   server_add: any. All else: the loop's own, and main once it has ended.
 * Promises  (1) a socket that was given is served, refused in words, or closed: never forgotten.
 */
#include "server/priv.h"

#include <errno.h>
#include "common/alloc.h"
#include "common/scope.h"

#include "common/banned.h"

struct arrival {
	struct list node;
	int fd; /* owned */
	unsigned flags;
	struct sockaddr_storage from;
};

void arrive_init(struct loop *l)
{
	lock_init(&l->arrivals_lock, LOCK_SERVER);
	list_init(&l->arrivals);
	l->takes_arrivals = true;
}

static bool give(struct loop *l, struct arrival *a)
{
	SCOPED_LOCK(&l->arrivals_lock);

	if (!l->takes_arrivals)
		return false;
	list_add_tail(&l->arrivals, &a->node);
	return true;
}

int server_add(struct server *s, int take_fd, const struct sockaddr_storage *from, unsigned flags)
{
	SCOPED_FD int fd = take_fd;
	struct arrival *a;
	struct loop *l;

	if (from->ss_family != AF_INET && from->ss_family != AF_INET6)
		return -EINVAL;
	if (atomic_load(&s->is_draining))
		return -ESHUTDOWN;
	l = &s->loops[atomic_fetch_add(&s->arrivals, 1) % s->loop_count];
	a = xcalloc(1, sizeof(*a));
	*a = (struct arrival){ .fd = fd, .flags = flags & SERVER_INTERCEPTED, .from = *from };
	list_init(&a->node);
	if (!give(l, a)) {
		free(a);
		return -ESHUTDOWN;
	}
	(void)TAKE_FD(fd);
	loop_wake(l);
	return 0;
}

static void take_all(struct loop *l, struct list *ret, bool is_last)
{
	SCOPED_LOCK(&l->arrivals_lock);

	list_move_all(ret, &l->arrivals);
	if (is_last)
		l->takes_arrivals = false;
}

void arrive_admit(struct loop *l)
{
	struct list all = LIST_INIT(all);

	take_all(l, &all, false);
	LIST_EACH(it, &all) {
		struct arrival *a = LIST_ENTRY(it, struct arrival, node);

		accept_admit(l, a->fd, &a->from, a->flags);
		free(a);
	}
}

void arrive_stop(struct loop *l)
{
	struct list all = LIST_INIT(all);

	take_all(l, &all, true);
	LIST_EACH(it, &all) {
		struct arrival *a = LIST_ENTRY(it, struct arrival, node);

		(void)close(a->fd);
		free(a);
	}
}
