/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice - the thread, its epoll, its mailbox and its clock; and the door's calls that make joins.
 *
 * A turn: events -> what others have posted -> joins that had to let others go first -> each second: limits -> the dead are freed.
 *
 * Owns      the thread, the table of joins.
 * Promises  (1) what an event points to lives to the end of its turn.
 *           (2) splices_stop() leaves nothing behind: every join is cut, every post has run.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define EVENTS_MAX 64
#define TICK_MS 1000u
/* While addresses are tried: their head starts are short. */
#define SHORT_TICK_MS 50u

uint64_t splices_now(const struct splices *s)
{
	return clock_mono_ms(s->clock);
}

/* --- the epoll --- */

static int control(struct splices *s, struct watch *w, int what)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = w };

	return epoll_ctl(s->epoll_fd, what, w->fd, &ev) < 0 ? -errno : 0;
}

int splices_watch(struct splices *s, struct watch *w)
{
	return control(s, w, EPOLL_CTL_ADD);
}

int splices_rewatch(struct splices *s, struct watch *w)
{
	return control(s, w, EPOLL_CTL_MOD);
}

/* Taken out by name: of a socket that came from the server another descriptor may be open for a moment longer. */
void splices_unwatch(struct splices *s, struct watch *w)
{
	if (w->fd < 0)
		return;
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	(void)close(TAKE_FD(w->fd));
}

struct half {
	struct list node;
	int fd; /* owned */
	uint64_t until_mono_ms;
};

void splices_close_later(struct splices *s, int take_fd)
{
	struct half *h = xcalloc(1, sizeof(*h));

	/* it stays open, and its watch does not */
	(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, take_fd, NULL);
	*h = (struct half){ .fd = take_fd, .until_mono_ms = splices_now(s) + TICK_MS };
	list_add_tail(&s->halves, &h->node);
}

static void close_halves(struct splices *s, uint64_t now_mono_ms)
{
	LIST_EACH(it, &s->halves) {
		struct half *h = LIST_ENTRY(it, struct half, node);

		if (h->until_mono_ms > now_mono_ms)
			return; /* oldest first */
		list_remove(&h->node);
		(void)close(h->fd);
		free(h);
	}
}

static void on_wake(struct watch *w, uint32_t events)
{
	eventfd_t count;

	(void)eventfd_read(w->fd, &count);
}

/* --- the mailbox --- */

static bool enqueue(struct splices *s, struct post *p)
{
	SCOPED_LOCK(&s->lock);

	if (s->is_stopped || p->is_queued)
		return false;
	p->is_queued = true;
	list_add_tail(&s->posts, &p->node);
	return true;
}

bool splices_post(struct splices *s, struct post *p)
{
	if (!enqueue(s, p))
		return false;
	(void)eventfd_write(s->wake.fd, 1); /* can only fail when it is full: then it is readable already */
	return true;
}

static struct post *next_post(struct splices *s)
{
	struct post *p;
	SCOPED_LOCK(&s->lock);

	if (list_is_empty(&s->posts))
		return NULL;
	p = LIST_ENTRY(s->posts.next, struct post, node);
	list_remove(&p->node);
	p->is_queued = false;
	return p;
}

static void run_posts(struct splices *s)
{
	for (struct post *p; (p = next_post(s));)
		p->run(p);
}

/* --- the thread --- */

static void run_ready(struct splices *s)
{
	struct list now = LIST_INIT(now);

	list_move_all(&now, &s->ready);
	while (!list_is_empty(&now)) {
		struct join *j = LIST_ENTRY(now.next, struct join, ready_node);

		list_remove(&j->ready_node);
		join_run(j);
	}
}

static void tick(struct splices *s, uint64_t now)
{
	LIST_EACH(it, &s->connectors)
		connector_tick(connector_from(it), now);
	if (now < s->tick_mono_ms)
		return;
	s->tick_mono_ms = now + TICK_MS;
	close_halves(s, now);
	LIST_EACH(it, &s->joins)
		limits_tick(LIST_ENTRY(it, struct join, node), now);
}

static void bury(struct splices *s)
{
	connector_bury(s);
	while (!list_is_empty(&s->dead)) {
		struct join *j = LIST_ENTRY(s->dead.next, struct join, node);

		list_remove(&j->node);
		join_free(j);
	}
}

static int wait_ms(const struct splices *s)
{
	uint64_t now = splices_now(s);

	if (!list_is_empty(&s->ready))
		return 0;
	if (!list_is_empty(&s->connectors))
		return SHORT_TICK_MS;
	return s->tick_mono_ms > now ? (int)(s->tick_mono_ms - now) : 0;
}

static bool is_stopping(struct splices *s)
{
	SCOPED_LOCK(&s->lock);

	return s->is_stopping;
}

static void *run(void *arg)
{
	struct splices *s = arg;
	struct epoll_event events[EVENTS_MAX];

	(void)pthread_setname_np(pthread_self(), "splice");
	while (!is_stopping(s)) {
		int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, wait_ms(s));

		for (int i = 0; i < n; i++) {
			struct watch *w = events[i].data.ptr;

			w->ready(w, events[i].events);
		}
		run_posts(s);
		run_ready(s);
		tick(s, splices_now(s));
		bury(s);
	}
	return NULL;
}

/* --- begin and end --- */

struct splices *splices_new(const struct splices_opts *opts)
{
	struct splices *s = xcalloc(1, sizeof(*s));

	s->idle_ms = opts->idle_ms ? opts->idle_ms : IDLE_MS;
	s->ca_file = opts->ca_file ? xstrdup(opts->ca_file) : NULL;
	s->metrics = opts->metrics;
	s->clock = opts->clock ? opts->clock : &clock_system;
	lock_init(&s->lock, LOCK_SPLICE);
	shares_init(&s->places, opts->joins_max ? opts->joins_max : JOINS_MAX);
	list_init(&s->posts);
	list_init(&s->joins);
	list_init(&s->ready);
	list_init(&s->dead);
	list_init(&s->connectors);
	list_init(&s->halves);
	s->lookups = lookups_new(s);
	s->wake = (struct watch){ eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), on_wake };
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (tls_init(s) == 0 && s->epoll_fd >= 0 && s->wake.fd >= 0 && splices_watch(s, &s->wake) == 0)
		s->has_thread = pthread_create(&s->thread, NULL, run, s) == 0;
	if (s->has_thread)
		return s;
	splices_free(s);
	return NULL;
}

static void set_stop(struct splices *s, bool *flag)
{
	SCOPED_LOCK(&s->lock);

	*flag = true;
}

void splices_stop(struct splices *s)
{
	if (!s)
		return;
	set_stop(s, &s->is_stopping);
	if (!s->has_thread)
		return;
	(void)eventfd_write(s->wake.fd, 1);
	(void)pthread_join(s->thread, NULL);
	s->has_thread = false;
	/* this thread stands in for it: what is posted still runs, and is cut like the rest */
	lookups_stop(s->lookups);
	run_posts(s);
	set_stop(s, &s->is_stopped);
	run_posts(s);
	while (!list_is_empty(&s->joins))
		join_cut(LIST_ENTRY(s->joins.next, struct join, node));
	bury(s);
	close_halves(s, UINT64_MAX);
}

void splices_free(struct splices *s)
{
	if (!s)
		return;
	splices_stop(s);
	lookups_free(s->lookups);
	tls_done(s);
	splices_unwatch(s, &s->wake);
	if (s->epoll_fd >= 0)
		(void)close(s->epoll_fd);
	shares_done(&s->places);
	lock_done(&s->lock);
	free(s->ca_file);
	free(s);
}

unsigned splices_count(struct splices *s)
{
	SCOPED_LOCK(&s->lock);

	return s->places.taken;
}

/* --- joins --- */

static int take_place(struct splices *s, struct str who)
{
	SCOPED_LOCK(&s->lock);

	if (s->is_stopping)
		return -ESHUTDOWN;
	if (shares_take(&s->places, who))
		return 0;
	return s->places.taken < s->places.max ? -EUSERS : -EMFILE;
}

struct join *splices_admit(struct splices *s, enum join_kind kind, struct str who, int *ret_error)
{
	struct str short_who = { who.ptr, who.len < WHO_TEXT ? who.len : WHO_TEXT - 1 };
	struct join *j;

	*ret_error = take_place(s, short_who);
	if (*ret_error < 0)
		return NULL;
	j = join_new(s, kind);
	if (short_who.len)
		memcpy(j->who, short_who.ptr, short_who.len);
	if (s->metrics)
		metrics_gauge_add(s->metrics, METRIC_SPLICE_JOINS, 0, 1);
	return j;
}

void splices_dismiss(struct splices *s, const struct join *j)
{
	lock_take(&s->lock);
	shares_give(&s->places, str_from(j->who));
	lock_drop(&s->lock);
	if (s->metrics)
		metrics_gauge_add(s->metrics, METRIC_SPLICE_JOINS, 0, -1);
}

static void on_start(struct post *p)
{
	join_enter(LIST_ENTRY(p, struct join, post));
}

void splices_start(struct splices *s, struct join *take_j)
{
	take_j->post.run = on_start;
	if (splices_post(s, &take_j->post))
		return;
	/* it stopped in between */
	list_add_tail(&s->joins, &take_j->node);
	join_cut(take_j);
	list_remove(&take_j->node);
	join_free(take_j);
}

/* A join of a client that is here already. On failure the socket is not touched. */
static struct join *new_join(struct splices *s, enum join_kind kind, const struct sockaddr_storage *from,
			     struct str early, int *ret_error)
{
	char who[WHO_TEXT];
	struct join *j;

	limits_who(from, who);
	*ret_error = -E2BIG;
	j = early.len <= SPLICE_BUFFER ? splices_admit(s, kind, str_from(who), ret_error) : NULL;
	if (j)
		j->from = *from;
	return j;
}

/* From here on the socket is ours. One that cannot be made ready says nothing more, so that its join ends. */
static void start_client(struct splices *s, struct join *take_j, int take_fd)
{
	if (end_open(&take_j->client, take_fd) < 0)
		(void)shutdown(take_fd, SHUT_RDWR);
	splices_start(s, take_j);
}

int splice_unwrap(struct splices *s, int fd, const struct sockaddr_storage *from, const char *greeting,
		  struct str early, const struct splice_host *host, void *ctx)
{
	int r;
	struct join *j = new_join(s, JOIN_UNWRAP, from, early, &r);

	if (!j)
		return r;
	j->greeting = greeting ? xstrdup(greeting) : NULL;
	j->host = host;
	j->ctx = ctx;
	end_early(&j->client, early);
	start_client(s, j, fd);
	return 0;
}

int splice_tunnel(struct splices *s, int fd, const struct sockaddr_storage *from, struct str early,
		  const char *host, uint16_t port, bool is_local, const char *greeting, const char *refusal)
{
	int r;
	struct join *j = new_join(s, JOIN_TUNNEL, from, early, &r);

	if (!j)
		return r;
	(void)snprintf(j->name, sizeof(j->name), "%s", host); /* a longer one is no name, and is not found */
	j->port = port;
	j->is_local = is_local;
	j->greeting = xstrdup(greeting ? greeting : "");
	j->refusal = refusal ? xstrdup(refusal) : NULL;
	flow_put(&j->up, early);
	start_client(s, j, fd);
	return 0;
}
