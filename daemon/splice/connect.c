/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/connect - from a name and a port to a connected socket.
 *
 * Addresses are tried in the resolver's order with the families taking turns; each gets a third of a second alone, then the next
 * one is tried beside it. The first that answers wins.
 *
 * Never     connects to an address that is not of the open Internet, unless the join is local (common/http/address.h).
 * Promises  (1) an address is checked as it is used: what a name means is for others to say.
 *           (2) ends within the limit of the join's phase, which cancels it.
 * Threads   the splice thread.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include "common/alloc.h"
#include "common/http/address.h"

#include "common/banned.h"

#define HEAD_START_MS 300u

struct attempt {
	struct watch watch;
	struct connector *connector;
};

struct connector {
	struct list node;  /* in splices->connectors */
	struct join *join; /* NULL: it has ended */
	struct lookup *lookup;
	struct address_list addresses;
	struct attempt attempts[ADDRESSES_MAX];
	unsigned next, open;
	uint64_t next_mono_ms;
	int error; /* of the last that failed */
};

struct connector *connector_from(struct list *node)
{
	return LIST_ENTRY(node, struct connector, node);
}

void connector_cancel(struct connector *c)
{
	if (c->lookup)
		lookup_cancel(TAKE_PTR(c->lookup));
	for (unsigned i = 0; i < ADDRESSES_MAX; i++)
		splices_unwatch(c->join->splices, &c->attempts[i].watch);
	c->join->connector = NULL;
	c->join = NULL;
}

void connector_bury(struct splices *s)
{
	LIST_EACH(it, &s->connectors) {
		struct connector *c = connector_from(it);

		if (c->join)
			continue;
		list_remove(&c->node);
		free(c);
	}
}

static void end(struct connector *c, int take_fd, int error)
{
	struct join *j = c->join;

	connector_cancel(c);
	join_connected(j, take_fd, error);
}

static bool is_permitted(const struct join *j, const struct sockaddr_storage *a)
{
	struct address address;

	if (j->is_local)
		return true;
	return address_from_socket((const struct sockaddr *)a, sizeof(*a), &address) == 0 &&
	       !address_is_internal(&address);
}

static void on_attempt(struct watch *w, uint32_t events);

/* Returns 0: it is on its way; -errno. */
static int begin(struct connector *c, struct attempt *a, const struct sockaddr_storage *to)
{
	socklen_t len = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int on = 1;

	if (!is_permitted(c->join, to))
		return -EACCES;
	a->connector = c;
	a->watch.ready = on_attempt;
	a->watch.fd = socket(to->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->watch.fd < 0)
		return -errno;
	(void)setsockopt(a->watch.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(a->watch.fd, (const struct sockaddr *)to, len) < 0 && errno != EINPROGRESS)
		return -errno;
	return splices_watch(c->join->splices, &a->watch); /* its first event says how it went */
}

/* Tries the next address, and those after it until one is on its way; with none left and none on its way it has failed. */
static void go_on(struct connector *c)
{
	while (c->next < c->addresses.count) {
		struct attempt *a = &c->attempts[c->next];
		int r = begin(c, a, &c->addresses.items[c->next++]);

		if (r == 0) {
			c->open++;
			c->next_mono_ms = splices_now(c->join->splices) + HEAD_START_MS;
			return;
		}
		splices_unwatch(c->join->splices, &a->watch);
		c->error = r;
	}
	if (c->open == 0)
		end(c, -1, c->error == -EACCES || c->error == -ETIMEDOUT ? c->error : -EHOSTUNREACH);
}

static void on_attempt(struct watch *w, uint32_t events)
{
	struct attempt *a = LIST_ENTRY(w, struct attempt, watch);
	struct connector *c = a->connector;
	socklen_t len = sizeof(int);
	int error = 0, fd;

	if (w->fd < 0 || !c->join)
		return;
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0 && !(events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
		return;
	if (error != 0) {
		c->error = -error;
		splices_unwatch(c->join->splices, w);
		c->open--;
		go_on(c);
		return;
	}
	fd = TAKE_FD(w->fd); /* stays in the epoll, as the join's end from now on */
	end(c, fd, 0);
}

void connector_tick(struct connector *c, uint64_t now_mono_ms)
{
	if (c->join && !c->lookup && c->next < c->addresses.count && now_mono_ms >= c->next_mono_ms)
		go_on(c);
}

/* The families take turns, beginning with the one that the resolver put first. */
static void order(const struct address_list *found, struct address_list *ret)
{
	bool used[ADDRESSES_MAX] = { false };
	int family = found->items[0].ss_family;

	ret->count = 0;
	while (ret->count < found->count) {
		unsigned pick = ADDRESSES_MAX;

		for (unsigned i = 0; i < found->count; i++)
			if (!used[i] && (pick == ADDRESSES_MAX || (found->items[i].ss_family == family &&
								   found->items[pick].ss_family != family)))
				pick = i;
		used[pick] = true;
		ret->items[ret->count++] = found->items[pick];
		family = found->items[pick].ss_family == AF_INET ? AF_INET6 : AF_INET;
	}
}

static void on_found(void *ctx, int error, const struct address_list *found)
{
	struct connector *c = ctx;

	c->lookup = NULL;
	if (error < 0) {
		end(c, -1, error);
		return;
	}
	order(found, &c->addresses);
	go_on(c);
}

/* An address needs no looking up: "192.0.2.1", "2001:db8::1", "[2001:db8::1]". */
static bool is_address(const char *host, uint16_t port, struct address_list *ret)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV },
			*found = NULL;
	size_t len = strlen(host);
	bool has_brackets = len > 2 && host[0] == '[' && host[len - 1] == ']';
	SCOPED_FREE char *bare = has_brackets ? xstrndup(host + 1, len - 2) : xstrdup(host);
	char port_text[8];

	(void)snprintf(port_text, sizeof(port_text), "%u", port);
	if (getaddrinfo(bare, port_text, &hints, &found) != 0)
		return false;
	memcpy(&ret->items[0], found->ai_addr, found->ai_addrlen);
	ret->count = 1;
	freeaddrinfo(found);
	return true;
}

void connector_start(struct join *j)
{
	struct connector *c = xcalloc(1, sizeof(*c));
	int r;

	c->join = j;
	c->error = -EHOSTUNREACH;
	for (unsigned i = 0; i < ADDRESSES_MAX; i++)
		c->attempts[i].watch.fd = -1;
	list_add_tail(&j->splices->connectors, &c->node);
	j->connector = c;
	if (is_address(j->name, j->port, &c->addresses)) {
		go_on(c);
		return;
	}
	r = lookup_start(j->splices->lookups, j->name, j->port, on_found, c, &c->lookup);
	if (r < 0)
		end(c, -1, r);
}
