/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/targets - whom to ask, in which order (inference-protocol 4.2, 4.4): the backend that has the model's name, those whose
 * globs match it, the default ones for calls that name no model, and then upstream.
 *
 * A target is left for the next one only while nothing of its answer has gone out. Each is asked once; one that broke the
 * connection, or asked for a pause of a moment, once more if there is nobody else.
 * Never     gives a client's token, cookies or keys to a backend.
 * Threads   the request's.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* How long a call waits for a place when all who could serve it are busy. */
#define QUEUE_MS 2000
/* A pause that is waited for on behalf of the client. */
#define PAUSE_S_MAX 2

static void trail_free(void *p)
{
	struct trail *t = p;

	buf_done(&t->dropped);
	free(t);
}

struct trail *trail_of(struct request *q)
{
	if (!q->trail) {
		struct trail *t = xcalloc(1, sizeof(*t));

		t->name = "upstream";
		buf_init(&t->dropped, 16384);
		q->trail = t;
		q->free_trail = trail_free;
	}
	return q->trail;
}

/* --- who could be asked --- */

/* What follows the last colon of a model's name; "" without one. */
static struct str suffix_of(struct str model)
{
	const char *colon = model.len ? memrchr(model.ptr, ':', model.len) : NULL;

	return colon ? str_from_range(colon + 1, model.ptr + model.len) : STR("");
}

static bool is_provider(struct str word)
{
	return path_is_provider(word) || str_eq(word, STR("hf-inference"));
}

/* "m:groq", or a provider's own path: the client has chosen. */
static bool is_pinned(const struct targets_call *c)
{
	if (c->path->provider.len && !str_eq(c->path->provider, STR("hf-inference")))
		return true;
	return is_provider(suffix_of(c->model));
}

/* Without the router's policies. Other suffixes are part of a name: ":Q4_K_M", ":8b". */
struct str name_of_model(struct str model)
{
	struct str suffix = suffix_of(model);

	if (str_eq(suffix, STR("fastest")) || str_eq(suffix, STR("cheapest")) ||
	    str_eq(suffix, STR("preferred")) || is_provider(suffix))
		model.len -= suffix.len + 1;
	return model;
}

static void add_backends(struct infer *i, const struct targets_call *c, enum backend_match wanted,
			 unsigned *ids, unsigned *count)
{
	struct str model = name_of_model(c->model);

	for (unsigned k = 0; k < backends_count(i->opts.backends); k++) {
		struct backend_road road;

		if (backend_serves(i->opts.backends, k, model) == wanted &&
		    backend_road(i->opts.backends, k, c->path->dialect, c->task, c->facts, c->body, &road) ==
			    0)
			ids[(*count)++] = k;
	}
}

/* In the order in which they are asked. Returns their number. */
static unsigned candidates(struct infer *i, const struct targets_call *c, unsigned ids[UPSTREAM + 1])
{
	unsigned count = 0;

	if (!is_pinned(c)) {
		add_backends(i, c, MATCH_EXACT, ids, &count);
		add_backends(i, c, MATCH_GLOB, ids, &count);
		add_backends(i, c, MATCH_DEFAULT, ids, &count);
	}
	if (c->rules->mode != INFER_OFFLINE && fetch_has_origin(i->opts.fetch, FETCH_INFERENCE))
		ids[count++] = UPSTREAM;
	return count;
}

static bool is_there(struct infer *i, unsigned id)
{
	return id == UPSTREAM ? !fetch_origin_is_down(i->opts.fetch, FETCH_INFERENCE)
			      : backend_state(i->opts.backends, id) != BACKEND_BROKEN;
}

bool targets_any(struct infer *i, const struct targets_call *c)
{
	unsigned ids[UPSTREAM + 1], count = candidates(i, c, ids);

	for (unsigned k = 0; k < count; k++)
		if (is_there(i, ids[k]))
			return true;
	return false;
}

/* --- the next one --- */

void target_key(struct str key, const char *name, struct buf *out)
{
	buf_init(out, 512);
	if (key.len && buf_append_str(out, key) == 0)
		buf_appendf(out, "|%s", name);
}

static const char *name_of(struct infer *i, unsigned id)
{
	return id == UPSTREAM ? "upstream" : backend_name(i->opts.backends, id);
}

/* Returns 0 a place; 1 it is heard; or why not. */
static int try_one(struct infer *i, const struct targets_call *c, struct str key, unsigned id,
		   struct target *ret)
{
	struct trail *t = trail_of(c->q);
	SCOPED_BUF own_key;
	int r = 0;

	*ret = (struct target){ .name = name_of(i, id), .candidate = id };
	target_key(key, ret->name, &own_key);
	if (own_key.len)
		c->q->ear = cast_hear(i->opts.casts, buf_str(&own_key));
	if (c->q->ear)
		r = 1;
	else if (id != UPSTREAM)
		r = backend_take(i->opts.backends, id, &ret->slot);
	else if (!is_there(i, id))
		r = -EHOSTUNREACH;
	if (r >= 0) {
		t->current = id;
		t->name = ret->name;
	}
	return r;
}

static int wait_a_moment(struct infer *i, const struct targets_call *c)
{
	backends_wait(i->opts.backends, &c->q->waiter);
	return -EAGAIN;
}

/* All are busy: for a moment it waits in the queue. */
static int wait_in_queue(struct infer *i, const struct targets_call *c)
{
	struct trail *t = trail_of(c->q);
	uint64_t now = clock_mono_ms(i->opts.clock);

	if (t->queue_until_ms == 0)
		t->queue_until_ms = now + QUEUE_MS;
	return now < t->queue_until_ms ? wait_a_moment(i, c) : -E2BIG;
}

static int nobody(struct infer *i, const struct targets_call *c, unsigned count)
{
	struct trail *t = trail_of(c->q);

	if (t->error)
		return t->error;
	if (count)
		return -EHOSTUNREACH;
	return c->rules->mode == INFER_OFFLINE || backends_count(i->opts.backends) ? -ENODATA : -EDESTADDRREQ;
}

int targets_next(struct infer *i, const struct targets_call *c, struct str key, struct target *ret)
{
	struct trail *t = trail_of(c->q);
	unsigned ids[UPSTREAM + 1], count = candidates(i, c, ids);
	bool is_busy = false;
	int r;

	if (clock_mono_ms(i->opts.clock) < t->pause_until_ms)
		return wait_a_moment(i, c);
	for (unsigned k = 0; k < count; k++) {
		if (t->has_failed[ids[k]])
			continue;
		r = try_one(i, c, key, ids[k], ret);
		if (r >= 0)
			return r;
		is_busy |= r == -EBUSY;
	}
	if (is_busy)
		return wait_in_queue(i, c);
	/* only those that are loading are left: what they say themselves is the answer */
	for (unsigned k = 0; k < count; k++)
		if (ids[k] != UPSTREAM && !t->has_failed[ids[k]] &&
		    backend_take_loading(i->opts.backends, ids[k], &ret->slot) == 0) {
			ret->candidate = t->current = ids[k];
			ret->name = t->name = name_of(i, ids[k]);
			return 0;
		}
	return nobody(i, c, count);
}

const char *targets_name(const struct request *q)
{
	const struct trail *t = q->trail;

	return t ? t->name : "upstream";
}

/* --- is it the answer? --- */

static bool may_go_on(int error, int status)
{
	if (error)
		return error != -ECANCELED && error != -E2BIG && error != -EACCES;
	return status == 429 || (status >= 501 && status <= 504);
}

static bool has_another(struct infer *i, const struct targets_call *c)
{
	const struct trail *t = trail_of(c->q);
	unsigned ids[UPSTREAM + 1], count = candidates(i, c, ids);

	for (unsigned k = 0; k < count; k++)
		if (!t->has_failed[ids[k]] && is_there(i, ids[k]))
			return true;
	return false;
}

/* "Retry-After" in seconds, if it is a moment; 0: it is not said, or longer. */
static uint64_t pause_s(int status, const struct headers *fields)
{
	struct str value = status == 429 ? headers_get(fields, STR("Retry-After")) : (struct str){ 0 };
	uint64_t seconds;

	return value.len && parse_u64(value, &seconds) == 0 && seconds <= PAUSE_S_MAX ? seconds : 0;
}

/* It does not know some of the parameters, and the rules say that it shall then be asked without them. */
#define REFUSAL_MAX ((size_t)64 << 10)
static int ask_without(struct infer *i, const struct targets_call *c, int error, int status)
{
	struct trail *t = trail_of(c->q);
	struct str refusal;
	int r;

	if (error || (status != 400 && status != 422) || t->current == UPSTREAM || t->has_dropped ||
	    !c->facts->is_json || !backend_drops_unknown(i->opts.backends, t->current))
		return 0;
	r = ear_peek(c->q->ear, REFUSAL_MAX, &c->q->waiter, &refusal);
	if (r == -EAGAIN)
		return r;
	if (r < 0 || unknown_members(c->body, refusal, &t->dropped) < 0)
		return 0;
	t->has_dropped = true;
	t->drops_for = t->current;
	ear_free(TAKE_PTR(c->q->ear));
	return 1;
}

int targets_settle(struct infer *i, const struct targets_call *c, int error, int status,
		   const struct headers *fields)
{
	struct trail *t = trail_of(c->q);
	uint64_t seconds;
	int r = ask_without(i, c, error, status);

	if (r != 0)
		return r;
	if (t->current == UPSTREAM || !may_go_on(error, status))
		return error;
	t->has_failed[t->current] = true;
	if (error)
		t->error = error;
	if (has_another(i, c)) {
		ear_free(TAKE_PTR(c->q->ear));
		return 1;
	}
	seconds = error ? 0 : pause_s(status, fields);
	if (!t->was_repeated[t->current] && (error == -ECONNRESET || seconds)) {
		t->was_repeated[t->current] = true;
		t->has_failed[t->current] = false;
		ear_free(TAKE_PTR(c->q->ear));
		t->pause_until_ms = clock_mono_ms(i->opts.clock) + seconds * 1000;
		return seconds ? wait_a_moment(i, c) : 1;
	}
	/* who waits for a model to be loaded will ask it again */
	if (status == 503)
		t->has_failed[t->current] = false;
	return error;
}

void targets_each_model(struct infer *i,
			bool (*each)(void *ctx, struct str model, struct str task, struct str owner),
			void *ctx)
{
	backends_each_model(i->opts.backends, each, ctx);
}

bool targets_serve(struct infer *i, struct str model, struct buf *task)
{
	char known[40] = "";
	bool r = backends_serve(i->opts.backends, name_of_model(model), known);

	if (r)
		buf_append_str(task, str_from(known));
	return r;
}
