/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - the fetch thread: mail, due calls, libcurl, deadlines; and how others reach it.
 *
 * Owns      the mailbox, the delayed calls.
 * Never     holds its lock while it runs a call, an op or libcurl.
 * Threads   fetch_send_mail(), fetch_call(), fetch_wake(): any. The rest: the fetch thread. Lock rank FETCH.
 * Bounds    the mailbox holds each transfer once at most. Time limits are exact to 100 ms.
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "fetch/priv.h"

#include "common/banned.h"

#define CHECK_EACH_MS 100
#define IDLE_MS 60000

struct call {
	struct list node;
	uint64_t due_mono_ms;
	void (*call)(void *ctx);
	void *ctx;
};

/* --- mailbox -------------------------------------------------------------------------------------------- */

void fetch_wake(struct fetch *f)
{
	uint64_t one = 1;

	(void)!write(f->wake_fd, &one, sizeof(one)); /* fails only when it is full: then it is awake */
}

void fetch_send_mail(struct transfer *t, enum transfer_mail what)
{
	struct fetch *f = t->fetch;
	bool was_empty = false;

	lock_take(&f->lock);
	assert(what != MAIL_START || !f->is_closed); /* nobody starts anything after fetch_free() */
	if (!f->is_closed) {
		was_empty = list_is_empty(&f->mail);
		if (!t->mail)
			list_add_tail(&f->mail, &transfer_ref(t)->mail_node);
		t->mail |= what;
	}
	lock_drop(&f->lock);
	if (was_empty)
		fetch_wake(f);
}

static struct transfer *next_mail(struct fetch *f, unsigned *ret_mail)
{
	SCOPED_LOCK(&f->lock);
	struct transfer *t;

	if (list_is_empty(&f->mail))
		return NULL;
	t = LIST_ENTRY(f->mail.next, struct transfer, mail_node);
	list_remove(&t->mail_node);
	*ret_mail = t->mail;
	t->mail = 0;
	return t;
}

static void read_mail(struct fetch *f)
{
	struct transfer *t;
	unsigned mail;

	while ((t = next_mail(f, &mail))) {
		if (mail & MAIL_START)
			transfer_begin(t);
		if ((mail & MAIL_CANCEL) && t->is_active)
			transfer_end(t, -ECANCELED);
		if (mail & MAIL_RESUME)
			transfer_continue(t);
		transfer_unref(t);
	}
}

/* --- delayed calls -------------------------------------------------------------------------------------- */

void fetch_call(struct fetch *f, uint64_t delay_ms, void (*call)(void *ctx), void *ctx)
{
	struct call *c = xcalloc(1, sizeof(*c));
	struct list *after;

	*c = (struct call){ .due_mono_ms = clock_mono_ms(f->clock) + delay_ms, .call = call, .ctx = ctx };
	lock_take(&f->lock);
	assert(!f->is_closed);
	for (after = f->calls.prev; after != &f->calls; after = after->prev)
		if (LIST_ENTRY(after, struct call, node)->due_mono_ms <= c->due_mono_ms)
			break;
	list_add_head(after, &c->node);
	lock_drop(&f->lock);
	fetch_wake(f);
}

static struct call *next_call(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);
	struct call *c;

	if (list_is_empty(&f->calls))
		return NULL;
	c = LIST_ENTRY(f->calls.next, struct call, node);
	if (c->due_mono_ms > f->now && !f->is_stopping)
		return NULL;
	list_remove(&c->node);
	return c;
}

static void run_calls(struct fetch *f)
{
	struct call *c;

	while ((c = next_call(f))) {
		c->call(c->ctx);
		free(c);
	}
}

/* --- the loop ------------------------------------------------------------------------------------------- */

static void take_finished(struct fetch *f)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(f->multi, &left))) {
		CURLcode code = message->data.result;
		CURL *easy = message->easy_handle;
		void *owner = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (health_take_connection(f, easy, code))
			continue;
		(void)curl_easy_getinfo(easy, CURLINFO_PRIVATE, &owner);
		transfer_hop_ended(transfer_from(owner), code); /* message is not valid any more */
	}
}

static void check_deadlines(struct fetch *f)
{
	if (f->now - f->checked_mono_ms < CHECK_EACH_MS)
		return;
	f->checked_mono_ms = f->now;
	/* what an op starts or cancels meanwhile comes by mail: the list changes only by those that end here */
	LIST_EACH(node, &f->active)
		transfer_check_deadlines(LIST_ENTRY(node, struct transfer, node));
}

static void cancel_all(struct fetch *f)
{
	health_stop(f);
	LIST_EACH(node, &f->active)
		transfer_end(LIST_ENTRY(node, struct transfer, node), -ECANCELED);
}

/* Returns true when the thread may end: nothing runs, and nobody can add anything any more. */
static bool close_if_idle(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);

	f->is_closed = list_is_empty(&f->mail) && list_is_empty(&f->calls) && list_is_empty(&f->active);
	return f->is_closed;
}

static bool is_stopping(struct fetch *f)
{
	SCOPED_LOCK(&f->lock);

	return f->is_stopping;
}

static int wait_ms(struct fetch *f)
{
	uint64_t due = f->now + (list_is_empty(&f->active) ? IDLE_MS : CHECK_EACH_MS);
	uint64_t probe_due = health_due(f);
	SCOPED_LOCK(&f->lock);

	if (!list_is_empty(&f->mail) || f->is_stopping)
		return 0;
	if (!list_is_empty(&f->calls)) {
		uint64_t call_due = LIST_ENTRY(f->calls.next, struct call, node)->due_mono_ms;

		due = call_due < due ? call_due : due;
	}
	if (probe_due < due)
		due = probe_due;
	return due > f->now ? (int)(due - f->now) : 0;
}

static void wait_for_news(struct fetch *f)
{
	struct curl_waitfd news = { .fd = f->wake_fd, .events = CURL_WAIT_POLLIN };
	uint64_t count;

	(void)curl_multi_poll(f->multi, &news, 1, wait_ms(f), NULL);
	(void)!read(f->wake_fd, &count, sizeof(count)); /* fails when nobody called */
	f->now = clock_mono_ms(f->clock);
}

static bool fetch_turn(struct fetch *f)
{
	int running;

	read_mail(f);
	run_calls(f);
	health_turn(f);
	(void)curl_multi_perform(f->multi, &running);
	take_finished(f);
	check_deadlines(f);
	transfers_serve_line(f);
	if (is_stopping(f)) {
		cancel_all(f);
		if (close_if_idle(f))
			return false;
	}
	wait_for_news(f);
	return true;
}

void *fetch_main(void *p)
{
	struct fetch *f = p;

	f->now = clock_mono_ms(f->clock);
	while (fetch_turn(f))
		;
	return NULL;
}
