/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast - the table of casts, and the ears.
 *
 * Owns      casts from cast_join() to the last reference.
 * Never     holds a lock across a filter of its own making, `ended`, a call into fetch or work, or a wake. (The filter's calls
 *           run under the cast's lock: they are pure.)
 * Threads   server threads; cast_over() fetch and work threads.
 */
#include <assert.h>
#include <errno.h>

#include "cast/priv.h"
#include "common/alloc.h"

#include "common/banned.h"

struct casts *casts_new(const struct casts_opts *opts)
{
	struct casts *c = xcalloc(1, sizeof(*c));

	c->fetch = opts->fetch;
	c->work = opts->work;
	c->metrics = opts->metrics;
	c->clock = opts->clock;
	lock_init(&c->lock, LOCK_CASTS);
	c->by_key = map_new();
	shares_init(&c->places, CASTS_MAX);
	list_init(&c->all);
	(void)pthread_cond_init(&c->quiet, NULL);
	return c;
}

/* Before its transfer was put down: keep_transfer() sees it. */
static void cancel(struct cast *c)
{
	struct transfer *t;

	lock_take(&c->lock);
	c->is_cancelled = true;
	t = c->transfer;
	lock_drop(&c->lock);
	if (t)
		transfer_cancel(t);
}

/* One that is not cancelled yet, with a reference; or NULL. */
static struct cast *next_running_locked(struct casts *casts)
{
	LIST_EACH(node, &casts->all) {
		struct cast *c = LIST_ENTRY(node, struct cast, node);

		if (!c->is_told_to_stop) {
			c->is_told_to_stop = true;
			return cast_ref(c);
		}
	}
	return NULL;
}

void casts_free(struct casts *casts)
{
	struct cast *c;

	if (!casts)
		return;
	lock_take(&casts->lock);
	casts->is_stopping = true;
	while ((c = next_running_locked(casts))) {
		lock_drop(&casts->lock);
		cancel(c);
		cast_unref(c);
		lock_take(&casts->lock);
	}
	while (!list_is_empty(&casts->all))
		(void)pthread_cond_wait(&casts->quiet, &casts->lock.mutex);
	lock_drop(&casts->lock);
	map_free(casts->by_key, NULL);
	shares_done(&casts->places);
	(void)pthread_cond_destroy(&casts->quiet);
	lock_done(&casts->lock);
	free(casts);
}

/* --- one cast --- */

static struct cast *cast_new(struct casts *casts, struct str key, const struct cast_query *q)
{
	struct cast *c = xcalloc(1, sizeof(*c));

	atomic_init(&c->refs, 1);
	atomic_init(&c->halves, 2);
	c->casts = casts;
	c->key = (struct str){ str_dup(key), key.len };
	c->who = (struct str){ str_dup(q->who), q->who.len };
	c->request = q->body ? spool_ref(q->body) : NULL;
	c->filter = q->filter;
	c->ended = q->ended;
	c->ctx = q->ctx;
	c->free_ctx = q->free_ctx;
	c->answer_max = q->answer_max;
	c->finish_alone = q->finish_alone;
	c->asked_at = clock_wall_s(casts->clock);
	c->content_length = -1;
	c->open_end = UINT64_MAX;
	headers_init(&c->fields);
	/* a piece more than what may be kept, so that too long is seen */
	buf_init(&c->body, (size_t)q->answer_max + ((size_t)64 << 20));
	lock_init(&c->lock, LOCK_CAST);
	list_init(&c->ears);
	waiters_init(&c->waiters);
	return c;
}

struct cast *cast_ref(struct cast *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void cast_unref(struct cast *c)
{
	if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	transfer_unref(c->transfer);
	waiters_done(&c->waiters);
	lock_done(&c->lock);
	headers_done(&c->fields);
	buf_done(&c->body);
	spool_unref(c->request);
	if (c->free_ctx)
		c->free_ctx(c->ctx);
	free((char *)(uintptr_t)c->key.ptr);
	free((char *)(uintptr_t)c->who.ptr);
	free(c);
}

void cast_leave_table(struct cast *c)
{
	SCOPED_LOCK(&c->casts->lock);

	if (c->key.len && map_get(c->casts->by_key, c->key) == c)
		(void)map_take(c->casts->by_key, c->key);
}

void cast_over(struct cast *c)
{
	struct casts *casts = c->casts;

	lock_take(&casts->lock);
	list_remove(&c->node);
	shares_give(&casts->places, c->who);
	if (list_is_empty(&casts->all))
		(void)pthread_cond_broadcast(&casts->quiet);
	lock_drop(&casts->lock);
	cast_unref(c);
}

void cast_half_over(struct cast *c)
{
	if (atomic_fetch_sub_explicit(&c->halves, 1, memory_order_acq_rel) == 1)
		cast_over(c);
}

static void keep_transfer(struct cast *c, struct transfer *t)
{
	bool is_unwanted;

	lock_take(&c->lock);
	is_unwanted = c->is_cancelled;
	c->transfer = t;
	lock_drop(&c->lock);
	if (is_unwanted)
		transfer_cancel(t);
}

static void begin(struct cast *c, const struct cast_query *q)
{
	struct fetch_request request = { .method = q->method,
					 .origin = q->origin,
					 .target = q->target,
					 .headers = q->fields,
					 .token = q->token,
					 .who = c->who,
					 .follow = FETCH_FOLLOW_NONE,
					 .first_byte_timeout_ms = q->first_byte_timeout_ms,
					 .stall_timeout_ms = q->stall_timeout_ms,
					 .has_body = q->body != NULL,
					 .body_bytes = q->body ? (int64_t)spool_size(q->body) : 0 };
	struct transfer *t = NULL;

	(void)fetch_start(c->casts->fetch, &request, &cast_ops, c, &t); /* failures come through on_done */
	keep_transfer(c, t);
}

/* --- ears --- */

/* NULL: nobody can hear it from its beginning any more. */
static struct ear *ear_new(struct cast *c, bool has_joined)
{
	struct ear *e;
	SCOPED_LOCK(&c->lock);

	if (c->is_too_long || c->is_cancelled || c->error)
		return NULL;
	e = xcalloc(1, sizeof(*e));
	e->cast = cast_ref(c);
	e->has_joined = has_joined;
	list_add_tail(&c->ears, &e->node);
	return e;
}

/* A running one that can still be heard from its beginning, as an ear; NULL: there is none. */
static struct ear *join_running(struct casts *casts, struct str key)
{
	struct cast *c;
	struct ear *e;

	if (!key.len)
		return NULL;
	lock_take(&casts->lock);
	c = map_get(casts->by_key, key);
	if (c)
		cast_ref(c);
	lock_drop(&casts->lock);
	if (!c)
		return NULL;
	e = ear_new(c, true);
	if (!e)
		cast_leave_table(c);
	cast_unref(c);
	return e;
}

struct ear *cast_hear(struct casts *casts, struct str key)
{
	return join_running(casts, key);
}

/* Puts it into the table. Returns 0; -EEXIST another one of its key is there; -E2BIG there are too many. */
static int enter(struct casts *casts, struct cast *c)
{
	SCOPED_LOCK(&casts->lock);

	if (casts->is_stopping)
		return -E2BIG;
	if (c->key.len && map_get(casts->by_key, c->key))
		return -EEXIST;
	if (!shares_take(&casts->places, c->who))
		return -E2BIG;
	list_add_tail(&casts->all, &c->node);
	if (c->key.len)
		(void)map_put(casts->by_key, c->key, c);
	return 0;
}

/* It never began. Who has joined hears so. */
static void take_back(struct cast *c)
{
	cast_leave_table(c);
	lock_take(&c->lock);
	c->error = -EALREADY;
	c->is_done = true;
	lock_drop(&c->lock);
	waiters_wake_all(&c->waiters);
	cast_over(c);
}

int cast_join(struct casts *casts, struct str key, const struct cast_query *q, struct ear **ret_ear)
{
	struct cast *c = cast_new(casts, key, q);
	struct ear *own = ear_new(c, false), *other; /* before anybody can join: so it is never alone */
	int r;

	do {
		other = join_running(casts, key);
		r = other ? 1 : enter(casts, c);
	} while (r == -EEXIST); /* it came in between: then it is joined */
	if (r == 0 && key.len && q->is_answered && q->is_answered(q->asker)) {
		take_back(c);
		ear_free(own);
		return -EALREADY;
	}
	if (r == 0) {
		*ret_ear = own;
		begin(c, q);
		return 0;
	}
	ear_free(own);
	cast_unref(c);
	*ret_ear = other;
	return r == 1 ? 0 : r;
}

bool ear_has_joined(const struct ear *e)
{
	return e->has_joined;
}

int ear_head(struct ear *e, int *ret_status, const struct headers **ret_fields, int64_t *ret_content_length)
{
	struct cast *c = e->cast;
	SCOPED_LOCK(&c->lock);

	if (!c->has_head)
		return c->is_done ? (c->error ? c->error : -EPROTO) : -EAGAIN;
	*ret_status = c->status;
	*ret_fields = &c->fields;
	*ret_content_length = c->content_length;
	e->knows_head = true;
	return 0;
}

static ssize_t read_locked(struct ear *e, void *bytes, size_t len_max)
{
	struct cast *c = e->cast;
	uint64_t end = c->base + c->body.len;
	size_t len;

	if (end > c->open_end)
		end = c->open_end;
	if (e->offset >= end)
		return c->is_done ? c->error : -EAGAIN;
	len = end - e->offset < len_max ? (size_t)(end - e->offset) : len_max;
	memcpy(bytes, c->body.bytes + (e->offset - c->base), len);
	e->offset += len;
	return (ssize_t)len;
}

ssize_t ear_read(struct ear *e, void *bytes, size_t len_max)
{
	struct cast *c = e->cast;
	bool must_resume;
	ssize_t n;

	assert(len_max > 0);
	lock_take(&c->lock);
	n = read_locked(e, bytes, len_max);
	must_resume = cast_trim_locked(c);
	lock_drop(&c->lock);
	if (must_resume)
		transfer_resume(c->transfer);
	return n;
}

int ear_peek(struct ear *e, size_t bytes_max, struct waiter *w, struct str *ret)
{
	struct cast *c = e->cast;
	SCOPED_LOCK(&c->lock);

	assert(e->offset == 0);
	if (c->body.len > bytes_max || (c->is_done && c->base > 0))
		return -E2BIG;
	if (!c->is_done) {
		waiters_add(&c->waiters, w);
		return -EAGAIN;
	}
	*ret = buf_str(
		&c->body); /* nothing is appended any more, and nothing goes before this ear has heard it */
	return c->error;
}

bool ear_wait(struct ear *e, struct waiter *w)
{
	struct cast *c = e->cast;
	uint64_t end;
	SCOPED_LOCK(&c->lock);

	end = c->base + c->body.len < c->open_end ? c->base + c->body.len : c->open_end;
	if (c->is_done || e->offset < end || (c->has_head && !e->knows_head))
		return false;
	waiters_add(&c->waiters, w);
	return true;
}

void ear_free(struct ear *e)
{
	struct cast *c;
	bool is_alone, must_resume;

	if (!e)
		return;
	c = e->cast;
	lock_take(&c->lock);
	list_remove(&e->node);
	is_alone = list_is_empty(&c->ears) && !c->is_done && !c->is_whole && !c->finish_alone;
	c->is_cancelled |= is_alone; /* from now on nobody joins */
	must_resume = !is_alone && cast_trim_locked(c);
	lock_drop(&c->lock);
	if (is_alone) {
		cast_leave_table(c);
		cancel(c);
	}
	if (must_resume)
		transfer_resume(c->transfer);
	free(e);
	cast_unref(c);
}
