/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin/call - questions that take long: asked on a server thread, worked out on a thread of their own, and answered when that has
 * woken the request.
 *
 * Owns      the thread, one call after the other; each call until both its request and the thread are done with it.
 * Threads   server threads, and the room's own.
 * Promises  (1) a request that goes away leaves its call to end by itself.
 *           (2) no more than CALLS_MAX wait: more are told to come again.
 */
#include "admin/priv.h"

#include <errno.h>
#include "common/alloc.h"

#define CALLS_MAX 64
#define BODY_BYTES_MAX (64 << 20)

void call_unref(void *call)
{
	struct call *c = call;

	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	waiters_done(&c->waiters);
	lock_done(&c->lock);
	buf_done(&c->body);
	buf_done(&c->repo);
	buf_done(&c->match);
	buf_done(&c->revision);
	free(c);
}

static void finish(struct call *c)
{
	atomic_fetch_sub(&c->admin->calls, 1);
	lock_take(&c->lock);
	c->is_done = true;
	lock_drop(&c->lock);
	waiters_wake_all(&c->waiters);
	call_unref(c);
}

void call_fail(struct call *c, int status, const char *sentence)
{
	c->status = status;
	buf_reset(&c->body);
	(void)buf_append_str(&c->body, STR("{\"error\":"));
	(void)json_write_string(&c->body, str_from(sentence));
	(void)buf_append_str(&c->body, STR("}\n"));
}

void call_fail_errno(struct call *c, int error)
{
	switch (error) {
	case -ECANCELED:
		call_fail(c, 503, "this server is shutting down");
		break;
	case -E2BIG:
		call_fail(c, 500, "there are more files than can be looked through");
		break;
	default:
		call_fail(c, 500, "the index cannot be read; see the log");
		log_error("admin", "the index could not be looked through", LOG_ERR("error", error), LOG_END);
		break;
	}
}

static void run_job(struct job *job)
{
	struct call *c = LIST_ENTRY(job, struct call, job);

	if (atomic_load(&c->admin->is_stopping))
		call_fail_errno(c, -ECANCELED);
	else
		c->run(c);
	if (buf_error(&c->body))
		call_fail(c, 500, "the answer is longer than 64 MiB");
	finish(c);
}

struct call *call_new(struct admin *a, void (*run)(struct call *c))
{
	struct call *c = xcalloc(1, sizeof(*c));

	atomic_init(&c->refs, 1);
	c->admin = a;
	c->run = run;
	c->status = 200;
	list_init(&c->job.node);
	c->job.run = run_job;
	lock_init(&c->lock, LOCK_REQUEST);
	waiters_init(&c->waiters);
	buf_init(&c->body, BODY_BYTES_MAX);
	buf_init(&c->repo, 4096);
	buf_init(&c->match, 4096);
	buf_init(&c->revision, 4096);
	return c;
}

static bool has_room(struct admin *a)
{
	if (atomic_fetch_add(&a->calls, 1) < CALLS_MAX)
		return true;
	atomic_fetch_sub(&a->calls, 1);
	return false;
}

int call_start(struct call *c, struct request *q, struct reply *r)
{
	if (!c->admin->work || !has_room(c->admin)) {
		call_unref(c);
		reply_refuse(r, ENDPOINT_API, 503,
			     "too many such questions wait for their answer; try again in a moment");
		return 0;
	}
	q->trail = c;
	q->free_trail = call_unref;
	atomic_fetch_add(&c->refs, 1);
	work_submit(c->admin->work, &c->job);
	return call_wait(q, r);
}

int call_wait(struct request *q, struct reply *r)
{
	struct call *c = q->trail;
	bool is_done;

	lock_take(&c->lock);
	is_done = c->is_done;
	if (!is_done)
		waiters_add(&c->waiters, &q->waiter); /* under the lock: finish() cannot slip in between */
	lock_drop(&c->lock);
	if (!is_done)
		return -EAGAIN;
	reply_text(r, c->status, "application/json", buf_str(&c->body));
	(void)headers_addf(&r->headers, "Cache-Control", "no-store");
	return 0;
}
