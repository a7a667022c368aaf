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

#define UPSTREAM FETCH_BACKENDS_MAX /* its number among the candidates */

/* Heads may take their time: a model is loaded, a long text is generated. */
#define HEAD_TASK_MS 60000
#define HEAD_BACKEND_TASK_MS 30000
#define HEAD_TEXT_MS 300000
#define STALL_MS 60000
/* How long a call waits for a place when all who could serve it are busy. */
#define QUEUE_MS 2000
/* A pause that is waited for on behalf of the client. */
#define PAUSE_S_MAX 2
/* What is sent in another form than it came. */
#define BODY_MAX ((size_t)128 << 20)
#define BODY_MEMORY_MAX ((size_t)1 << 20)

/* What a request remembers of those that it has asked. */
struct trail {
	bool has_failed[UPSTREAM + 1], was_repeated[UPSTREAM + 1];
	unsigned current;
	const char *name; /* of the current one */
	int error;        /* why the last one failed */
	uint64_t queue_until_ms, pause_until_ms;
};

static struct trail *trail_of(struct request *q)
{
	if (!q->trail) {
		struct trail *t = xcalloc(1, sizeof(*t));

		t->name = "upstream";
		q->trail = t;
		q->free_trail = free;
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
static struct str name_of_model(struct str model)
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

static void key_for(struct str key, const char *name, struct buf *out)
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
	key_for(key, ret->name, &own_key);
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

/* --- asking --- */

static void free_ctx(struct cast_query *query)
{
	if (query->free_ctx)
		query->free_ctx(query->ctx);
}

static int ask_upstream(struct infer *i, const struct targets_call *c, struct str key,
			struct cast_query *query)
{
	struct headers fields;
	int r;

	headers_init(&fields);
	request_forward_fields(c->q, &fields);
	query->origin = FETCH_INFERENCE;
	query->method = c->q->method;
	query->target = buf_str(&c->path->target);
	query->fields = &fields;
	query->token = c->q->subject.token;
	query->body = c->q->spool;
	query->first_byte_timeout_ms = c->path->dialect == DIALECT_TASK ? HEAD_TASK_MS : HEAD_TEXT_MS;
	query->stall_timeout_ms = STALL_MS;
	r = cast_join(i->opts.casts, key, query, &c->q->ear);
	headers_done(&fields);
	return r;
}

/* Few: what is between the client and the Hub, and all that may be a secret, stays here. */
static void fields_for_backend(const struct request *q, struct str type, struct headers *to)
{
	static const char *const names[] = { "Accept",         "User-Agent",
					     "Content-Type",   "Anthropic-Version",
					     "Anthropic-Beta", "OpenAI-Beta",
					     "Prefer",         "Traceparent" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str value = request_header(q, str_from(names[i]));

		if (value.ptr)
			(void)headers_add(to, str_from(names[i]), value);
	}
	(void)headers_set(to, STR("X-Request-Id"), str_from(q->id));
	if (type.len)
		(void)headers_set(to, STR("Content-Type"), type);
}

static struct spool *spool_of(struct infer *i, struct str body)
{
	struct spool *s = spool_new(i->opts.spool_folder, BODY_MEMORY_MAX, BODY_MAX);

	(void)spool_append(s, body.ptr, body.len);
	return spool_end(s) < 0 ? spool_unref(s) : s;
}

static bool makes_text(const struct targets_call *c, enum adapt how)
{
	return c->path->dialect != DIALECT_TASK ? c->path->dialect != DIALECT_EMBEDDINGS
						: how == ADAPT_TGI || how == ADAPT_COMPLETE;
}

/* Returns 0 with what its answer needs, and the body; else why this one cannot. */
static int translate(struct infer *i, const struct targets_call *c, const struct target *t,
		     const struct backend_road *road, struct buf *type, struct adapted **ret,
		     struct spool **ret_body)
{
	struct adapt_call call = { .how = road->how,
				   .body = c->body,
				   .is_json = c->facts->is_json,
				   .media = request_header(c->q, STR("Content-Type")),
				   .asked = str_from(c->facts->model ? c->facts->model : "") };
	SCOPED_BUF body;
	SCOPED_BUF name;
	int r;

	buf_init(&body, BODY_MAX);
	buf_init(&name, 1024);
	backend_model_name(i->opts.backends, t->candidate, name_of_model(c->model), &name);
	call.name = buf_str(&name);
	r = adapt_request(&call, &body, type, ret);
	if (r < 0)
		return r;
	*ret_body = r == 1 ? spool_ref(c->q->spool) : spool_of(i, buf_str(&body));
	if (*ret_body)
		return 0;
	adapted_free(TAKE_PTR(*ret));
	return -ENOSPC;
}

static int ask_backend(struct infer *i, const struct targets_call *c, struct target *t, struct str key,
		       struct cast_query *query)
{
	struct backends *b = i->opts.backends;
	struct backend_road road = { 0 };
	SCOPED(secret_unref) struct secret *token = backend_key(b, t->candidate);
	SCOPED(spool_unref) struct spool *body = NULL;
	SCOPED_FREE char *target = NULL;
	struct adapted *adapted = NULL;
	char commit[41];
	struct headers fields;
	SCOPED_BUF type;
	int r = backend_road(b, t->candidate, c->path->dialect, c->task, c->facts, c->body, &road);

	buf_init(&type, 256);
	if (r == 0)
		r = translate(i, c, t, &road, &type, &adapted, &body);
	if (r < 0)
		return r == -E2BIG ? -ENOTSUP
				   : r; /* too large to be told otherwise: not that there are too many */
	if (c->path->dialect == DIALECT_AUDIO &&
	    str_ends_with(buf_str(&c->path->route), STR("/translations")))
		road.path = "/v1/audio/translations";
	(void)backend_commit(b, t->candidate, commit);
	chain_put(adapted, TAKE_PTR(t->slot), commit, query);
	target = xasprintf("%s%s", backend_base_path(b, t->candidate), road.path);
	headers_init(&fields);
	fields_for_backend(c->q, buf_str(&type), &fields);
	query->origin = FETCH_BACKEND_FIRST + t->candidate;
	query->method = "POST";
	query->target = *target ? str_from(target) : STR("/");
	query->fields = &fields;
	query->token = token;
	query->body = body;
	query->first_byte_timeout_ms = backend_timeout_ms(b, t->candidate);
	if (query->first_byte_timeout_ms == 0)
		query->first_byte_timeout_ms = makes_text(c, road.how) ? HEAD_TEXT_MS : HEAD_BACKEND_TASK_MS;
	query->stall_timeout_ms = STALL_MS;
	r = cast_join(i->opts.casts, key, query, &c->q->ear);
	headers_done(&fields);
	return r;
}

int target_ask(struct infer *i, const struct targets_call *c, struct target *take, struct str key,
	       struct cast_query *query)
{
	struct trail *t = trail_of(c->q);
	SCOPED_BUF own_key;
	int r;

	key_for(key, take->name, &own_key);
	if (take->candidate == UPSTREAM)
		return ask_upstream(i, c, buf_str(&own_key), query);
	r = ask_backend(i, c, take, buf_str(&own_key), query);
	if (!take->slot)
		return r; /* it has begun, or the table is full */
	slot_done(TAKE_PTR(take->slot), 0, 0);
	free_ctx(query);
	t->has_failed[take->candidate] = true;
	t->error = r;
	return 1;
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

int targets_settle(struct infer *i, const struct targets_call *c, int error, int status,
		   const struct headers *fields)
{
	struct trail *t = trail_of(c->q);
	uint64_t seconds;

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
