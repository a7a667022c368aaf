/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/mapping - which provider serves a model (inference-protocol 1.1, 1.3): clients ask the Hub before they make a call. When it
 * cannot be asked and has not been, a model that is served here is one of hf-inference: the simplest of the contracts.
 */
#include "infer/priv.h"

#include "common/alloc.h"

void page_identity(struct infer *i, const struct request *q, uint8_t ret[SUBJECT_BYTES])
{
	(void)identity_of(i, q, ret);
}

struct wanted {
	struct str model;
	struct buf *task;
	bool is_found;
};

static bool compare(void *ctx, struct str model, struct str task, struct str owner)
{
	struct wanted *w = ctx;

	if (!str_eq(model, w->model))
		return true;
	w->is_found = true;
	buf_append_str(w->task, task);
	return false;
}

bool backend_has(struct infer *i, struct str model, struct buf *task)
{
	struct wanted w = { .model = model, .task = task };

	targets_each_model(i, compare, &w);
	return w.is_found || targets_serve(i, model, task);
}

bool model_is_local(struct infer *i, const uint8_t identity[SUBJECT_BYTES], struct str model,
		    struct buf *task)
{
	struct str own = { (const char *)identity, SUBJECT_BYTES };

	if (backend_has(i, model, task))
		return true;
	return known_task(i, STR(""), model, task) == 0 || known_task(i, own, model, task) == 0;
}

/* "expand=inferenceProviderMapping", in all its spellings, and nothing else. */
static bool asks_mapping(struct str query)
{
	static const char *const names[] = { "expand", "expand[]", "expand%5B%5D", "expand%5b%5d" };
	struct str name, value;

	if (!str_cut(query, '=', &name, &value) || !str_eq(value, STR("inferenceProviderMapping")))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq(name, str_from(names[i])))
			return true;
	return false;
}

static void put_mapping(struct str id, struct str task, struct buf *out)
{
	buf_appendf(out,
		    "{\"_id\":\"\",\"id\":%.*s,\"inferenceProviderMapping\":[{\"provider\":\"hf-inference\","
		    "\"providerId\":%.*s,\"hfModelId\":%.*s,\"status\":\"live\",\"task\":\"%.*s\"}]}",
		    STR_ARGS(id), STR_ARGS(id), STR_ARGS(id), STR_ARGS(task));
}

/* Clients that were sent to hf-inference then look whether the model is one of the task. */
static void put_info(struct str id, struct str task, struct buf *out)
{
	if (str_eq(task, STR("conversational")))
		task = STR("text-generation");
	buf_appendf(
		out,
		"{\"_id\":\"\",\"id\":%.*s,\"modelId\":%.*s,\"pipeline_tag\":\"%.*s\",\"tags\":[\"%.*s\"%s]}",
		STR_ARGS(id), STR_ARGS(id), STR_ARGS(task), STR_ARGS(task),
		str_eq(task, STR("text-generation")) ? ",\"conversational\"" : "");
}

/* A Hub that does not know the model has an opinion all the same: only a server of one's own stands against it. */
static bool is_known_here(struct infer *i, const struct request *q, struct str model, int status,
			  struct buf *task)
{
	uint8_t identity[SUBJECT_BYTES];

	if (status == 401 || status == 404)
		return backend_has(i, model, task);
	page_identity(i, q, identity);
	return status >= 500 && model_is_local(i, identity, model, task);
}

bool infer_mapping(struct infer *i, struct request *q, struct str model, struct reply *r)
{
	bool is_mapping = asks_mapping(q->query);
	SCOPED_BUF id;
	SCOPED_BUF task;
	SCOPED_BUF out;

	buf_init(&id, 1024);
	buf_init(&task, 128);
	buf_init(&out, 8192);
	if ((!is_mapping && q->query.len) || !is_known_here(i, q, model, r->status, &task))
		return false;
	(void)json_write_string(&id, model);
	if (!task.len)
		buf_append_str(&task, STR("text-classification"));
	if (is_mapping)
		put_mapping(buf_str(&id), buf_str(&task), &out);
	else
		put_info(buf_str(&id), buf_str(&task), &out);
	if (buf_error(&out))
		return false;
	reply_done(r);
	reply_init(r);
	reply_text(r, 200, "application/json; charset=utf-8", buf_str(&out));
	(void)headers_set(&r->headers, STR("Cache-Control"), STR("private, no-store"));
	(void)headers_set(&r->headers, STR("X-HF-Warning"),
			  STR("hfcached; the Hub does not tell of this model, and it is served here"));
	set_cache_status(r, "hit; detail=local", NULL, NULL);
	q->result = RESULT_HIT;
	return true;
}
