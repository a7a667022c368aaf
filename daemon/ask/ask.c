/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask - the table of running asks, who joins them, who waits for them.
 *
 * Owns      asks from ask_start() to the last reference.
 * Never     holds a lock across learn, a call into fetch or work, or a wake.
 * Threads   the door: any. ask_answered(): fetch thread. learn: work thread.
 * Promises  see the door; this file keeps (1), call.c keeps (2) and (3).
 */
#include "ask/priv.h"

#include <assert.h>

#include "common/alloc.h"

#include "common/banned.h"

#define ANSWER_BYTES_MAX (64ull * 1024 * 1024)
#define TARGET_BYTES_MAX 65536
/* Clients give up a HEAD after 10 s (hub-protocol E09). */
#define DEADLINE_MS 9000

struct asks *asks_new(const struct asks_opts *opts)
{
	struct asks *a = xcalloc(1, sizeof(*a));

	a->fetch = opts->fetch;
	a->work = opts->work;
	a->metrics = opts->metrics;
	a->clock = opts->clock;
	lock_init(&a->lock, LOCK_ASK);
	pthread_cond_init(&a->all_done, NULL);
	a->running = map_new();
	return a;
}

bool asks_stopping(struct asks *a)
{
	SCOPED_LOCK(&a->lock);

	return a->is_stopping;
}

static int collect(void *ctx, struct str key, void *value)
{
	struct ask ***next = ctx;

	*(*next)++ = ask_ref(value);
	return 0;
}

void ask_cancel(struct ask *k)
{
	struct transfer *t;

	lock_take(&k->lock);
	t = TAKE_PTR(k->transfer);
	lock_drop(&k->lock);
	if (t)
		transfer_cancel(t);
	transfer_unref(t);
}

void asks_free(struct asks *a)
{
	SCOPED_FREE struct ask **all = NULL;
	struct ask **end;

	if (!a)
		return;
	lock_take(&a->lock);
	a->is_stopping = true;
	end = all = xcalloc(map_count(a->running) + 1, sizeof(void *));
	(void)map_each(a->running, collect, &end);
	lock_drop(&a->lock);
	for (struct ask **k = all; k < end; k++) {
		ask_cancel(*k);
		ask_unref(*k);
	}
	lock_take(&a->lock);
	while (a->count)
		pthread_cond_wait(&a->all_done, &a->lock.mutex);
	lock_drop(&a->lock);
	map_free(a->running, NULL);
	pthread_cond_destroy(&a->all_done);
	lock_done(&a->lock);
	free(a);
}

/* --- one ask -------------------------------------------------------------------------------------------- */

static struct ask *new_ask(struct asks *a, struct str key, const struct question *q)
{
	struct ask *k = xcalloc(1, sizeof(*k));
	uint64_t bytes_max = q->answer_bytes_max ? q->answer_bytes_max : ANSWER_BYTES_MAX;

	atomic_init(&k->refs, 2); /* the caller's and the call's */
	k->asks = a;
	k->key = (struct str){ str_dup(key), key.len };
	k->method = xstrdup(q->method);
	k->who = (struct str){ str_dup(q->who), q->who.len };
	k->origin = q->origin;
	buf_init(&k->target, TARGET_BYTES_MAX);
	(void)buf_append_str(&k->target, q->target); /* too long: refused when it is used */
	headers_init(&k->headers);
	if (q->headers)
		headers_copy(&k->headers, q->headers);
	k->token = secret_ref(q->token);
	k->has_body = q->body.ptr != NULL;
	buf_init(&k->request_body, q->body.len);
	(void)buf_append_str(&k->request_body, q->body); /* fits: it is its own limit */
	k->follow = q->follow;
	k->is_background = q->is_background;
	k->answer_bytes_max = bytes_max;
	k->deadline_mono_ms = clock_mono_ms(a->clock) + (q->deadline_ms ? q->deadline_ms : DEADLINE_MS);
	k->learn = q->learn;
	k->learn_ctx = q->learn_ctx;
	k->free_ctx = q->free_ctx;
	headers_init(&k->answer.first);
	headers_init(&k->answer.last);
	buf_init(&k->answer.body, bytes_max);
	k->answer.asked_at = clock_wall_s(a->clock);
	lock_init(&k->lock, LOCK_ASK);
	waiters_init(&k->waiters);
	return k;
}

struct ask *ask_ref(struct ask *k)
{
	atomic_fetch_add_explicit(&k->refs, 1, memory_order_relaxed);
	return k;
}

static void drop_learn_ctx(void (*free_ctx)(void *), void *ctx)
{
	if (free_ctx)
		free_ctx(ctx);
}

struct ask *ask_unref(struct ask *k)
{
	if (!k || atomic_fetch_sub_explicit(&k->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	assert(k->is_done && !k->transfer);
	waiters_done(&k->waiters);
	lock_done(&k->lock);
	headers_done(&k->answer.first);
	headers_done(&k->answer.last);
	buf_done(&k->answer.body);
	headers_done(&k->headers);
	free((char *)(uintptr_t)k->who.ptr);
	buf_done(&k->request_body);
	buf_done(&k->target);
	(void)secret_unref(k->token);
	free(k->method);
	free((char *)k->key.ptr);
	free(k);
	return NULL;
}

/* The running ask of this key with a reference, or NULL after a new one took its place. */
static struct ask *join_or_put(struct asks *a, struct ask *new)
{
	SCOPED_LOCK(&a->lock);
	struct ask *running = map_get(a->running, new->key);

	if (running)
		return ask_ref(running);
	(void)map_put(a->running, new->key, new);
	a->count++;
	return NULL;
}

/* An ask that lost the place to another before anybody saw it. */
static void drop_unused(struct ask *k)
{
	drop_learn_ctx(k->free_ctx, k->learn_ctx);
	k->is_done = true;
	atomic_store(&k->refs, 1);
	ask_unref(k);
}

struct ask *ask_start(struct asks *a, struct str key, const struct question *q)
{
	struct ask *k = new_ask(a, key, q);
	struct ask *running = join_or_put(a, k);

	if (running) {
		drop_unused(k);
		return running;
	}
	ask_call(k);
	return k;
}

/* --- the end -------------------------------------------------------------------------------------------- */

static void leave_table(struct ask *k)
{
	SCOPED_LOCK(&k->asks->lock);
	struct ask *gone = map_take(k->asks->running, k->key);

	assert(gone == k);
}

static void leave_asks(struct asks *a)
{
	SCOPED_LOCK(&a->lock);

	assert(a->count > 0);
	/* under the lock: asks_free() may destroy it right after */
	if (--a->count == 0)
		pthread_cond_broadcast(&a->all_done);
}

static void finish(struct ask *k)
{
	struct asks *a = k->asks;

	leave_table(k);
	lock_take(&k->lock);
	k->is_done = true;
	lock_drop(&k->lock);
	waiters_wake_all(&k->waiters);
	ask_unref(k);
	leave_asks(a);
}

static void run_learn(struct job *job)
{
	struct ask *k = LIST_ENTRY(job, struct ask, job);

	k->answer.learned = k->learn(k->learn_ctx, &k->answer);
	drop_learn_ctx(k->free_ctx, k->learn_ctx);
	finish(k);
}

void ask_answered(struct ask *k)
{
	if (!k->learn) {
		drop_learn_ctx(k->free_ctx, k->learn_ctx);
		finish(k);
		return;
	}
	list_init(&k->job.node);
	k->job.run = run_learn;
	work_submit(k->asks->work, &k->job);
}

/* --- who waits ------------------------------------------------------------------------------------------ */

struct str ask_key(const struct ask *k)
{
	return k->key;
}

bool ask_is_done(const struct ask *k)
{
	struct lock *lock = (struct lock *)&k->lock; /* looking changes nothing that the caller can see */
	SCOPED_LOCK(lock);

	return k->is_done;
}

bool ask_wait(struct ask *k, struct waiter *w)
{
	SCOPED_LOCK(&k->lock);

	if (k->is_done)
		return false;
	waiters_add(&k->waiters, w); /* under the lock: finish() cannot slip in between */
	return true;
}

const struct answer *ask_answer(const struct ask *k)
{
	assert(ask_is_done(k));
	return &k->answer;
}
