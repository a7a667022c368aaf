/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/stream - is an answer whole, and is it one at all? A status of 200 says neither (inference-protocol 0.3 rules 4, 6).
 */
#include "dialect/priv.h"

#include <errno.h>

#include "common/banned.h"

static bool is_type(struct str data, const struct sse_event *e, const char *type)
{
	return str_eq(e->name, str_from(type)) || str_eq(raw_inside(raw_get(data, "type")), str_from(type));
}

static void watch_choices(struct stream_watch *w, struct str data)
{
	struct str choices = raw_get(data, "choices"), rest, choice;

	if (!choices.len || choices.ptr[0] != '[')
		return;
	rest = (struct str){ choices.ptr + 1, choices.len - 1 };
	while (json_next_element(&rest, &choice) == 1) {
		struct str reason = raw_get(choice, "finish_reason");
		uint64_t index = raw_u64(raw_get(choice, "index"), 0);

		if (index >= w->choices)
			w->choices = index + 1;
		if (!raw_is_null(reason))
			w->finished_choices++;
		if (str_eq(raw_inside(reason), STR("error")))
			w->saw_error = true;
	}
}

static void watch_end(struct stream_watch *w, struct str data, const struct sse_event *e)
{
	switch (w->dialect) {
	case DIALECT_RESPONSES:
		w->saw_end |=
			is_type(data, e, "response.completed") || is_type(data, e, "response.incomplete");
		w->saw_error |= is_type(data, e, "response.failed");
		return;
	case DIALECT_MESSAGES:
		w->saw_end |= is_type(data, e, "message_stop");
		return;
	case DIALECT_AUDIO:
		w->saw_end |= is_type(data, e, "transcript.text.done");
		return;
	case DIALECT_TASK:
	case DIALECT_GENERATE:
		w->saw_end |= raw_is_string(raw_get(data, "generated_text"));
		return;
	default:
		watch_choices(w, data);
	}
}

static void take_usage(struct str usage, struct token_usage *ret)
{
	ret->tokens_in = raw_u64(raw_get(usage, "prompt_tokens"),
				 raw_u64(raw_get(usage, "input_tokens"), ret->tokens_in));
	ret->tokens_out = raw_u64(raw_get(usage, "completion_tokens"),
				  raw_u64(raw_get(usage, "output_tokens"), ret->tokens_out));
}

bool usage_read(struct str whole, struct token_usage *ret)
{
	static const char *const holders[] = { "response",
					       "message" }; /* of /v1/responses and /v1/messages */
	struct str text = raw_trim(whole), usage, holder;

	if (!text.len || text.ptr[0] != '{')
		return false;
	usage = raw_get(text, "usage");
	for (size_t i = 0; i < 2 && !usage.len; i++) {
		holder = raw_get(text, holders[i]);
		if (holder.len && holder.ptr[0] == '{')
			usage = raw_get(holder, "usage");
	}
	if (!usage.len || usage.ptr[0] != '{')
		return false;
	take_usage(usage, ret);
	return true;
}

/* The object that begins here, if its end is there too. It may be cut anywhere: it is checked before it is walked. */
static struct str whole_object(struct str text)
{
	unsigned depth = 0;
	bool is_inside = false;

	for (size_t i = 0; i < text.len; i++) {
		char ch = text.ptr[i];

		if (is_inside && ch == '\\')
			i++;
		else if (ch == '"')
			is_inside = !is_inside;
		else if (!is_inside && ch == '{')
			depth++;
		else if (!is_inside && ch == '}' && --depth == 0)
			return (struct str){ text.ptr, i + 1 };
	}
	return (struct str){ 0 };
}

bool usage_find(struct str part, struct token_usage *ret)
{
	static const char name[] = "\"usage\"";
	const char *at = part.ptr, *end = part.ptr + part.len;
	bool found = false;

	/* within a string its quotes would stand behind backslashes */
	while (at < end && (at = memmem(at, (size_t)(end - at), name, strlen(name)))) {
		struct str rest, object;

		at += strlen(name);
		rest = raw_trim(str_from_range(at, end));
		if (!rest.len || rest.ptr[0] != ':')
			continue;
		rest = raw_trim((struct str){ rest.ptr + 1, rest.len - 1 });
		object = rest.len && rest.ptr[0] == '{' ? whole_object(rest) : (struct str){ 0 };
		if (!object.len || !raw_is_json(object))
			continue;
		take_usage(object, ret);
		found = true;
	}
	return found;
}

void stream_watch_event(struct stream_watch *w, const struct sse_event *e)
{
	struct str data = raw_trim(e->data);

	if (!data.len)
		return;
	w->events++;
	if (sse_is_done_mark(e)) {
		w->saw_end = true;
		return;
	}
	if (!raw_is_json(data) || data.ptr[0] != '{') {
		w->saw_error = true; /* whatever it is, nobody can be sure of it */
		return;
	}
	if (!raw_is_null(raw_get(data, "error")) || is_type(data, e, "error"))
		w->saw_error = true;
	w->saw_usage |= usage_read(data, &w->usage);
	watch_end(w, data, e);
}

bool stream_is_whole(const struct stream_watch *w)
{
	/* old servers say no [DONE]: then every choice has told why it ended */
	bool all_finished = w->choices > 0 && w->finished_choices >= w->choices;

	return w->events > 0 && !w->saw_error && (w->saw_end || all_finished);
}

static bool has_failed_choice(struct str whole)
{
	struct stream_watch w = { .dialect = DIALECT_CHAT };

	watch_choices(&w, whole);
	return w.saw_error;
}

bool whole_is_answer(enum dialect d, struct str whole)
{
	struct str text = raw_trim(whole);

	if (!text.len || !raw_is_json(text))
		return false;
	if (text.ptr[0] != '{')
		return true;
	return raw_is_null(raw_get(text, "error")) && !has_failed_choice(text);
}

bool whole_is_error(struct str whole)
{
	struct str text = raw_trim(whole);

	return text.len && text.ptr[0] == '{' && raw_is_json(text) && !raw_is_null(raw_get(text, "error"));
}

int stream_merge(enum dialect d, struct str events, struct buf *out)
{
	switch (d) {
	case DIALECT_CHAT:
	case DIALECT_COMPLETIONS:
		return chat_merge(d, events, out);
	case DIALECT_TASK:
	case DIALECT_GENERATE:
		return generate_merge(events, out);
	case DIALECT_RESPONSES:
		return responses_merge(events, out);
	case DIALECT_MESSAGES:
		return messages_merge(events, out);
	default:
		return -ENOTSUP;
	}
}

int whole_split(enum dialect d, struct str whole, bool wants_usage, struct buf *out)
{
	switch (d) {
	case DIALECT_CHAT:
	case DIALECT_COMPLETIONS:
		return chat_split(d, whole, wants_usage, out);
	case DIALECT_TASK:
	case DIALECT_GENERATE:
		return generate_split(whole, out);
	case DIALECT_RESPONSES:
		return responses_split(whole, out);
	case DIALECT_MESSAGES:
		return messages_split(whole, out);
	default:
		return -ENOTSUP;
	}
}

static bool tells_only_usage(struct str data)
{
	struct str choices;

	if (!data.len || data.ptr[0] != '{' || !raw_is_json(data) || raw_is_null(raw_get(data, "usage")))
		return false;
	choices = raw_get(data, "choices");
	return choices.len >= 2 && choices.ptr[0] == '[' &&
	       str_trim((struct str){ choices.ptr + 1, choices.len - 2 }).len == 0;
}

int stream_without_usage(struct str events, struct buf *out)
{
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, out->bytes_max);
	while (sse_next(&events, &scratch, &e) == 1)
		if (!tells_only_usage(str_trim(e.data)))
			buf_append_str(out, e.raw);
	buf_append_str(out, events); /* what stands behind the last event */
	return buf_error(out) ? -E2BIG : 0;
}

int model_rename(struct str text, struct str name, struct buf *out)
{
	struct str raw = raw_get(text, "model");

	if (!raw.len)
		return buf_append_str(out, text);
	buf_append_str(out, str_from_range(text.ptr, raw.ptr));
	(void)json_write_string(out, name);
	buf_append_str(out, str_from_range(raw.ptr + raw.len, text.ptr + text.len));
	return buf_error(out) ? -E2BIG : 0;
}

static void rename_event(const struct sse_event *e, struct str name, struct buf *out)
{
	struct str data = e->data;

	if (!data.len || data.ptr < e->raw.ptr || data.ptr > e->raw.ptr + e->raw.len || !raw_is_json(data) ||
	    str_trim(data).ptr[0] != '{') {
		buf_append_str(out, e->raw);
		return;
	}
	buf_append_str(out, str_from_range(e->raw.ptr, data.ptr));
	(void)model_rename(data, name, out);
	buf_append_str(out, str_from_range(data.ptr + data.len, e->raw.ptr + e->raw.len));
}

int stream_rename(struct str events, struct str name, struct buf *out)
{
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, out->bytes_max);
	while (sse_next(&events, &scratch, &e) == 1)
		rename_event(&e, name, out);
	buf_append_str(out, events);
	return buf_error(out) ? -E2BIG : 0;
}
