/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend/health - may a server be asked now? What calls and probes met, and the places for calls.
 *
 *   READY --3 failures in a row--> BROKEN --30 s--> one call finds out --answer--> READY
 *     |                              ^                     |
 *     +--503--> LOADING --probe--> READY                   +--failure
 *
 * Threads   any; wakes are outside of the lock.
 */
#include "backend/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"
#include "common/log.h"

#include "common/banned.h"

#define TICK_MS 250

struct slot {
	struct one *one; /* its backends are referenced */
	bool was_try;
};

static bool is_broken_locked(const struct one *o, uint64_t now)
{
	return o->failures >= FAILURES_MAX && (now < o->broken_until_ms || o->is_trying);
}

static enum backend_state state_locked(const struct one *o)
{
	if (is_broken_locked(o, clock_mono_ms(o->all->clock)))
		return BACKEND_BROKEN;
	if (o->is_loading)
		return BACKEND_LOADING;
	return o->concurrency && o->running >= o->concurrency ? BACKEND_BUSY : BACKEND_READY;
}

enum backend_state backend_state(struct backends *b, unsigned i)
{
	SCOPED_LOCK(&b->lock);

	return state_locked(&b->ones[i]);
}

static const char *state_name(enum backend_state state)
{
	static const char *const names[] = { [BACKEND_READY] = "ready",
					     [BACKEND_BUSY] = "busy",
					     [BACKEND_LOADING] = "loading",
					     [BACKEND_BROKEN] = "unreachable" };

	return names[state];
}

/* For people, who are not told that it is well before anybody has heard of it, or while it fails. */
static const char *view_locked(const struct one *o)
{
	enum backend_state state = state_locked(o);

	if (!o->is_heard)
		return "not asked yet";
	if (state == BACKEND_READY && (o->is_sick || o->failures))
		return "failing";
	return state_name(state);
}

void backends_each(struct backends *b, void (*each)(void *ctx, const struct backend_view *view), void *ctx)
{
	for (unsigned i = 0; i < backends_count(b); i++) {
		const struct one *o = &b->ones[i];
		struct backend_view view = { .name = o->name, .kind = policy_backend_name(o->kind) };

		lock_take(&b->lock);
		view.state = view_locked(o);
		view.running = o->running;
		view.concurrency = o->concurrency;
		view.models = o->served.count;
		lock_drop(&b->lock);
		each(ctx, &view);
	}
}

static int take(struct backends *b, unsigned i, bool is_any, struct slot **ret)
{
	static const int errors[] = {
		[BACKEND_BUSY] = -EBUSY, [BACKEND_LOADING] = -EAGAIN, [BACKEND_BROKEN] = -EHOSTUNREACH
	};
	struct one *o = &b->ones[i];
	enum backend_state state;
	SCOPED_LOCK(&b->lock);

	state = state_locked(o);
	if (state != BACKEND_READY && (!is_any || state != BACKEND_LOADING))
		return errors[state];
	*ret = xcalloc(1, sizeof(**ret));
	(*ret)->one = o;
	(*ret)->was_try = o->failures >= FAILURES_MAX;
	o->is_trying |= (*ret)->was_try;
	o->running++;
	(void)backends_ref(b);
	return 0;
}

int backend_take(struct backends *b, unsigned i, struct slot **ret)
{
	return take(b, i, false, ret);
}

int backend_take_loading(struct backends *b, unsigned i, struct slot **ret)
{
	return take(b, i, true, ret);
}

static void failed_locked(struct one *o, bool is_sick)
{
	o->is_heard = true;
	o->is_loading = false;
	o->is_sick = is_sick;
	if (o->failures < FAILURES_MAX)
		o->failures++;
	if (o->failures == FAILURES_MAX)
		o->broken_until_ms = clock_mono_ms(o->all->clock) + BROKEN_MS;
}

static void answered_locked(struct one *o, bool is_probe)
{
	o->is_heard = true;
	o->is_loading = false;
	if (is_probe && o->is_sick)
		return;
	o->failures = 0;
	o->is_sick = false;
}

/* One that could not be reached, and now says this, has been started again. */
static void loading_locked(struct one *o)
{
	o->is_heard = true;
	o->is_loading = true;
	if (!o->is_sick)
		o->failures = 0;
}

static void note_locked(struct one *o, int error, int status, bool is_probe)
{
	/* what this machine lacks is no word about the server */
	if (error && error != -ECANCELED && !policy_is_own_limit(error))
		failed_locked(o, false);
	else if (error || status == 0)
		return;
	else if (status == 503)
		loading_locked(o);
	else if (status == 500 || status == 502 || status == 504)
		failed_locked(o, true);
	else
		answered_locked(o, is_probe);
}

static void tell(const struct one *o, bool was_broken, bool is_broken, int error, int status)
{
	if (was_broken == is_broken)
		return;
	if (is_broken)
		log_warning("backend", "a backend does not answer as it should: it is left alone for a while",
			    LOG_TEXT("backend", o->name), LOG_ERR("error", error), LOG_I64("status", status),
			    LOG_END);
	else
		log_info("backend", "a backend answers again", LOG_TEXT("backend", o->name), LOG_END);
}

void health_note(struct one *o, int error, int status, bool is_probe)
{
	struct backends *b = o->all;
	bool was_broken, is_broken;

	lock_take(&b->lock);
	was_broken = o->failures >= FAILURES_MAX;
	note_locked(o, error, status, is_probe);
	is_broken = o->failures >= FAILURES_MAX;
	lock_drop(&b->lock);
	tell(o, was_broken, is_broken, error, status);
	waiters_wake_all(&b->waiters);
}

void slot_done(struct slot *s, int error, int status)
{
	struct one *o;

	if (!s)
		return;
	o = s->one;
	lock_take(&o->all->lock);
	o->running--;
	if (s->was_try)
		o->is_trying = false;
	lock_drop(&o->all->lock);
	health_note(o, error, status, false);
	backends_unref(o->all);
	free(s);
}

bool health_is_any_loading(struct backends *b)
{
	SCOPED_LOCK(&b->lock);

	for (unsigned i = 0; i < b->count; i++)
		if (b->ones[i].is_loading)
			return true;
	return false;
}

/* --- waiting --- */

static void tick(void *ctx)
{
	struct backends *b = ctx;

	lock_take(&b->lock);
	b->is_ticking = false;
	lock_drop(&b->lock);
	waiters_wake_all(&b->waiters);
	backends_unref(b);
}

void backends_wait(struct backends *b, struct waiter *w)
{
	bool must_tick;

	waiters_add(&b->waiters, w);
	lock_take(&b->lock);
	must_tick = !b->is_ticking && !b->is_stopping;
	b->is_ticking |= must_tick;
	lock_drop(&b->lock);
	if (must_tick)
		fetch_call(b->fetch, TICK_MS, tick, backends_ref(b));
}
