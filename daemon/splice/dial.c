/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/dial - a connection that a handler has upgraded: its head goes out, the answer's head is shown, then a client is joined.
 *
 * Owns      what the handler sees: the answer's head, or the error. Two share it, the handler and the join.
 * Promises  (1) who waits is woken when there is an answer or an error, and both stay as they are.
 *           (2) the client hears nothing of the answer's head, and what came behind it byte for byte.
 * Threads   dial_start() and the other calls of the door: any. All else: the splice thread. What both touch: splices->lock.
 */
#include "splice/priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"

#include "common/banned.h"

struct dial {
	struct splices *splices;
	struct post post; /* holds a reference while it is queued */
	struct waiters waiters;
	_Atomic unsigned refs;
	struct join *join; /* the splice thread's; NULL: it has ended, or belongs to nobody any more */
	/* guarded by splices->lock */
	bool is_done, is_freed;
	int error, status;
	int client_fd; /* owned; -1 */
	char *early;   /* owned */
	size_t early_len;
	char *told;             /* owned; the head that the client is told */
	struct headers headers; /* unchanged once it is done */
	size_t head_len;        /* of the answer; the splice thread's */
};

void dial_unref(struct dial *d)
{
	if (atomic_fetch_sub(&d->refs, 1) > 1)
		return;
	waiters_done(&d->waiters);
	headers_done(&d->headers);
	if (d->client_fd >= 0)
		(void)close(d->client_fd);
	free(d->early);
	free(d->told);
	free(d);
}

/* --- the splice thread --- */

static void finish(struct dial *d, int error, int status)
{
	bool is_news;

	lock_take(&d->splices->lock);
	is_news = !d->is_done;
	if (is_news) {
		d->is_done = true;
		d->error = error;
		d->status = status;
	}
	lock_drop(&d->splices->lock);
	if (is_news)
		waiters_wake_all(&d->waiters);
}

void dial_lost(struct dial *d, int error)
{
	d->join = NULL;
	finish(d, error, 0);
}

/* The head may be behind others of the 1xx kind, which say nothing. */
static int read_head(struct dial *d, struct flow *f)
{
	for (;;) {
		struct str text = { f->bytes + f->at, f->len - f->at };
		bool may_be_whole = text.len > 0 && memmem(text.ptr, text.len, "\r\n\r\n", 4);
		ssize_t n;
		int status = 0;

		if (!may_be_whole)
			return text.len > ANSWER_HEAD_MAX ? -EPROTO : -EAGAIN;
		headers_done(&d->headers); /* nobody sees them before it is done */
		headers_init(&d->headers);
		n = answer_head_parse(text, &status, &d->headers);
		if (n < 0)
			return (int)n;
		if (status >= 200 || status == 101) {
			d->head_len = (size_t)n;
			finish(d, 0, status);
			return 0;
		}
		f->at += (size_t)n;
	}
}

int dial_hear(struct join *j)
{
	struct flow *f = &j->down;

	if (!f->bytes)
		f->bytes = xmalloc(SPLICE_BUFFER);
	while (j->inner.can_read) {
		ssize_t n = f->len < SPLICE_HEAD_MAX
				    ? end_read(&j->inner, f->bytes + f->len, SPLICE_HEAD_MAX - f->len)
				    : -EPROTO;
		int r;

		if (n == -EAGAIN)
			break;
		if (n <= 0)
			return n == -EPROTO && f->len == SPLICE_HEAD_MAX ? -EPROTO : -ECONNRESET;
		f->len += (size_t)n;
		r = read_head(j->dial, f);
		if (r != -EAGAIN)
			return r;
	}
	return -EAGAIN;
}

/* The client speaks TLS, which another join takes off. */
static bool is_pair(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	return getsockname(fd, (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_UNIX;
}

/* The host's head gives way to ours; what came behind it stays. */
static void tell_head(struct flow *f, size_t old_len, const char *told)
{
	size_t len = strlen(told), rest = f->len - f->at - old_len;

	assert(len + rest <= SPLICE_BUFFER);
	memmove(f->bytes + len, f->bytes + f->at + old_len, rest);
	memcpy(f->bytes, told, len);
	f->at = 0;
	f->len = len + rest;
}

static void open_join(struct join *j, int take_fd, struct str early)
{
	if (end_open(&j->client, take_fd) < 0 || splices_watch(j->splices, &j->client.watch) < 0) {
		join_cut(j);
		return;
	}
	j->client.is_heard_by_splice = is_pair(j->client.watch.fd);
	flow_put(&j->up, early);
	join_set_phase(j, JOIN_OPEN, 0);
	join_run(j);
}

static void on_news(struct post *p)
{
	struct dial *d = LIST_ENTRY(p, struct dial, post);
	struct join *j = d->join;
	SCOPED_FREE char *early = NULL, *told = NULL;
	size_t early_len;
	bool is_freed;
	int fd;

	lock_take(&d->splices->lock);
	fd = TAKE_FD(d->client_fd);
	early = TAKE_PTR(d->early);
	told = TAKE_PTR(d->told);
	early_len = d->early_len;
	is_freed = d->is_freed;
	lock_drop(&d->splices->lock);
	if (fd >= 0 && j) {
		d->join = NULL;
		dial_unref(TAKE_PTR(j->dial));
		tell_head(&j->down, d->head_len, told);
		open_join(j, fd, (struct str){ early, early_len });
	} else if (fd >= 0) { /* the host has gone meanwhile */
		struct linger now = { .l_onoff = 1, .l_linger = 0 };

		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		(void)close(fd);
	} else if (is_freed && j) {
		join_cut(j);
	}
	dial_unref(d);
}

/* --- the door --- */

static void tell(struct dial *d)
{
	atomic_fetch_add(&d->refs, 1);
	if (!splices_post(d->splices, &d->post))
		dial_unref(d);
}

static struct dial *new_dial(struct splices *s)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->splices = s;
	d->client_fd = -1;
	d->post.run = on_news;
	list_init(&d->post.node);
	atomic_init(&d->refs, 2);
	waiters_init(&d->waiters);
	headers_init(&d->headers);
	return d;
}

int dial_start(struct splices *s, const struct dial_query *q, struct dial **ret_dial)
{
	struct join *j;
	int r;

	if (strlen(q->host) >= sizeof(j->name) || q->head.len == 0 || q->head.len > SPLICE_BUFFER)
		return -EINVAL;
	j = splices_admit(s, JOIN_DIAL, q->who, &r);
	if (!j)
		return r;
	(void)snprintf(j->name, sizeof(j->name), "%s", q->host);
	j->port = q->port;
	j->is_tls = q->is_tls;
	j->is_local = q->is_local;
	flow_put(&j->up, q->head);
	j->dial = new_dial(s);
	j->dial->join = j;
	*ret_dial = j->dial;
	splices_start(s, j);
	return 0;
}

int dial_head(struct dial *d, int *ret_status, const struct headers **ret_headers)
{
	SCOPED_LOCK(&d->splices->lock);

	if (!d->is_done)
		return -EAGAIN;
	if (d->error < 0)
		return d->error;
	*ret_status = d->status;
	*ret_headers = &d->headers;
	return 0;
}

bool dial_wait(struct dial *d, struct waiter *w)
{
	SCOPED_LOCK(&d->splices->lock);

	if (d->is_done)
		return false;
	waiters_add(&d->waiters, w);
	return true;
}

/* Returns 0: it is the dial's now. */
static int give(struct dial *d, int fd, struct str head, struct str early)
{
	SCOPED_LOCK(&d->splices->lock);

	if (!d->is_done || d->error < 0 || d->status != 101 || d->client_fd >= 0)
		return -EPROTO;
	if (d->splices->is_stopped)
		return -ESHUTDOWN;
	d->client_fd = fd;
	d->told = str_dup(head);
	d->early = early.len ? xstrndup(early.ptr, early.len) : NULL;
	d->early_len = early.len;
	return 0;
}

int dial_join(struct dial *d, int take_client_fd, struct str head, struct str early)
{
	bool is_long = early.len > SPLICE_BUFFER || head.len > SPLICE_HEAD_MAX;
	int r = is_long ? -E2BIG : give(d, take_client_fd, head, early);

	if (r < 0)
		(void)close(take_client_fd);
	else
		tell(d);
	return r;
}

void dial_free(struct dial *d)
{
	if (!d)
		return;
	lock_take(&d->splices->lock);
	d->is_freed = true;
	lock_drop(&d->splices->lock);
	tell(d);
	dial_unref(d);
}
