/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/linger - closing a socket whose client may still be sending.
 *
 * A socket that is closed with unread bytes, or gets some afterwards, answers with RST, and the RST may overtake our last
 * answer (hub-protocol 2.9). So such sockets stay half open for a moment while what comes in is thrown away.
 *
 * Bounds    64 sockets a loop, 2 s and 4 MiB each: a client that pushes on after that has earned its RST.
 * Threads   the loop's own.
 */
#include "server/priv.h"

#include <errno.h>
#include <sys/epoll.h>
#include "common/alloc.h"
#include "common/scope.h"

#include "common/banned.h"

#define LINGER_COUNT_MAX 64u
#define LINGER_MS 2000u
#define LINGER_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct leaver {
	struct event event;
	struct list node;
	uint64_t until_mono_ms;
	size_t bytes_left;
};

static void end(struct loop *l, struct leaver *g)
{
	list_remove(&g->node);
	l->linger_count--;
	(void)close(
		g->event.fd); /* leaves the epoll by itself: it is the only descriptor of the socket by now */
	free(g);
}

void linger_add(struct loop *l, int fd, bool ends_stream)
{
	struct leaver *g;

	if (ends_stream)
		(void)shutdown(fd, SHUT_WR);
	if (l->linger_count == LINGER_COUNT_MAX)
		end(l, LIST_ENTRY(l->lingers.next, struct leaver, node));
	g = xcalloc(1, sizeof(*g));
	g->event = (struct event){ EVENT_LINGER, fd };
	g->until_mono_ms = clock_mono_ms(l->server->clock) + LINGER_MS;
	g->bytes_left = LINGER_BYTES_MAX;
	list_add_tail(&l->lingers, &g->node);
	l->linger_count++;
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd,
		      &(struct epoll_event){ .events = EPOLLIN, .data.ptr = &g->event }) < 0)
		end(l, g);
}

void linger_read(struct loop *l, struct event *e)
{
	struct leaver *g = LIST_ENTRY(e, struct leaver, event);
	char waste[16384];

	for (unsigned i = 0; i < 16; i++) { /* then let others have their turn */
		ssize_t n = recvfrom(e->fd, waste, sizeof(waste), MSG_DONTWAIT, NULL, NULL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || (size_t)n >= g->bytes_left) {
			end(l, g);
			return;
		}
		g->bytes_left -= (size_t)n;
	}
}

void linger_tick(struct loop *l, uint64_t now_mono_ms)
{
	LIST_EACH(it, &l->lingers) {
		struct leaver *g = LIST_ENTRY(it, struct leaver, node);

		if (g->until_mono_ms > now_mono_ms)
			return; /* oldest first */
		end(l, g);
	}
}

void linger_done(struct loop *l)
{
	while (!list_is_empty(&l->lingers))
		end(l, LIST_ENTRY(l->lingers.next, struct leaver, node));
}
