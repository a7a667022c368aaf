/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/call - what a body asks for, and whether its answer may be given again (inference-protocol 3.2).
 *
 * What is not known is not repeatable: an absent temperature is no zero, a task nobody has heard of may do anything.
 */
#include "dialect/priv.h"

#include <stdlib.h>

#include "common/banned.h"

const char *dialect_name(enum dialect d)
{
	static const char *const names[] = {
		[DIALECT_TASK] = "hf-task",
		[DIALECT_GENERATE] = "tgi-generate",
		[DIALECT_CHAT] = "oai-chat",
		[DIALECT_COMPLETIONS] = "oai-completions",
		[DIALECT_RESPONSES] = "oai-responses",
		[DIALECT_MESSAGES] = "anthropic-messages",
		[DIALECT_EMBEDDINGS] = "oai-embeddings",
		[DIALECT_AUDIO] = "oai-audio",
		[DIALECT_OTHER] = "provider-raw",
	};

	return names[d];
}

/* A number that is 0 however it is written. */
static bool is_zero(struct str raw)
{
	char copy[32], *end;

	if (raw.len == 0 || raw.len >= sizeof(copy))
		return false;
	memcpy(copy, raw.ptr, raw.len);
	copy[raw.len] = '\0';
	return strtod(copy, &end) == 0 && *end == '\0';
}

static bool is_true(struct str raw)
{
	return str_eq(raw, STR("true"));
}

static bool is_false(struct str raw)
{
	return str_eq(raw, STR("false"));
}

static bool is_member_of(struct str word, const char *const *list)
{
	for (; *list; list++)
		if (str_eq(word, str_from(*list)))
			return true;
	return false;
}

/* An image, sound or video by its address: what is there may change. Chat puts them into parts of messages. */
static bool holds_remote_media(struct str body)
{
	static const char *const marks[] = { "\"url\"", "\"image_url\"", "\"audio_url\"", "\"video_url\"",
					     "\"file_url\"" };

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		const char *at = memmem(body.ptr, body.len, marks[i], strlen(marks[i]));

		if (at && memmem(at, (size_t)(body.ptr + body.len - at), "http", 4))
			return true;
	}
	return false;
}

static enum repeat of_sampling(struct str at, struct str temperature, bool default_is_greedy)
{
	if (!raw_is_null(raw_get(at, "seed")))
		return is_zero(temperature) ? REPEAT_YES : REPEAT_SEEDED;
	if (is_zero(temperature))
		return REPEAT_YES;
	return raw_is_null(temperature) && default_is_greedy ? REPEAT_YES : REPEAT_SAMPLE;
}

/* parameters of text generation: greedy is the servers' default. */
static enum repeat of_generation(struct str parameters)
{
	uint64_t best_of = raw_u64(raw_get(parameters, "best_of"), 1);

	if (is_false(raw_get(parameters, "do_sample")) && best_of <= 1)
		return REPEAT_YES;
	if (is_true(raw_get(parameters, "do_sample")) || best_of > 1)
		return raw_is_null(raw_get(parameters, "seed")) ? REPEAT_SAMPLE : REPEAT_SEEDED;
	return of_sampling(parameters, raw_get(parameters, "temperature"), true);
}

static enum repeat of_task(struct str task, struct str body)
{
	static const char *const fixed[] = { "text-classification",
					     "token-classification",
					     "zero-shot-classification",
					     "fill-mask",
					     "question-answering",
					     "table-question-answering",
					     "sentence-similarity",
					     "feature-extraction",
					     "text-ranking",
					     "tabular-classification",
					     "tabular-regression",
					     "image-classification",
					     "audio-classification",
					     "object-detection",
					     "image-segmentation",
					     "automatic-speech-recognition",
					     "image-to-text",
					     "zero-shot-image-classification",
					     "visual-question-answering",
					     "document-question-answering",
					     "depth-estimation",
					     "image-feature-extraction",
					     "mask-generation",
					     NULL };
	static const char *const texts[] = { "summarization",        "translation",    "text-generation",
					     "text2text-generation", "conversational", NULL };
	static const char *const made[] = { "text-to-image",  "image-to-image",
					    "text-to-speech", "text-to-audio",
					    "text-to-video",  "audio-to-audio",
					    "image-to-video", NULL };
	struct str parameters = body.len ? raw_get(body, "parameters") : (struct str){ 0 }, nested;

	if (parameters.len && parameters.ptr[0] != '{')
		parameters = (struct str){ 0 };
	nested = parameters.len ? raw_get(parameters, "generate_parameters") : (struct str){ 0 };
	if (is_member_of(task, fixed))
		return REPEAT_YES;
	if (is_member_of(task, texts))
		return of_generation(nested.len && nested.ptr[0] == '{' ? nested : parameters);
	if (is_member_of(task, made))
		return parameters.len && !raw_is_null(raw_get(parameters, "seed")) ? REPEAT_SEEDED
										   : REPEAT_SAMPLE;
	/* not known: a pipeline is repeatable unless it samples, and samplers take these */
	if (parameters.len)
		return of_generation(parameters);
	return REPEAT_YES;
}

static bool has_server_tools(struct str body)
{
	struct str tools = raw_get(body, "tools"), rest, tool;

	if (!tools.len || tools.ptr[0] != '[')
		return false;
	rest = (struct str){ tools.ptr + 1, tools.len - 1 };
	while (json_next_element(&rest, &tool) == 1) {
		struct str type = tool.ptr[0] == '{' ? raw_inside(raw_get(tool, "type")) : STR("");

		if (type.len && !str_eq(type, STR("function")) && !str_eq(type, STR("custom")))
			return true;
	}
	return false;
}

static enum repeat of_responses(struct str body)
{
	if (!is_false(raw_get(body, "store")) || !raw_is_null(raw_get(body, "previous_response_id")) ||
	    !raw_is_null(raw_get(body, "conversation")) || has_server_tools(body))
		return REPEAT_NEVER;
	return of_sampling(body, raw_get(body, "temperature"), false);
}

static enum repeat repeat_of(enum dialect d, struct str task, struct str body)
{
	enum repeat r;

	switch (d) {
	case DIALECT_TASK:
		r = of_task(task, body);
		break;
	case DIALECT_GENERATE:
		r = of_generation(body.len && raw_get(body, "parameters").len ? raw_get(body, "parameters")
									      : body);
		break;
	case DIALECT_EMBEDDINGS:
		return REPEAT_YES;
	case DIALECT_RESPONSES:
		r = body.len ? of_responses(body) : REPEAT_NEVER;
		break;
	case DIALECT_MESSAGES:
		r = !body.len || has_server_tools(body)
			    ? REPEAT_NEVER
			    : of_sampling(body, raw_get(body, "temperature"), false);
		break;
	case DIALECT_CHAT:
	case DIALECT_COMPLETIONS:
		r = body.len ? of_sampling(body, raw_get(body, "temperature"), false) : REPEAT_NEVER;
		break;
	default:
		return REPEAT_NEVER;
	}
	if (r < REPEAT_SAMPLE && body.len && holds_remote_media(body))
		return REPEAT_SAMPLE;
	return r;
}

static void read_object(enum dialect d, struct str body, struct call_facts *f)
{
	struct str options = raw_get(body, "options"), stream = raw_get(body, "stream_options");
	SCOPED_BUF model;

	f->is_json = true;
	f->wants_stream = is_true(raw_get(body, "stream"));
	if (stream.len && stream.ptr[0] == '{')
		f->wants_usage = is_true(raw_get(stream, "include_usage"));
	if (options.len && options.ptr[0] == '{') {
		f->refuses_cache = is_false(raw_get(options, "use_cache"));
		f->waits = is_true(raw_get(options, "wait_for_model"));
	}
	f->wants_base64 = d == DIALECT_EMBEDDINGS &&
			  str_eq(raw_inside(raw_get(body, "encoding_format")), STR("base64"));
	buf_init(&model, 1024);
	if (raw_is_string(raw_get(body, "model")) && json_unquote(raw_get(body, "model"), &model) == 0)
		f->model = str_dup(buf_str(&model));
}

void call_read(enum dialect d, struct str task, struct str body, struct call_facts *ret)
{
	struct str object = raw_trim(body);

	*ret = (struct call_facts){ 0 };
	if (!object.len || object.ptr[0] != '{' || !raw_is_json(object))
		object = (struct str){ 0 };
	else
		read_object(d, object, ret);
	ret->repeat = repeat_of(d, task, object);
}

void call_read_form(enum dialect d, struct str boundary, struct str body, struct call_facts *ret)
{
	struct str temperature = form_value(body, boundary, "temperature"),
		   model = form_value(body, boundary, "model");

	*ret = (struct call_facts){ .repeat = REPEAT_NEVER };
	ret->wants_stream = str_eq_nocase(form_value(body, boundary, "stream"), STR("true"));
	if (model.len)
		ret->model = str_dup(model);
	/* speech is heard greedily unless the client says otherwise */
	if (d == DIALECT_AUDIO)
		ret->repeat = !temperature.len || is_zero(temperature) ? REPEAT_YES : REPEAT_SAMPLE;
}

void call_facts_done(struct call_facts *f)
{
	free(f->model);
	f->model = NULL;
}
