/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/lookup - addresses of names, on threads that may wait for name servers.
 *
 *   QUEUED -> (a thread) RUNNING -> FOUND -> (post) done() on the splice thread -> freed
 *
 * Owns      up to four threads, started when names wait; a queue of 256 names.
 * Never     completes a name with the machine's search list: names are whole as they come.
 * Promises  (1) one slow name holds up nobody while another thread is free, and none for longer than the resolver's two tries.
 *           (2) after lookup_cancel() nobody is called.
 *           (3) lookups_stop() waits a second at most. A thread that a name server holds longer is left alone: it has a share
 *               in what it needs, and touches nothing else.
 * Threads   start, cancel, done: the splice thread. stop, free: main, when that has ended.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include "common/alloc.h"

#include "common/banned.h"

#define THREADS_MAX 4u
#define QUEUE_MAX 256u

struct lookups {
	struct splices *splices;
	struct lock lock;    /* rank SPLICE */
	pthread_cond_t work; /* names wait, or the end has come */
	pthread_cond_t gone; /* a thread has ended */
	struct list queue;   /* guarded by lock, as all below */
	unsigned count;      /* queued, running or found */
	unsigned threads, idle;
	unsigned posting; /* threads that are telling the splice thread: a moment only */
	unsigned shares;  /* threads, and whoever made it */
	bool is_stopping;
};

struct lookup {
	struct list node; /* in the queue */
	struct post post;
	struct lookups *lookups;
	char *host;
	uint16_t port;
	int error;
	struct address_list found;
	/* the splice thread's own; NULL: cancelled */
	void (*done)(void *ctx, int error, const struct address_list *found);
	void *ctx;
};

static void free_lookup(struct lookup *k)
{
	free(k->host);
	free(k);
}

/* The lock is held; drops it. */
static void unref_locked(struct lookups *l)
{
	bool is_last = --l->shares == 0;

	lock_drop(&l->lock);
	if (!is_last)
		return;
	LIST_EACH(it, &l->queue)
		free_lookup(LIST_ENTRY(it, struct lookup, node));
	(void)pthread_cond_destroy(&l->work);
	(void)pthread_cond_destroy(&l->gone);
	lock_done(&l->lock);
	free(l);
}

/* --- the threads --- */

/* The resolver's state is this thread's own: two tries of two seconds, and no search list. */
static void be_brief(void)
{
	if (res_init() < 0)
		return;
	_res.retrans = 2;
	_res.retry = 2;
	_res.options &= ~(unsigned long)(RES_DNSRCH | RES_DEFNAMES);
}

static void take(struct address_list *list, const struct addrinfo *a, uint16_t port)
{
	struct sockaddr_storage *to = &list->items[list->count];

	if (a->ai_addrlen > sizeof(*to) || (a->ai_family != AF_INET && a->ai_family != AF_INET6))
		return;
	memcpy(to, a->ai_addr, a->ai_addrlen);
	if (a->ai_family == AF_INET)
		((struct sockaddr_in *)to)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)to)->sin6_port = htons(port);
	list->count++;
}

static void look_up(struct lookup *k)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *found = NULL;
	int r = getaddrinfo(k->host, NULL, &hints, &found);

	k->error = r == 0 ? 0 : -EHOSTUNREACH;
	for (const struct addrinfo *a = found; a && k->found.count < ADDRESSES_MAX; a = a->ai_next)
		take(&k->found, a, k->port);
	if (found)
		freeaddrinfo(found);
	if (k->found.count == 0)
		k->error = -EHOSTUNREACH;
}

static void *run(void *arg)
{
	struct lookups *l = arg;

	(void)pthread_setname_np(pthread_self(), "splice-names");
	be_brief();
	lock_take(&l->lock);
	while (!l->is_stopping) {
		struct lookup *k;

		if (list_is_empty(&l->queue)) {
			l->idle++;
			(void)pthread_cond_wait(&l->work, &l->lock.mutex);
			l->idle--;
			continue;
		}
		k = LIST_ENTRY(l->queue.next, struct lookup, node);
		list_remove(&k->node);
		lock_drop(&l->lock);
		look_up(k);
		lock_take(&l->lock);
		if (l->is_stopping) {
			free_lookup(k); /* nobody is there any more */
			break;
		}
		l->posting++;
		lock_drop(&l->lock);
		splices_post(l->splices, &k->post);
		lock_take(&l->lock);
		l->posting--;
	}
	l->threads--;
	(void)pthread_cond_broadcast(&l->gone);
	unref_locked(l);
	return NULL;
}

/* The lock is held. Threads are left to themselves: the condition tells when they have ended. */
static void start_thread_locked(struct lookups *l)
{
	pthread_attr_t attr;
	pthread_t thread;

	if (l->idle > 0 || l->threads == THREADS_MAX || pthread_attr_init(&attr) != 0)
		return;
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, run, l) == 0) {
		l->threads++;
		l->shares++;
	}
	(void)pthread_attr_destroy(&attr);
}

/* --- the splice thread --- */

struct lookups *lookups_new(struct splices *s)
{
	struct lookups *l = xcalloc(1, sizeof(*l));

	l->splices = s;
	l->shares = 1;
	lock_init(&l->lock, LOCK_SPLICE);
	(void)pthread_cond_init(&l->work, NULL);
	(void)pthread_cond_init(&l->gone, NULL);
	list_init(&l->queue);
	return l;
}

static void on_found(struct post *p)
{
	struct lookup *k = LIST_ENTRY(p, struct lookup, post);
	struct lookups *l = k->lookups;

	lock_take(&l->lock);
	l->count--;
	lock_drop(&l->lock);
	if (k->done)
		k->done(k->ctx, k->error, &k->found);
	free_lookup(k);
}

int lookup_start(struct lookups *l, const char *host, uint16_t port,
		 void (*done)(void *ctx, int error, const struct address_list *found), void *ctx,
		 struct lookup **ret_lookup)
{
	struct lookup *k;
	SCOPED_LOCK(&l->lock);

	if (l->count == QUEUE_MAX)
		return -EBUSY;
	start_thread_locked(l);
	if (l->threads == 0)
		return -EAGAIN;
	k = xcalloc(1, sizeof(*k));
	*k = (struct lookup){
		.post = { .run = on_found }, .lookups = l, .port = port, .done = done, .ctx = ctx
	};
	k->host = xstrdup(host);
	list_init(&k->node);
	list_init(&k->post.node);
	list_add_tail(&l->queue, &k->node);
	l->count++;
	(void)pthread_cond_signal(&l->work);
	*ret_lookup = k;
	return 0;
}

void lookup_cancel(struct lookup *k)
{
	k->done = NULL;
}

void lookups_stop(struct lookups *l)
{
	struct timespec until;
	SCOPED_LOCK(&l->lock);

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	l->is_stopping = true;
	(void)pthread_cond_broadcast(&l->work);
	while (l->threads > 0) {
		int r = pthread_cond_timedwait(&l->gone, &l->lock.mutex, &until);

		if (r != 0 && l->posting == 0)
			return;
	}
}

void lookups_free(struct lookups *l)
{
	lock_take(&l->lock);
	unref_locked(l);
}
