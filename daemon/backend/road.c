/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend/road - which path of which server does what (inference-protocol 4.1, 4.3). A table.
 */
#include "backend/priv.h"

#include <errno.h>

#include "common/json.h"

#include "common/banned.h"

enum {
	HF = 1 << BACKEND_HF,
	TGI = 1 << BACKEND_TGI,
	TEI = 1 << BACKEND_TEI,
	VLLM = 1 << BACKEND_VLLM,
	LLAMACPP = 1 << BACKEND_LLAMACPP,
	OLLAMA = 1 << BACKEND_OLLAMA,
	OPENAI = 1 << BACKEND_OPENAI,
	V1 = VLLM | LLAMACPP | OLLAMA | OPENAI
};

/* What both sides speak. */
static const struct {
	enum dialect dialect;
	unsigned kinds;
	const char *path;
} same[] = {
	{ DIALECT_CHAT, V1 | TGI | HF, "/v1/chat/completions" },
	{ DIALECT_COMPLETIONS, V1 | TGI | HF, "/v1/completions" },
	{ DIALECT_RESPONSES, V1, "/v1/responses" },
	{ DIALECT_MESSAGES, VLLM | LLAMACPP, "/v1/messages" },
	{ DIALECT_EMBEDDINGS, V1 | TEI, "/v1/embeddings" },
	{ DIALECT_AUDIO, VLLM | OLLAMA | OPENAI, "/v1/audio/transcriptions" },
};

static const struct {
	const char *task;
	unsigned kinds;
	enum adapt how;
	const char *path;
} tasks[] = {
	{ "text-classification", TEI, ADAPT_PREDICT, "/predict" },
	{ "text-classification", VLLM, ADAPT_CLASSIFY, "/classify" },
	{ "feature-extraction", TEI, ADAPT_EMBED, "/embed" },
	{ "feature-extraction", V1, ADAPT_EMBEDDINGS, "/v1/embeddings" },
	{ "sentence-similarity", TEI, ADAPT_SIMILARITY, "/similarity" },
	{ "sentence-similarity", V1, ADAPT_COSINE, "/v1/embeddings" },
	{ "text-ranking", TEI, ADAPT_RERANK, "/rerank" },
	{ "text-ranking", VLLM | LLAMACPP, ADAPT_RANK, "/v1/rerank" },
	{ "text-generation", TGI, ADAPT_TGI, "/" },
	{ "text-generation", V1, ADAPT_COMPLETE, "/v1/completions" },
	{ "automatic-speech-recognition", VLLM | OLLAMA | OPENAI, ADAPT_TRANSCRIBE,
	  "/v1/audio/transcriptions" },
};

static bool has(struct str object, const char *name)
{
	struct str raw;

	return object.len && object.ptr[0] == '{' && json_find_member(object, name, &raw) == 0;
}

/* The URL of a model alone does not tell the task: what the body looks like, and what the server does, must. */
static struct str guess(struct backends *b, unsigned i, const struct call_facts *facts, struct str body,
			char ret_task[40])
{
	struct str inputs = { 0 };

	if (!facts->is_json)
		return STR("automatic-speech-recognition");
	(void)json_find_member(body, "inputs", &inputs);
	if (has(inputs, "source_sentence") || has(body, "source_sentence"))
		return STR("sentence-similarity");
	if (has(inputs, "query") || has(body, "query"))
		return STR("text-ranking");
	if (b->ones[i].kind != BACKEND_TEI)
		return STR("text-generation");
	lock_take(&b->lock);
	memcpy(ret_task, b->ones[i].served.task, sizeof(b->ones[i].served.task));
	lock_drop(&b->lock);
	return ret_task[0] ? str_from(ret_task) : STR("feature-extraction");
}

static int task_road(struct backends *b, unsigned i, struct str task, const struct call_facts *facts,
		     struct str body, struct backend_road *ret)
{
	unsigned kind = 1u << b->ones[i].kind;
	char guessed[40];

	if (kind == HF) {
		*ret = (struct backend_road){ ADAPT_RENAME, "" };
		return 0;
	}
	if (!task.len)
		task = guess(b, i, facts, body, guessed);
	if (str_eq(task, STR("rerank")))
		task = STR("text-ranking");
	for (size_t k = 0; k < sizeof(tasks) / sizeof(tasks[0]); k++)
		if ((tasks[k].kinds & kind) && str_eq(task, str_from(tasks[k].task))) {
			*ret = (struct backend_road){ tasks[k].how, tasks[k].path };
			return 0;
		}
	return -ENOTSUP;
}

int backend_road(struct backends *b, unsigned i, enum dialect d, struct str task,
		 const struct call_facts *facts, struct str body, struct backend_road *ret)
{
	unsigned kind = 1u << b->ones[i].kind;

	if (d == DIALECT_TASK)
		return task_road(b, i, task, facts, body, ret);
	if (d == DIALECT_GENERATE && kind == TGI) {
		*ret = (struct backend_road){ ADAPT_TGI,
					      facts->wants_stream ? "/generate_stream" : "/generate" };
		return 0;
	}
	for (size_t k = 0; k < sizeof(same) / sizeof(same[0]); k++)
		if (same[k].dialect == d && (same[k].kinds & kind)) {
			*ret = (struct backend_road){ ADAPT_RENAME, same[k].path };
			return 0;
		}
	return -ENOTSUP;
}
