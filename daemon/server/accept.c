/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/accept - new connections of a loop, and what happens when there is no room for them.
 *
 * Owns      the loop's listening descriptors and one spare descriptor.
 * Promises  (1) out of descriptors (abuse case D06): the client is told so with the help of the spare one, and accepting
 *               pauses for 200 ms: no busy loop on a listener that stays readable.
 *           (2) over the limit of connections: the client gets 503 at once instead of waiting unseen in the backlog.
 *           (3) of the last eighth of the connections, no address that holds 256 already gets one (P15).
 * Threads   the loop's own.
 */
#include "server/priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include "common/alloc.h"
#include "common/scope.h"

#include "common/banned.h"

#define ACCEPT_PAUSE_MS 200u
#define ACCEPT_TURN_MAX 64 /* then those who are connected have their turn */
#define ACCEPT_CROWD_MAX 256u

static const struct wire_refusal no_room = { 503, "Service Unavailable",
					     "This cache serves as many connections as it may. Try again "
					     "in a moment, with fewer connections.",
					     "connections", REJECTED_LIMIT };
static const struct wire_refusal no_files = { 503, "Service Unavailable",
					      "This cache has no file descriptor left for another "
					      "connection. Try again in a moment.",
					      "descriptors", REJECTED_LIMIT };

static void watch(struct loop *l, bool on)
{
	for (unsigned i = 0; i < l->listen_count && on != l->is_accepting; i++) {
		struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = &l->on_listen[i] };

		(void)epoll_ctl(l->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, l->on_listen[i].fd, &ev);
	}
	l->is_accepting = on;
}

static int spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int take_listener(struct loop *l, const struct listener *from)
{
	int fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	l->on_listen[l->listen_count++] = (struct event){ EVENT_LISTEN, fd, from->is_admin };
	return 0;
}

int accept_start(struct loop *l)
{
	struct server *s = l->server;

	l->on_listen = xcalloc(s->listener_count, sizeof(*l->on_listen));
	for (unsigned i = 0; i < s->listener_count; i++) {
		const struct listener *from = &s->listeners[i];
		int r = from->is_shared || from->loop == l->index ? take_listener(l, from) : 0;

		if (r < 0)
			return r;
	}
	l->spare_fd = spare();
	watch(l, true);
	return 0;
}

/* How many connections of this loop come from the same address. Only asked when room is short. */
static unsigned crowd_of(const struct conn *c)
{
	unsigned n = 0;

	LIST_EACH(it, &c->loop->conns)
		n += strcmp(LIST_ENTRY(it, struct conn, node)->peer, c->peer) == 0;
	return n;
}

static bool has_room(const struct conn *c)
{
	const struct server *s = c->loop->server;
	unsigned used = atomic_load(&s->connections);

	if (used >= s->connections_max || !c->is_checked)
		return false;
	return used < s->connections_max - s->connections_max / 8 ||
	       crowd_of(c) < ACCEPT_CROWD_MAX / s->loop_count;
}

/* The library wants an address only to count by it, which it is not asked to. */
void accept_admit(struct loop *l, int fd, const struct sockaddr_storage *from, unsigned flags)
{
	struct conn *c = conn_new(l, fd, from, flags);

	if (!has_room(c)) {
		refuse_fd(l, fd, c->peer, &no_room); /* while wire.c knows it: its rule 10 */
		wire_remove_conn(c);
		free(c);
		return;
	}
	l->adding = c;
	if (MHD_add_connection(l->library, fd, (const struct sockaddr *)from, sizeof(*from)) != MHD_YES &&
	    l->adding) {
		/* it has closed fd, and never told us of the connection */
		wire_remove_conn(c);
		free(c);
	}
	l->adding = NULL;
}

static void pause_accepting(struct loop *l)
{
	l->accept_again_mono_ms = clock_mono_ms(l->server->clock) + ACCEPT_PAUSE_MS;
	if (l->tick_mono_ms > l->accept_again_mono_ms)
		l->tick_mono_ms = l->accept_again_mono_ms;
	watch(l, false);
}

/* One client at a time is told; the others wait in the backlog for what becomes free. */
static void turn_away(struct loop *l, int listen_fd)
{
	int fd;

	if (l->spare_fd >= 0)
		(void)close(l->spare_fd);
	l->spare_fd = -1;
	fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0) {
		refuse_fd(l, fd, "?", &no_files);
		/* it lingers in the place of the spare one, which comes back with a tick */
	}
	pause_accepting(l);
}

void accept_ready(struct loop *l, struct event *e)
{
	for (unsigned i = 0; i < ACCEPT_TURN_MAX; i++) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept4(e->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			accept_admit(l, fd, &from, e->is_admin ? CONN_ADMIN : 0);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			turn_away(l, e->fd);
		else if (errno == ECONNABORTED || errno == EINTR)
			continue;
		return;
	}
}

void accept_tick(struct loop *l, uint64_t now_mono_ms)
{
	if (l->accept_again_mono_ms == 0 || now_mono_ms < l->accept_again_mono_ms)
		return;
	if (l->spare_fd < 0)
		l->spare_fd = spare();
	l->accept_again_mono_ms = 0;
	watch(l, true);
}

void accept_stop(struct loop *l)
{
	if (!l->on_listen)
		return;
	for (unsigned i = 0; i < l->listen_count; i++)
		accept_ready(l, &l->on_listen[i]); /* those who have connected already are answered */
	watch(l, false);
	for (unsigned i = 0; i < l->listen_count; i++)
		(void)close(l->on_listen[i].fd);
	free(TAKE_PTR(l->on_listen));
	l->listen_count = 0;
	l->accept_again_mono_ms = 0;
	if (l->spare_fd >= 0)
		(void)close(TAKE_FD(l->spare_fd));
}
