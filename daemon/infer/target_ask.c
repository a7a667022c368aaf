/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/target_ask - how one of those whom targets.c has found is asked: upstream as the client asked us; a backend by its own
 * road, in its own words, with its own key.
 *
 * Never     gives a client's token, cookies or keys to a backend.
 * Threads   the request's.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* Heads may take their time: a model is loaded, a long text is generated. */
#define HEAD_TASK_MS 60000
#define HEAD_BACKEND_TASK_MS 30000
#define HEAD_TEXT_MS 300000
#define STALL_MS 60000
/* What is sent in another form than it came. */
#define BODY_MAX ((size_t)128 << 20)
#define BODY_MEMORY_MAX ((size_t)1 << 20)

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

static struct spool *body_without(struct infer *i, struct str body, struct request *q)
{
	SCOPED_BUF text;

	buf_init(&text, BODY_MAX);
	if (without_members(body, buf_str(&trail_of(q)->dropped), &text) < 0)
		return spool_of(i, body);
	return spool_of(i, buf_str(&text));
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
	SCOPED_BUF labels;
	int r;

	buf_init(&labels, (size_t)1 << 20);
	buf_init(&body, BODY_MAX);
	buf_init(&name, 1024);
	backend_model_name(i->opts.backends, t->candidate, name_of_model(c->model), &name);
	call.name = buf_str(&name);
	if (road->how == ADAPT_CLASSIFY && model_labels(i, c->call, c->q, &labels) == 0)
		call.labels = buf_str(&labels);
	r = adapt_request(&call, &body, type, ret);
	if (r < 0)
		return r;
	if (trail_of(c->q)->has_dropped && trail_of(c->q)->drops_for == t->candidate)
		*ret_body = body_without(i, r == 1 ? c->body : buf_str(&body), c->q);
	else
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

	target_key(key, take->name, &own_key);
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
