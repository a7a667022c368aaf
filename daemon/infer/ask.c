/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/ask - one call that is made: somebody is found who answers it, a model that is loading is waited for, and who only listened
 * to others asks again when their call has failed.
 *
 * Threads   the request's; it parks and is run again (reply/request.h).
 * Promises  (1) an answer that was kept between the look-up and the call is not asked for again.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* How long a client that says so waits for a model that is loading, whatever the rules say for others. */
#define WAIT_ASKED_MS ((uint64_t)300 * 1000)
#define NAP_MIN_MS ((uint64_t)200)
#define NAP_MAX_MS ((uint64_t)20 * 1000)

/*
 * Who hears the same answer must want it in the same form. A retry of a call that is still under way is no new call, even if its
 * answer could be another each time.
 */
static void cast_key(const struct run *x, struct buf *out)
{
	struct str once = request_header(x->q, STR("Idempotency-Key"));
	const struct call *c = x->call;

	buf_init(out, 2048);
	if (!c->key_count || c->control.no_store || c->control.no_lookup)
		return;
	if (!infer_may_share(&x->known) && (!once.len || once.len > 256))
		return;
	buf_append(out, c->keys[0].bytes, SHA256_BYTES);
	buf_appendf(out, "%d%d%d", c->facts.wants_stream, c->facts.wants_usage, c->facts.wants_base64);
	if (!infer_may_share(&x->known)) {
		buf_append(out, c->identity, SUBJECT_BYTES);
		buf_append_str(out, once);
	}
}

static void drop_ear(struct request *q)
{
	ear_free(TAKE_PTR(q->ear));
	if (q->trail && q->free_trail)
		q->free_trail(TAKE_PTR(q->trail));
}

/* For cast_join(): the answer that nobody had when it was looked for. Believed once: it may prove to be no use. */
static bool is_answered(void *asker)
{
	struct run *x = asker;
	bool r = !x->call->was_late && run_would_give(x);

	x->call->was_late |= r;
	return r;
}

/* Finds somebody who answers. Returns 0 with q->ear; -EALREADY look up again; -EAGAIN parked; else why there is nobody. */
static int find_ear(struct run *x, struct str key)
{
	struct request *q = x->q;
	bool may_keep = infer_may_keep(&x->known);
	struct target target;
	int r;

	do {
		struct cast_query query = { .who = str_from(q->client),
					    .answer_max = may_keep ? x->rules.answer_max : 0,
					    .finish_alone = may_keep && x->rules.finish_alone,
					    .filter = keeping_filter,
					    .ended = may_keep ? keeping_ended : NULL,
					    .free_ctx = keeping_free,
					    .is_answered = is_answered,
					    .asker = x };

		r = targets_next(x->infer, &x->targets, key, &target);
		if (r != 0)
			break;
		query.ctx = keeping_new(x->infer, x->call, target.name);
		r = target_ask(x->infer, &x->targets, &target, key, &query);
	} while (r == 1);
	if (r == -EALREADY)
		drop_ear(q);
	if (r < 0)
		return r;
	x->call->had_old = x->known.is_held;
	q->used_upstream = true;
	q->collapsed = ear_has_joined(q->ear);
	return 0;
}

/* --- a model that is loading --- */

static uint64_t now_ms(const struct run *x)
{
	return clock_mono_ms(x->infer->opts.clock);
}

/* In seconds, maybe with a fraction; as the answer says in a field. What stands in its body is not waited for. */
static uint64_t told_wait_ms(const struct headers *fields)
{
	uint64_t seconds, ms;

	if (parse_u64(headers_get(fields, STR("Retry-After-Ms")), &ms) == 0)
		return ms;
	if (parse_u64(headers_get(fields, STR("Retry-After")), &seconds) == 0 && seconds < 86400)
		return seconds * 1000;
	return 1000;
}

/*
 * The model is loading, and this client waits for it, or the rules let everybody wait: the call is made again later. Returns
 * -EAGAIN parked; 0: the answer stands.
 */
static int hold(struct run *x, int status, const struct headers *fields)
{
	struct call *c = x->call;
	uint64_t budget = c->control.waits_for_model && x->rules.wait_budget_ms < WAIT_ASKED_MS
				  ? WAIT_ASKED_MS
				  : x->rules.wait_budget_ms;
	uint64_t now = now_ms(x), nap = told_wait_ms(fields);

	if (status != 503 || !budget)
		return 0;
	if (!c->waits_until_ms)
		c->waits_until_ms = now + budget;
	nap = nap < NAP_MIN_MS ? NAP_MIN_MS : nap > NAP_MAX_MS ? NAP_MAX_MS : nap;
	if (now >= c->waits_until_ms)
		return 0;
	if (nap > c->waits_until_ms - now)
		nap = c->waits_until_ms - now;
	drop_ear(x->q);
	c->nap = nap_begin(x->infer->opts.fetch, nap);
	if (nap_wait(c->nap, &x->q->waiter))
		return -EAGAIN;
	return 1;
}

/* false: it still waits, parked. */
static bool is_awake(struct run *x)
{
	struct call *c = x->call;

	if (!c->nap)
		return true;
	if (nap_wait(c->nap, &x->q->waiter))
		return false;
	nap_free(TAKE_PTR(c->nap));
	return true;
}

/*
 * What others began has failed: one of those who only listened asks again, once; the rest hear that one. A refusal is the same for
 * all.
 */
static bool is_promoted(struct run *x, int error, int status)
{
	bool has_failed = error == -ECONNRESET || error == -EPROTO || error == -EHOSTUNREACH ||
			  error == -ECANCELED || status >= 500;

	if (!has_failed || !x->q->collapsed || x->call->was_promoted)
		return false;
	x->call->was_promoted = true;
	return true;
}

int run_ask(struct run *x, struct answer_head *ret)
{
	struct request *q = x->q;
	SCOPED_BUF key;
	int r;

	cast_key(x, &key);
	for (;;) {
		if (!is_awake(x))
			return -EAGAIN;
		r = q->ear ? 0 : find_ear(x, buf_str(&key));
		if (r < 0)
			return r;
		*ret = (struct answer_head){ .length = -1 };
		while ((r = ear_head(q->ear, &ret->status, &ret->fields, &ret->length)) == -EAGAIN)
			if (request_park_ear(q) == -EAGAIN)
				return -EAGAIN;
		if (r == -EALREADY) { /* who began it found that it was not needed */
			drop_ear(q);
			q->used_upstream = q->collapsed = false;
			return r;
		}
		if (is_promoted(x, r, ret->status)) {
			drop_ear(q);
			continue;
		}
		r = targets_settle(x->infer, &x->targets, r, ret->status, ret->fields);
		if (r == 1)
			continue;
		if (r < 0)
			return r;
		r = hold(x, ret->status, ret->fields);
		if (r <= 0)
			return r;
	}
}
