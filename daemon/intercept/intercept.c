/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept - the thread: listeners, clients that come, their time.
 */
#include "intercept/priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define EVENTS_MAX 64
#define ACCEPT_TURN_MAX 64
#define TICK_MS 250
/* Without a descriptor for the next client the listener stays readable: no busy loop on it. */
#define ACCEPT_PAUSE_MS 200

static bool is_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a, *b4 = (const struct sockaddr_in *)b;
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a, *b6 = (const struct sockaddr_in6 *)b;

	/* who has one address of IPv6 has all of its network's 64 bits; but all of IPv4 is in one of these */
	size_t len = IN6_IS_ADDR_V4MAPPED(&a6->sin6_addr) ? sizeof(a6->sin6_addr) : 8;

	if (a->ss_family != b->ss_family)
		return false;
	return a->ss_family == AF_INET6 ? memcmp(&a6->sin6_addr, &b6->sin6_addr, len) == 0
					: a4->sin_addr.s_addr == b4->sin_addr.s_addr;
}

static bool has_room(struct intercept *i, const struct caller *c)
{
	unsigned crowd = 0;

	LIST_EACH(it, &i->callers)
		crowd += is_same_address(&LIST_ENTRY(it, struct caller, node)->from, &c->from);
	/* nobody gets another place who has as many as are free: a few cannot take all of them */
	return i->caller_count < CALLERS_MAX && crowd < CALLERS_PER_ADDRESS_MAX &&
	       crowd < CALLERS_MAX - i->caller_count;
}

static void admit(struct intercept *i, struct caller *c)
{
	if (!has_room(i, c) || intercept_keep(c) < 0) {
		caller_turn_away(c);
		return;
	}
	c->until_mono_ms = clock_mono_ms(i->opts.clock) + HEAD_MS;
	caller_look(c);
}

int intercept_keep(struct caller *c)
{
	struct intercept *i = c->owner;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = &c->event };

	if (epoll_ctl(i->epoll_fd, EPOLL_CTL_ADD, c->event.fd, &ev) < 0)
		return -errno;
	list_add_tail(&i->callers, &c->node);
	i->caller_count++;
	return 0;
}

void intercept_forget(struct caller *c)
{
	struct intercept *i = c->owner;

	(void)epoll_ctl(i->epoll_fd, EPOLL_CTL_DEL, c->event.fd, NULL);
	list_remove(&c->node);
	i->caller_count--;
}

static void take_arrivals(struct intercept *i, struct list *ret)
{
	SCOPED_LOCK(&i->lock);

	list_move_all(ret, &i->arrivals);
	i->arrival_count = 0;
}

static void admit_arrivals(struct intercept *i)
{
	struct list all = LIST_INIT(all);
	eventfd_t count;

	(void)eventfd_read(i->on_wake.fd, &count);
	take_arrivals(i, &all);
	LIST_EACH(it, &all) {
		list_remove(it);
		admit(i, LIST_ENTRY(it, struct caller, node));
	}
}

/* false: no descriptor is left for now. */
static bool accept_all(struct intercept *i, const struct event *listener)
{
	for (unsigned n = 0; n < ACCEPT_TURN_MAX; n++) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept4(listener->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct caller *c;

		if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
			continue;
		if (fd < 0)
			return errno == EAGAIN;
		c = caller_new(i, fd, &from);
		c->may_be_tls = true;
		admit(i, c);
	}
	return true;
}

static void look_at_clock(struct intercept *i)
{
	uint64_t now = clock_mono_ms(i->opts.clock);

	LIST_EACH(it, &i->callers) {
		struct caller *c = LIST_ENTRY(it, struct caller, node);

		if (now >= c->until_mono_ms)
			caller_late(c);
	}
}

static bool handle(struct intercept *i, struct event *e)
{
	switch (e->kind) {
	case EVENT_WAKE:
		admit_arrivals(i);
		return true;
	case EVENT_LISTEN:
		return accept_all(i, e);
	case EVENT_CALLER:
		caller_ready((struct caller *)e);
		return true;
	}
	return true;
}

/* One event at a time: handling one may end the client of another. */
static void *run(void *ctx)
{
	struct intercept *i = ctx;
	uint64_t tick = 0;

	while (!atomic_load(&i->is_stopping)) {
		struct epoll_event ev;
		int n = epoll_wait(i->epoll_fd, &ev, 1, i->caller_count ? TICK_MS : -1);

		if (n > 0 && !handle(i, ev.data.ptr))
			(void)usleep(ACCEPT_PAUSE_MS * 1000);
		if (clock_mono_ms(i->opts.clock) >= tick + TICK_MS) {
			tick = clock_mono_ms(i->opts.clock);
			look_at_clock(i);
		}
	}
	return NULL;
}

/* --- what splice asks --- */

int intercept_identify(void *ctx, struct str name, struct ca_leaf *ret_leaf)
{
	struct intercept *i = ctx;
	int r = host_matches(i->opts.hosts, name)
			? ca_issue(i->opts.ca, name, clock_wall_s(i->opts.clock), ret_leaf)
			: -EACCES;

	if (r < 0) {
		metrics_add(i->opts.metrics, METRIC_INTERCEPTED, ROAD_REFUSED, 0, 0, 1);
		log_info("intercept", "refused", LOG_STR("name", name),
			 LOG_TEXT("reason",
				  name.len ? "not in intercept.hosts, or not covered by intercept.ca-file"
					   : "TLS without the name of a host"),
			 LOG_END);
	}
	return r;
}

static int open_inner(void *ctx, struct str name, const struct sockaddr_storage *from)
{
	struct intercept *i = ctx;

	return i->opts.open_inner(i->opts.ctx, from);
}

/* --- start and stop --- */

static int watch(struct intercept *i, struct event *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = e };

	return epoll_ctl(i->epoll_fd, EPOLL_CTL_ADD, e->fd, &ev) < 0 ? -errno : 0;
}

static int open_listeners(struct intercept *i, char **ret_reason)
{
	size_t count = 0;

	while (i->opts.listen && i->opts.listen[count])
		count++;
	i->listeners = xcalloc(count + 1, sizeof(*i->listeners));
	i->bound = xcalloc(count + 1, sizeof(*i->bound));
	for (size_t n = 0; n < count; n++) {
		int fd = listen_at(i->opts.listen[n], ret_reason), r;

		if (fd < 0)
			return fd;
		i->listeners[i->listener_count] = (struct event){ EVENT_LISTEN, fd };
		r = watch(i, &i->listeners[i->listener_count++]);
		if (r < 0)
			return r;
		(void)getsockname(fd, (struct sockaddr *)&i->bound[n], &(socklen_t){ sizeof(i->bound[n]) });
		if (n == 0)
			listen_name(fd, i->address);
	}
	return 0;
}

static struct intercept *new_intercept(const struct intercept_opts *opts)
{
	struct intercept *i = xcalloc(1, sizeof(*i));

	assert(opts->ca && opts->splices && opts->open_inner);
	i->opts = *opts;
	i->opts.clock = opts->clock ? opts->clock : &clock_system;
	i->host = (struct splice_host){ .identify = intercept_identify,
					.open_inner = open_inner,
					.half_end_breaks = true };
	i->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	i->on_wake = (struct event){ EVENT_WAKE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	list_init(&i->callers);
	list_init(&i->arrivals);
	lock_init(&i->lock, LOCK_INTERCEPT);
	return i;
}

static int start_thread(struct intercept *i)
{
	int r = pthread_create(&i->thread, NULL, run, i);

	if (r != 0)
		return -r;
	i->has_thread = true;
	(void)pthread_setname_np(i->thread, "intercept");
	return 0;
}

int intercept_start(const struct intercept_opts *opts, struct intercept **ret_intercept, char **ret_reason)
{
	struct intercept *i;
	char *reason = NULL;
	int r = intercept_check(opts->listen, opts->hosts, opts->tunnels, ret_reason);

	if (r < 0)
		return r;
	i = new_intercept(opts);
	r = i->epoll_fd < 0 || i->on_wake.fd < 0 ? -EMFILE : watch(i, &i->on_wake);
	if (r == 0)
		r = open_listeners(i, &reason);
	if (r == 0)
		r = start_thread(i);
	if (r == 0) {
		*ret_intercept = i;
		return 0;
	}
	*ret_reason = reason ? reason : xasprintf("cannot start interception: %s", log_errno_name(r));
	intercept_free(i);
	return r;
}

const char *intercept_address(const struct intercept *i)
{
	return i->address[0] ? i->address : NULL;
}

bool intercept_is_at(const struct intercept *i, const struct sockaddr *address, socklen_t len)
{
	if (len < (address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in)))
		return false;
	for (size_t n = 0; i->opts.listen && i->opts.listen[n]; n++)
		if (listen_is_at(&i->bound[n], address))
			return true;
	return false;
}

static bool give(struct intercept *i, struct caller *c)
{
	SCOPED_LOCK(&i->lock);

	if (atomic_load(&i->is_stopping) || i->arrival_count >= CALLERS_MAX)
		return false;
	i->arrival_count++;
	list_add_tail(&i->arrivals, &c->node);
	return true;
}

void intercept_take(struct intercept *i, int take_fd, const struct sockaddr_storage *from, struct str early)
{
	struct caller *c = caller_new(i, take_fd, from);

	if (buf_append_str(&c->head, early) < 0 || !give(i, c)) {
		caller_turn_away(c);
		return;
	}
	(void)eventfd_write(i->on_wake.fd, 1);
}

static void free_all(struct list *callers)
{
	LIST_EACH(it, callers) {
		list_remove(it);
		caller_free(LIST_ENTRY(it, struct caller, node));
	}
}

void intercept_stop(struct intercept *i)
{
	struct list rest = LIST_INIT(rest);

	if (!i)
		return;
	lock_take(&i->lock); /* who comes from here on is turned away */
	atomic_store(&i->is_stopping, true);
	lock_drop(&i->lock);
	(void)eventfd_write(i->on_wake.fd, 1);
	if (i->has_thread)
		(void)pthread_join(i->thread, NULL);
	i->has_thread = false;
	take_arrivals(i, &rest);
	free_all(&rest);
	free_all(&i->callers);
	for (unsigned n = 0; n < i->listener_count; n++)
		(void)close(i->listeners[n].fd);
	i->listener_count = 0;
}

void intercept_free(struct intercept *i)
{
	if (!i)
		return;
	intercept_stop(i);
	if (i->epoll_fd >= 0)
		(void)close(i->epoll_fd);
	if (i->on_wake.fd >= 0)
		(void)close(i->on_wake.fd);
	lock_done(&i->lock);
	free(i->listeners);
	free(i->bound);
	free(i);
}
