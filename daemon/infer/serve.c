/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/serve - one inference call: read, look up, ask, answer.
 *
 * Like every handler it runs again from its top after each wait; what it then knows is in the index, and what it waits for in
 * the request's ear.
 */
#include "infer/priv.h"

#include <errno.h>
#include "common/alloc.h"

/* Heads may take their time: a model is loaded, a long text is generated. */
#define HEAD_TASK_MS 60000
#define HEAD_TEXT_MS 300000
#define STALL_MS 60000

/* One run of the handler. */
struct run {
	struct infer *infer;
	struct request *q;
	struct infer_rules rules;
	struct infer_path path;
	struct str body;
	struct call_facts facts;
	struct infer_control control;
	struct infer_facts known;
	struct digest key;
	struct str model;
	struct record record;
	struct blob *blob; /* of the record, or NULL */
	size_t line;
};

static void run_done(struct run *x)
{
	path_done(&x->path);
	call_facts_done(&x->facts);
	record_done(&x->record);
	blob_unref(x->blob);
}

/* Without parameters, lower case; "json" for what is read as JSON. */
static void media_of(const struct run *x, char ret_media[64])
{
	struct str type = request_header(x->q, STR("Content-Type")), rest;
	size_t i;

	(void)str_cut(type, ';', &type, &rest);
	type = str_trim(type);
	if (x->facts.is_json)
		type = STR("json");
	if (!type.len || str_eq_nocase(type, STR("application/octet-stream")))
		type = STR("bytes");
	for (i = 0; i < type.len && i < 63; i++)
		ret_media[i] =
			type.ptr[i] >= 'A' && type.ptr[i] <= 'Z' ? (char)(type.ptr[i] | 0x20) : type.ptr[i];
	ret_media[i] = '\0';
}

/* Proven public and open to all, and the rules share such answers: then everybody's. Else the subject's own. */
static struct str partition_of(const struct run *x)
{
	struct access_facts access = { 0 };
	SCOPED_BUF repo;

	buf_init(&repo, 512);
	if (x->rules.is_shared && x->model.len) {
		buf_appendf(&repo, "models/%.*s", STR_ARGS(x->model));
		index_find_access(x->infer->opts.index, buf_str(&repo), x->q->subject.id, &access);
		if (access.public_level == ACCESS_FILES)
			return STR("");
	}
	return (struct str){ (const char *)x->q->subject.id, SUBJECT_BYTES };
}

static void make_key(struct run *x)
{
	char media[64];
	SCOPED_BUF variant;
	static const char *const fields[] = { "Prefer", "Anthropic-Version", "Anthropic-Beta",
					      "OpenAI-Beta" };

	media_of(x, media);
	buf_init(&variant, 4096);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct str value = request_header(x->q, str_from(fields[i]));

		buf_appendf(&variant, "%zu:%.*s\n", value.len, STR_ARGS(value));
	}
	call_key_of(&(struct call_key){ .dialect = x->path.dialect,
					.partition = partition_of(x),
					.route = buf_str(&x->path.route),
					.model = x->model,
					.media = str_from(media),
					.variant = buf_str(&variant) },
		    x->body, spool_sha256(x->q->spool), &x->key, NULL);
}

/* The commit that answered, against where the model's main branch stands now. */
static bool is_outdated(const struct run *x)
{
	char commit[COMMIT_TEXT];
	SCOPED_BUF repo;

	buf_init(&repo, 512);
	if (!x->record.sha || !x->model.len)
		return false;
	buf_appendf(&repo, "models/%.*s", STR_ARGS(x->model));
	return index_find_name(x->infer->opts.index, buf_str(&repo), STR("main"), commit, NULL) == 0 &&
	       !str_eq(str_from(commit), str_from(x->record.sha));
}

static void look_up(struct run *x)
{
	struct infer_facts *k = &x->known;

	*k = (struct infer_facts){ .mode = x->rules.mode,
				   .repeat = x->path.is_known ? x->facts.repeat : REPEAT_NEVER,
				   .control = &x->control,
				   .upstream_is_down =
					   fetch_origin_is_down(x->infer->opts.fetch, FETCH_INFERENCE) };
	if (k->repeat == REPEAT_NEVER || k->mode == INFER_OFF)
		return;
	if (record_find(x->infer, &x->key, &x->record, &x->blob, &x->line) < 0)
		return;
	k->is_held = true;
	k->is_sample = x->record.repeat == REPEAT_SAMPLE;
	k->is_outdated = is_outdated(x);
	k->age_s = clock_wall_s(x->infer->opts.clock) - x->record.made_at;
}

static int begin(struct run *x)
{
	struct infer_path p;
	int r = path_read(x->q, &p);

	x->path = p;
	if (r < 0)
		return r;
	r = x->q->spool ? spool_text(x->q->spool, &x->body) : -EINVAL;
	if (r < 0)
		return r;
	call_read(p.dialect, p.task, x->body, &x->facts);
	x->model = p.model.len ? p.model : str_from(x->facts.model ? x->facts.model : "");
	control_read(x->q, &x->facts, &x->control);
	make_key(x);
	return 0;
}

/* --- asking --- */

/* Who hears the same answer must want it in the same form. */
static void cast_key(const struct run *x, struct buf *out)
{
	buf_init(out, 128);
	if (!infer_may_share(&x->known))
		return;
	buf_append(out, x->key.bytes, SHA256_BYTES);
	buf_appendf(out, "%d%d%d", x->facts.wants_stream, x->facts.wants_usage, x->facts.wants_base64);
}

static int ask(struct run *x)
{
	struct request *q = x->q;
	struct headers fields;
	bool may_keep = infer_may_keep(&x->known);
	struct cast_query query = { .origin = FETCH_INFERENCE,
				    .method = q->method,
				    .target = buf_str(&x->path.target),
				    .fields = &fields,
				    .token = q->subject.token,
				    .body = q->spool,
				    .first_byte_timeout_ms =
					    x->path.dialect == DIALECT_TASK ? HEAD_TASK_MS : HEAD_TEXT_MS,
				    .stall_timeout_ms = STALL_MS,
				    .answer_max = may_keep ? x->rules.answer_max : 0,
				    .finish_alone = may_keep && x->rules.finish_alone,
				    .filter = keeping_filter,
				    .ended = may_keep ? keeping_ended : NULL,
				    .free_ctx = keeping_free };
	SCOPED_BUF key;
	int r;

	cast_key(x, &key);
	headers_init(&fields);
	request_forward_fields(q, &fields);
	query.ctx = keeping_new(x->infer, &x->key, x->path.dialect, x->known.repeat, x->model);
	r = cast_join(x->infer->opts.casts, buf_str(&key), &query, &q->ear);
	headers_done(&fields);
	if (r == 0) {
		q->used_upstream = true;
		q->collapsed = ear_has_joined(q->ear);
	}
	return r;
}

static const char *miss_words(const struct run *x)
{
	if (x->q->collapsed)
		return "fwd=uri-miss; collapsed";
	if (x->control.no_lookup)
		return "fwd=request";
	return infer_may_keep(&x->known) ? "fwd=uri-miss; stored" : "fwd=bypass";
}

static void copy_service_fields(const struct headers *from, struct headers *to)
{
	static const char *const names[] = {
		"X-Compute-Type",  "X-Compute-Time",     "X-Compute-Characters", "X-Sha",
		"X-Prompt-Tokens", "X-Generated-Tokens", "X-Total-Time",         "X-Validation-Time",
		"X-Queue-Time",    "X-Inference-Time",   "X-Time-Per-Token",     "X-Accel-Buffering",
		"Inference-Id",    "Retry-After-Ms",     "X-Should-Retry"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str value = headers_get(from, str_from(names[i]));

		if (value.ptr)
			(void)headers_set(to, str_from(names[i]), value);
	}
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

static int answer(struct run *x, struct reply *r)
{
	const struct headers *fields;
	int64_t length;
	int status, error;

	while ((error = ear_head(x->q->ear, &status, &fields, &length)) == -EAGAIN)
		if (request_park_ear(x->q) == -EAGAIN)
			return -EAGAIN;
	if (error < 0)
		return error;
	reply_ear(r, x->q, status, fields, length);
	copy_service_fields(fields, &r->headers);
	(void)headers_set(&r->headers, STR("X-Inference-Backend"), STR("upstream"));
	(void)headers_set(&r->headers, STR("X-Cache"),
			  x->known.repeat == REPEAT_NEVER ? STR("BYPASS") : STR("MISS"));
	r->status = told_status(x->q, status, r);
	r->cache_status = miss_words(x);
	x->q->result = x->known.repeat == REPEAT_NEVER ? RESULT_BYPASS : RESULT_MISS;
	return 0;
}

/* --- the handler --- */

static int give(struct run *x, bool is_stale, struct reply *r)
{
	int error =
		record_give(x->infer, x->q, &x->record, TAKE_PTR(x->blob), x->line, &x->facts, is_stale, r);

	x->known.is_held = false;
	return error;
}

static int fail(struct run *x, int error, struct reply *r)
{
	/* an old answer is better than none, also for who has just heard that nobody is there */
	if (x->blob && (error == -EHOSTUNREACH || error == -ETIMEDOUT || error == -ECONNRESET) &&
	    !x->control.no_lookup && give(x, true, r) == 0)
		return 0;
	x->q->busy_ms = error == -EBUSY ? fetch_busy_ms(x->infer->opts.fetch, FETCH_INFERENCE,
							buf_str(&x->path.target), x->q->subject.token)
					: 0;
	trouble(r, x->q, &x->path, x->model, error);
	return 0;
}

static int run(struct run *x, struct reply *r)
{
	enum infer_verdict verdict;
	int error = 0;

	look_up(x);
	verdict = x->q->ear ? INFER_ASK : infer_decide(&x->known);
	if ((verdict == INFER_GIVE || verdict == INFER_GIVE_STALE) &&
	    give(x, verdict == INFER_GIVE_STALE, r) == 0)
		return 0;
	if (verdict == INFER_REFUSE || (verdict != INFER_ASK && x->known.upstream_is_down))
		return fail(x, -ENODATA, r);
	if (!x->q->ear)
		error = ask(x);
	if (error == 0)
		error = answer(x, r);
	return error == 0 || error == -EAGAIN ? error : fail(x, error, r);
}

int infer_call(struct infer *i, struct request *q, struct reply *r)
{
	struct run x = { .infer = i, .q = q, .rules = infer_rules_of(i) };
	int error = begin(&x);

	if (!q->log_repo && x.model.len)
		q->log_repo = str_dup(x.model);
	if (error == -ENOENT)
		trouble_text(r, &x.path, 404, "not_found", STR("this is no path of the inference API"));
	else if (error < 0)
		trouble_text(r, &x.path, 400, "bad_request", STR("the request's body could not be read"));
	else if (!q->has_valid_subject)
		trouble_text(r, &x.path, 401, "unauthorized",
			     STR("malformed Authorization field: one Bearer or Basic token is expected"));
	else
		error = run(&x, r);
	run_done(&x);
	return error == -EAGAIN ? -EAGAIN : 0;
}
