/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/serve - one inference call: read, look up, ask, answer.
 *
 * Like every handler it runs again from its top after each wait; what it then knows is in the index, what it waits for in the
 * request's ear or its nap, and what it has worked out in the request's memo (call.c).
 */
#include "infer/priv.h"

#include <errno.h>
#include <stdio.h>
#include "common/alloc.h"

/* How long a client that says so waits for a model that is loading, whatever the rules say for others. */
#define WAIT_ASKED_MS ((uint64_t)300 * 1000)
#define NAP_MIN_MS ((uint64_t)200)
#define NAP_MAX_MS ((uint64_t)20 * 1000)

/* One run of the handler. */
struct run {
	struct infer *infer;
	struct request *q;
	struct infer_rules rules;
	struct call *call;
	struct targets_call targets;
	struct infer_facts known;
	struct kept *kept; /* the record, or NULL */
};

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

static void run_begin(struct run *x)
{
	struct call *c = x->call;

	x->targets = (struct targets_call){ .q = x->q,
					    .path = &c->path,
					    .facts = &c->facts,
					    .control = &c->control,
					    .rules = &x->rules,
					    .model = c->model,
					    .task = c->task,
					    .body = c->body };
	if (!x->q->log_repo && c->model.len)
		x->q->log_repo = str_dup(c->model);
}

/* --- asking --- */

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

/* Finds somebody who answers. Returns 0 with q->ear; -EAGAIN parked; else why there is nobody. */
static int find_ear(struct run *x, struct str key)
{
	struct request *q = x->q;
	bool may_keep = infer_may_keep(&x->known);
	struct target target;
	int r;

	do {
		struct cast_query query = { .answer_max = may_keep ? x->rules.answer_max : 0,
					    .finish_alone = may_keep && x->rules.finish_alone,
					    .filter = keeping_filter,
					    .ended = may_keep ? keeping_ended : NULL,
					    .free_ctx = keeping_free };

		r = targets_next(x->infer, &x->targets, key, &target);
		if (r != 0)
			break;
		query.ctx = keeping_new(x->infer, x->call, target.name);
		r = target_ask(x->infer, &x->targets, &target, key, &query);
	} while (r == 1);
	if (r < 0)
		return r;
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

struct head {
	int status;
	const struct headers *fields;
	int64_t length;
};

/* Returns 0 with the head of the answer; -EAGAIN parked; else why there is none. */
static int ask(struct run *x, struct head *ret)
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
		*ret = (struct head){ .length = -1 };
		while ((r = ear_head(q->ear, &ret->status, &ret->fields, &ret->length)) == -EAGAIN)
			if (request_park_ear(q) == -EAGAIN)
				return -EAGAIN;
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

/* --- the answer --- */

static const char *miss_words(const struct run *x, int status, char ret[96])
{
	const char *why = x->call->control.no_lookup        ? "request"
			  : x->known.repeat == REPEAT_NEVER ? "bypass"
			  : x->known.is_held                ? "stale"
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
static void set_fields(struct run *x, const struct head *head, struct reply *r)
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
	set_cache_status(r, miss_words(x, head->status, words), x->call);
	x->q->result = is_bypass ? RESULT_BYPASS : RESULT_MISS;
}

static int answer(struct run *x, struct reply *r)
{
	struct head head;
	int error = ask(x, &head);

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
	       error == -ECANCELED;
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

static int run(struct run *x, struct reply *r)
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
		return fail(x, -ENODATA, r);
	error = answer(x, r);
	return error == 0 || error == -EAGAIN ? error : fail(x, error, r);
}

static void count(struct infer *i, struct request *q, const struct call *c)
{
	static const char *const words[] = { "upstream", "backend", "cache", "none" };
	unsigned by = q->result == RESULT_HIT || q->result == RESULT_STALE_HIT ? 2
		      : q->result == RESULT_OFFLINE_MISS                       ? 3
		      : strcmp(targets_name(q), "upstream") == 0               ? 0
									       : 1;

	q->log_dialect = dialect_name(c->path.dialect);
	q->log_by = by == 1 ? targets_name(q) : words[by];
	metrics_add(i->opts.metrics, METRIC_INFER_REQUESTS, by, c->path.dialect, q->result, 1);
	metrics_observe_us(i->opts.metrics, METRIC_INFER_FIRST_BYTE, by, q->result,
			   clock_mono_us(i->opts.clock) - q->began_mono_us);
}

int infer_call(struct infer *i, struct request *q, struct reply *r)
{
	struct run x = { .infer = i, .q = q, .rules = infer_rules_of(i), .call = call_of(i, q) };
	int error = x.call->error;

	if (error == -ENOENT)
		trouble_text(r, &x.call->path, 404, "not_found", STR("this is no path of the inference API"));
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
	kept_unref(x.kept);
	if (error != -EAGAIN)
		count(i, q, x.call);
	return error == -EAGAIN ? -EAGAIN : 0;
}
