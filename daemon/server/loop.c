/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/loop - one thread, one daemon of the library, one epoll around both.
 *
 * The library runs in external epoll mode: its own epoll descriptor is one of those we wait for, then MHD_run() does what
 * is due. In this mode it has no wake-up of its own (it drops MHD_USE_ITC), so whoever resumes a connection wakes us.
 * Its internal epoll thread is not used because it stalls when exactly 128 events arrive at once; MHD_run_wait()
 * with a timeout has the same lines.
 *
 *   wait (library, wake-up, listeners, lingering sockets) -> accept -> MHD_run -> once a second: deadlines
 *
 * Threads   loop_init, _start, _wake, _join, _done: main. All else runs on the loop's thread.
 * Promises  (1) it never waits longer than a second, so a loop that has not turned for 10 s is stuck.
 *           (2) when stopping, no connection is left suspended before the library's daemon ends: it would abort.
 */
#include "server/priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include "common/hash.h"
#include "common/scope.h"

#include "common/banned.h"

#define LOOP_EVENTS 64
#define LOOP_TICK_MS 1000u
#define LOOP_LAST_TURNS 100

static void on_library_log(void *cls, const char *format, va_list args)
{
	char text[512];

	/* the library talks about each connection that breaks; nobody's fault here */
	(void)vsnprintf(text, sizeof(text), format, args);
	log_debug("server", "library", LOG_STR("text", str_trim((struct str){ text, strcspn(text, "\n") })),
		  LOG_END);
}

static struct MHD_Daemon *start_library(struct loop *l)
{
	const struct server *s = l->server;
	unsigned idle_s = (unsigned)((s->idle_timeout_ms + 999) / 1000);

	return MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, glue_on_access, l, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
		/* without it external epoll mode sends files through 4 KiB of memory instead of sendfile */
		MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONN_MEMORY, MHD_OPTION_CONNECTION_LIMIT,
		s->connections_max, MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_NOTIFY_CONNECTION,
		conn_on_notify, l, MHD_OPTION_NOTIFY_COMPLETED, glue_on_completed, l,
		MHD_OPTION_URI_LOG_CALLBACK, glue_on_uri, l, MHD_OPTION_UNESCAPE_CALLBACK, glue_keep_escapes,
		l, MHD_OPTION_END);
}

static int watch(struct loop *l, struct event *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = e };

	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, e->fd, &ev) < 0 ? -errno : 0;
}

int loop_init(struct loop *l, struct server *s, unsigned index)
{
	const union MHD_DaemonInfo *info;
	int r;

	*l = (struct loop){ .server = s, .index = index, .epoll_fd = -1, .spare_fd = -1 };
	l->on_library = (struct event){ EVENT_LIBRARY, -1 };
	l->on_wake = (struct event){ EVENT_WAKE, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	arrive_init(l);
	list_init(&l->conns);
	list_init(&l->heads);
	list_init(&l->lingers);
	random_bytes(&l->id_seed, sizeof(l->id_seed));
	atomic_store(&l->turned_mono_ms, clock_mono_ms(s->clock));
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0 || l->on_wake.fd < 0)
		return -errno;
	l->library = start_library(l);
	if (!l->library)
		return errno ? -errno : -ENOMEM;
	info = MHD_get_daemon_info(l->library, MHD_DAEMON_INFO_EPOLL_FD);
	assert(info);
	l->on_library.fd = info->listen_fd;
	r = watch(l, &l->on_library);
	if (r == 0)
		r = watch(l, &l->on_wake);
	return r < 0 ? r : accept_start(l);
}

static int wait_ms(struct loop *l, uint64_t now_mono_ms)
{
	uint64_t until = l->tick_mono_ms > now_mono_ms ? l->tick_mono_ms - now_mono_ms : 0;
	MHD_UNSIGNED_LONG_LONG library_ms;

	if (MHD_get_timeout(l->library, &library_ms) == MHD_YES && library_ms < until)
		until = library_ms;
	return (int)(until < LOOP_TICK_MS ? until : LOOP_TICK_MS);
}

static void dispatch(struct loop *l, struct event *e)
{
	eventfd_t count;

	switch (e->kind) {
	case EVENT_LIBRARY:
		break; /* MHD_run() comes in any case */
	case EVENT_WAKE:
		(void)eventfd_read(e->fd, &count);
		atomic_store(&l->is_woken,
			     false); /* before MHD_run() looks: what is resumed from here on writes again */
		arrive_admit(l);
		break;
	case EVENT_LISTEN:
		if (l->is_accepting)
			accept_ready(l, e);
		break;
	case EVENT_LINGER:
		linger_read(l, e);
		break;
	}
}

/* Idle connections may go at once; the others get "Connection: close" with their answer. */
static void close_idle(struct loop *l)
{
	LIST_EACH(it, &l->conns) {
		struct conn *c = LIST_ENTRY(it, struct conn, node);
		char byte;

		/* a request that has arrived but was not read yet is not lost */
		if (conn_is_idle(c) && !c->is_closing &&
		    recvfrom(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL) <= 0)
			conn_cut(c);
	}
}

static void tick(struct loop *l, uint64_t now_mono_ms)
{
	if (now_mono_ms < l->tick_mono_ms)
		return;
	l->tick_mono_ms = now_mono_ms + LOOP_TICK_MS;
	conn_tick(l, now_mono_ms);
	linger_tick(l, now_mono_ms);
	accept_tick(l, now_mono_ms);
}

static void turn(struct loop *l)
{
	struct epoll_event events[LOOP_EVENTS];
	uint64_t now = clock_mono_ms(l->server->clock);
	int n = epoll_wait(l->epoll_fd, events, LOOP_EVENTS, wait_ms(l, now));

	for (int i = 0; i < n; i++)
		dispatch(l, events[i].data.ptr);
	if (atomic_load(&l->server->is_draining)) {
		accept_stop(l);
		close_idle(l);
	}
	(void)MHD_run(l->library);
	now = clock_mono_ms(l->server->clock);
	atomic_store(&l->turned_mono_ms, now);
	tick(l, now);
}

/* Promise 2: each exchange that waits is woken, and finds its connection closing. */
static void cut_all(struct loop *l)
{
	LIST_EACH(it, &l->conns) {
		struct conn *c = LIST_ENTRY(it, struct conn, node);

		conn_cut(c);
		if (c->exchange)
			park_break(c->exchange);
	}
}

static void *run(void *arg)
{
	struct loop *l = arg;
	char name[16];

	(void)snprintf(name, sizeof(name), "server-%u", l->index);
	(void)pthread_setname_np(pthread_self(), name);
	while (!atomic_load(&l->server->is_stopping))
		turn(l);
	accept_stop(l);
	arrive_stop(l);
	cut_all(l);
	/* nothing parks any more, so a turn or two end them all; what is left then, the library's stop closes */
	for (int i = 0; i < LOOP_LAST_TURNS && !list_is_empty(&l->conns); i++)
		(void)MHD_run(l->library);
	return NULL;
}

int loop_start(struct loop *l)
{
	int r = pthread_create(&l->thread, NULL, run, l);

	l->has_thread = r == 0;
	return -r;
}

void loop_wake(struct loop *l)
{
	if (!atomic_exchange(&l->is_woken, true))
		(void)eventfd_write(l->on_wake.fd,
				    1); /* can only fail when it is full: then it is readable already */
}

void loop_join(struct loop *l)
{
	if (l->has_thread)
		(void)pthread_join(l->thread, NULL);
	l->has_thread = false;
}

void loop_done(struct loop *l)
{
	accept_stop(l);
	arrive_stop(l);
	if (l->library)
		MHD_stop_daemon(l->library);
	linger_done(l);
	if (l->epoll_fd >= 0)
		(void)close(TAKE_FD(l->epoll_fd));
	if (l->on_wake.fd >= 0)
		(void)close(TAKE_FD(l->on_wake.fd));
	lock_done(&l->arrivals_lock);
}
