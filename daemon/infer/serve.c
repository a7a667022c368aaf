/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/serve - one inference call: read, look up, give or ask (ask.c), answer.
 *
 * Like every handler it runs again from its top after each wait; what it then knows is in the index, what it waits for in the
 * request's ear or its nap, and what it has worked out in the request's memo (call.c).
 */
#include "infer/priv.h"

#include <errno.h>
#include <stdio.h>

/* The commit that answered, against where the model's main branch stands now. */
static bool is_outdated(const struct run *x)
{
	const struct record *record = &x->kept->record;
	char commit[COMMIT_TEXT];

	return record->sha && strlen(record->sha) == COMMIT_HEX && x->call->repo.len &&
	       index_find_name(x->infer->opts.index, buf_str(&x->call->repo), STR("main"), commit, NULL) ==
		       0 &&
	       !str_eq(str_from(commit), str_from(record->sha));
}

static void look_up(struct run *x)
{
	struct infer_facts *k = &x->known;
	const struct call *c = x->call;
	int r = -ENODATA;

	kept_unref(TAKE_PTR(x->kept));
	*k = (struct infer_facts){ .mode = x->rules.mode,
				   .repeat = c->key_count ? c->facts.repeat : REPEAT_NEVER,
				   .control = &c->control,
				   .upstream_is_down = !targets_any(x->infer, &x->targets) };
	if (k->repeat == REPEAT_NEVER || k->mode == INFER_OFF)
		return;
	for (unsigned i = 0; r < 0 && i < c->key_count; i++)
		r = record_find(x->infer, &c->keys[i], wanted_form(c), &x->kept);
	if (r < 0)
		return;
	k->is_held = true;
	k->is_closed = !call_may_be_given(x->infer, c, x->q);
	k->is_sample = x->kept->record.repeat == REPEAT_SAMPLE;
	k->is_seeded = x->kept->record.repeat == REPEAT_SEEDED;
	k->is_outdated = is_outdated(x);
	k->lacks_usage = c->facts.wants_stream && c->facts.wants_usage &&
			 x->kept->record.form == FORM_STREAM && !x->kept->record.has_usage;
	k->age_s = clock_wall_s(x->infer->opts.clock) - x->kept->record.made_at;
}

static bool is_to_be_given(const struct run *x)
{
	enum infer_verdict verdict = infer_decide(&x->known);

	return verdict == INFER_GIVE || verdict == INFER_GIVE_STALE;
}

bool run_would_give(struct run *x)
{
	look_up(x);
	return is_to_be_given(x);
}

static void run_begin(struct run *x)
{
	struct call *c = x->call;

	x->rules.mode = infer_mode_of(x->infer, c->model, buf_str(&c->repo), buf_str(&c->path.target));
	x->targets = (struct targets_call){ .q = x->q,
					    .path = &c->path,
					    .facts = &c->facts,
					    .control = &c->control,
					    .rules = &x->rules,
					    .model = c->model,
					    .task = c->task,
					    .body = c->body,
					    .call = c };
	if (!x->q->log_repo && c->model.len)
		x->q->log_repo = str_dup(c->model);
}

/* --- the answer --- */

static const char *miss_words(const struct run *x, int status, char ret[96])
{
	const char *why = x->call->control.no_lookup        ? "request"
			  : x->known.repeat == REPEAT_NEVER ? "bypass"
			  : x->call->had_old                ? "stale"
							    : "uri-miss";
	bool is_stored = status == 200 && infer_may_keep(&x->known);

	(void)snprintf(ret, 96, "fwd=%s; fwd-status=%d%s%s", why, status, is_stored ? "; stored" : "",
		       x->q->collapsed ? "; collapsed" : "");
	return ret;
}

static void copy_service_fields(const struct headers *from, struct headers *to)
{
	static const char *const names[] = { "Inference-Id" };
	struct str id = headers_get(from, STR("X-Request-Id"));

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str value = headers_get(from, str_from(names[i]));

		if (value.ptr)
			(void)headers_set(to, str_from(names[i]), value);
	}
	if (id.len)
		(void)headers_set(to, STR("X-Original-Request-Id"), id);
}

/* Some clients ask again at once, for ever, when they hear 503; others wait for as long as they are told. */
static int told_status(const struct request *q, int status, struct reply *r)
{
	struct str agent = request_header(q, STR("User-Agent"));

	if (status != 503)
		return status;
	if (agent.len && memmem(agent.ptr, agent.len, "@huggingface/inference", 22))
		return 504;
	if (!headers_get(&r->headers, STR("Retry-After")).ptr)
		(void)headers_set(&r->headers, STR("Retry-After"), STR("10"));
	return 503;
}

static bool is_event_stream(const struct headers *fields)
{
	return str_starts_with(headers_get(fields, STR("Content-Type")), STR("text/event-stream"));
}

/* Of the reply to a call that was made: what goes with it. */
static void set_fields(struct run *x, const struct answer_head *head, struct reply *r)
{
	bool is_bypass = x->known.repeat == REPEAT_NEVER;
	char words[96];

	copy_service_fields(head->fields, &r->headers);
	if (is_event_stream(head->fields)) {
		(void)headers_set(&r->headers, STR("Cache-Control"), STR("no-cache"));
		(void)headers_set(&r->headers, STR("X-Accel-Buffering"), STR("no"));
	} else {
		(void)headers_set(&r->headers, STR("Cache-Control"),
				  head->status == 200 ? STR("private, no-cache") : STR("no-store"));
	}
	(void)headers_set(&r->headers, STR("X-Inference-Backend"), str_from(targets_name(x->q)));
	(void)headers_set(&r->headers, STR("X-Cache"), is_bypass ? STR("BYPASS") : STR("MISS"));
	if (request_header(x->q, STR("Origin")).ptr)
		expose_fields(r);
	r->status = told_status(x->q, head->status, r);
	set_cache_status(r, miss_words(x, head->status, words), x->call, head->fields);
	x->q->result = is_bypass ? RESULT_BYPASS : RESULT_MISS;
}

static int answer(struct run *x, struct reply *r)
{
	struct answer_head head;
	int error = run_ask(x, &head);

	if (error < 0)
		return error;
	if (strcmp(targets_name(x->q), "upstream") == 0)
		auth_heard(x->infer->opts.auth, &x->q->subject, head.status, head.fields);
	reply_ear(r, x->q, head.status, head.fields, head.length);
	set_fields(x, &head, r);
	return 0;
}

/* --- the handler --- */

static int give(struct run *x, bool is_stale, struct reply *r)
{
	int error = record_give(x->infer, x->q, x->call, x->kept, is_stale, r);

	if (error < 0) /* it is no use to this client */
		x->known.is_held = false;
	return error;
}

static bool is_unheard(int error)
{
	return error == -EHOSTUNREACH || error == -ETIMEDOUT || error == -ECONNRESET || error == -ENODATA ||
	       error == -ECANCELED || policy_is_own_limit(error);
}

static int fail(struct run *x, int error, struct reply *r)
{
	const struct call *c = x->call;

	/* an old answer is better than none, also for who has just heard that nobody is there */
	if (x->known.is_held && is_unheard(error) && !c->control.no_lookup && !x->known.is_closed &&
	    give(x, true, r) == 0)
		return 0;
	x->q->busy_ms = error == -EBUSY ? fetch_busy_ms(x->infer->opts.fetch, FETCH_INFERENCE,
							buf_str(&c->path.target), x->q->subject.token)
					: 0;
	trouble(r, x->q, &c->path, c->model, error);
	return 0;
}

/* Nobody is asked: since nobody can be at all, or just now. */
static int why_nobody(const struct run *x)
{
	bool could_be = backends_count(x->infer->opts.backends) ||
			fetch_has_origin(x->infer->opts.fetch, FETCH_INFERENCE);

	return could_be || x->call->control.only_if_cached || x->targets.rules->mode == INFER_OFFLINE
		       ? -ENODATA
		       : -EDESTADDRREQ;
}

/* Returns 0 with a reply; -EAGAIN parked; -EALREADY: from the top. */
static int run_once(struct run *x, struct reply *r)
{
	enum infer_verdict verdict;
	int error;

	look_up(x);
	verdict = x->q->ear || x->call->nap || x->q->trail ? INFER_ASK : infer_decide(&x->known);
	if ((verdict == INFER_GIVE || verdict == INFER_GIVE_STALE) &&
	    give(x, verdict == INFER_GIVE_STALE, r) == 0)
		return 0;
	if (verdict == INFER_REFUSE || x->call->control.only_if_cached ||
	    (verdict != INFER_ASK && x->known.upstream_is_down))
		return fail(x, why_nobody(x), r);
	error = answer(x, r);
	return error == 0 || error == -EAGAIN || error == -EALREADY ? error : fail(x, error, r);
}

static int run(struct run *x, struct reply *r)
{
	int error;

	do
		error = run_once(x, r);
	while (error == -EALREADY); /* the answer was kept in the meantime: it is believed once */
	return error;
}

/* Whom the log names: who answered. */
static const char *answered_by(const struct request *q)
{
	if (q->result == RESULT_HIT || q->result == RESULT_STALE_HIT)
		return "cache";
	return q->result == RESULT_OFFLINE_MISS ? "none" : targets_name(q);
}

static void count(struct run *x, int status)
{
	struct request *q = x->q;
	const struct call *c = x->call;
	bool is_kept = q->result == RESULT_HIT || q->result == RESULT_STALE_HIT;
	unsigned provider =
		call_provider(c, is_kept && x->kept ? x->kept->record.served_by : targets_name(q));
	struct metrics *m = x->infer->opts.metrics;

	q->log_dialect = dialect_name(c->path.dialect);
	q->log_by = answered_by(q);
	metrics_add4(m, METRIC_INFER_REQUESTS, provider, c->path.dialect, metric_code(status), q->result, 1);
	metrics_observe_us(m, METRIC_INFER_FIRST_BYTE, provider, q->result,
			   clock_mono_us(x->infer->opts.clock) - q->began_mono_us);
}

int infer_call(struct infer *i, struct request *q, struct reply *r)
{
	struct run x = { .infer = i, .q = q, .rules = infer_rules_of(i), .call = call_of(i, q) };
	int error = x.call->error;

	if (error == -ENOENT)
		trouble_text(r, &x.call->path, 404, "not_found", STR("this is no path of the inference API"));
	else if (error == -EDOM)
		trouble_text(r, &x.call->path, 400, "bad_request",
			     STR("X-HF-Cache-Namespace is a name of 1 to 128 visible ASCII characters"));
	else if (error < 0)
		trouble_text(r, &x.call->path, 400, "bad_request",
			     STR("the request's body could not be read"));
	else if (!q->has_valid_subject)
		trouble_text(r, &x.call->path, 401, "unauthorized",
			     STR("malformed Authorization field: one Bearer or Basic token is expected"));
	if (error < 0 || !q->has_valid_subject)
		return 0;
	run_begin(&x);
	error = run(&x, r);
	if (error != -EAGAIN)
		count(&x, r->status);
	kept_unref(x.kept);
	return error == -EAGAIN ? -EAGAIN : 0;
}
