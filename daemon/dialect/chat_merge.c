/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/chat_merge - chat and completions: chunks into one answer (inference-protocol 2.5, 3.7).
 *
 * Pieces of a string are joined as they were written, between their quotes: nothing is unescaped, so nothing can be lost. What
 * is not known in a delta keeps its last value.
 */
#include "dialect/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define CHOICES_MAX 128
#define CALLS_MAX 128
#define OTHERS_MAX 32

/* The members of a delta whose pieces are joined. */
static const char *const joined[] = { "content", "reasoning_content", "reasoning", "refusal" };
#define JOINED (sizeof(joined) / sizeof(joined[0]))

struct other {
	struct str name, value; /* as written */
};
struct tool_call {
	bool is_known;
	struct str id, type, name;
	struct buf arguments;
};
struct choice {
	bool is_known;
	struct buf text[JOINED];
	bool has_text[JOINED];
	struct buf logprobs; /* of its "content" */
	struct str role, finish_reason;
	struct other others[OTHERS_MAX];
	size_t other_count;
	struct tool_call *calls; /* owned, CALLS_MAX of them; NULL: none */
};
struct merge {
	enum dialect dialect;
	size_t bytes_max;
	struct str first; /* the first chunk: id, created, model */
	struct str usage;
	struct choice *choices; /* owned, CHOICES_MAX */
};

static struct choice *choice_at(struct merge *m, struct str raw_index)
{
	uint64_t i = raw_u64(raw_index, 0);
	struct choice *c = i < CHOICES_MAX ? &m->choices[i] : NULL;

	if (c && !c->is_known) {
		c->is_known = true;
		for (size_t k = 0; k < JOINED; k++)
			buf_init(&c->text[k], m->bytes_max);
		buf_init(&c->logprobs, m->bytes_max);
	}
	return c;
}

static void choice_done(struct choice *c)
{
	for (size_t k = 0; k < JOINED; k++)
		buf_done(&c->text[k]);
	buf_done(&c->logprobs);
	for (size_t i = 0; c->calls && i < CALLS_MAX; i++)
		buf_done(&c->calls[i].arguments);
	free(c->calls);
}

static int take_call(struct merge *m, struct choice *c, struct str raw, size_t position)
{
	uint64_t i = raw_u64(raw_get(raw, "index"), position);
	struct str function = raw_get(raw, "function");
	struct tool_call *call;

	if (i >= CALLS_MAX)
		return -EPROTO;
	if (!c->calls)
		c->calls = xcalloc(CALLS_MAX, sizeof(c->calls[0]));
	call = &c->calls[i];
	if (!call->is_known) {
		call->is_known = true;
		buf_init(&call->arguments, m->bytes_max);
	}
	if (raw_is_string(raw_get(raw, "id")))
		call->id = raw_get(raw, "id");
	if (raw_is_string(raw_get(raw, "type")))
		call->type = raw_get(raw, "type");
	if (function.len && raw_is_string(raw_get(function, "name")))
		call->name = raw_get(function, "name");
	if (function.len)
		buf_append_str(&call->arguments, raw_inside(raw_get(function, "arguments")));
	return 0;
}

static int take_calls(struct merge *m, struct choice *c, struct str raw)
{
	struct str rest, element;
	size_t position = 0;
	int r = 0;

	if (raw.len == 0 || raw.ptr[0] != '[')
		return 0;
	rest = (struct str){ raw.ptr + 1, raw.len - 1 };
	while (r == 0 && json_next_element(&rest, &element) == 1)
		r = take_call(m, c, element, position++);
	return r;
}

static void take_other(struct choice *c, struct str name, struct str value)
{
	for (size_t i = 0; i < c->other_count; i++)
		if (str_eq(c->others[i].name, name)) {
			c->others[i].value = value;
			return;
		}
	if (c->other_count < OTHERS_MAX)
		c->others[c->other_count++] = (struct other){ name, value };
}

static bool take_text(struct choice *c, struct str name, struct str value)
{
	for (size_t k = 0; k < JOINED; k++)
		if (json_is_name(name, joined[k])) {
			c->has_text[k] |= raw_is_string(value);
			buf_append_str(&c->text[k], raw_inside(value));
			return true;
		}
	return false;
}

static int take_delta(struct merge *m, struct choice *c, struct str delta)
{
	struct str rest, name, value;
	int r = json_members(delta, &rest);

	if (r < 0)
		return 0;
	while ((r = json_next_member(&rest, &name, &value)) == 1) {
		if (json_is_name(name, "role")) {
			if (raw_is_string(value))
				c->role = value;
		} else if (json_is_name(name, "tool_calls")) {
			r = take_calls(m, c, value);
			if (r < 0)
				return r;
		} else if (!take_text(c, name, value) && !raw_is_null(value)) {
			take_other(c, name, value);
		}
	}
	return r < 0 ? -EPROTO : 0;
}

/* Arrays of what was said of each token are joined: what stands between the brackets. */
static void take_logprobs(struct choice *c, struct str logprobs)
{
	struct str content =
		logprobs.len && logprobs.ptr[0] == '{' ? raw_get(logprobs, "content") : (struct str){ 0 };

	if (content.len < 2 || content.ptr[0] != '[')
		return;
	content = str_trim((struct str){ content.ptr + 1, content.len - 2 });
	if (content.len == 0)
		return;
	if (c->logprobs.len)
		buf_append_char(&c->logprobs, ',');
	buf_append_str(&c->logprobs, content);
}

static int take_choice(struct merge *m, struct str raw)
{
	struct choice *c = choice_at(m, raw_get(raw, "index"));
	struct str text = raw_get(raw, "text"), delta = raw_get(raw, "delta");

	if (!c)
		return -EPROTO;
	if (!raw_is_null(raw_get(raw, "finish_reason")))
		c->finish_reason = raw_get(raw, "finish_reason");
	take_logprobs(c, raw_get(raw, "logprobs"));
	if (m->dialect == DIALECT_COMPLETIONS) {
		buf_append_str(&c->text[0], raw_inside(text));
		return 0;
	}
	return delta.len ? take_delta(m, c, delta) : 0;
}

static int take_chunk(struct merge *m, struct str chunk)
{
	struct str choices, rest, element;
	int r = 0;

	if (!raw_is_json(chunk) || chunk.ptr[0] != '{')
		return -EPROTO;
	if (!m->first.ptr)
		m->first = chunk;
	if (!raw_is_null(raw_get(chunk, "usage")))
		m->usage = raw_get(chunk, "usage");
	choices = raw_get(chunk, "choices");
	if (choices.len == 0 || choices.ptr[0] != '[')
		return 0;
	rest = (struct str){ choices.ptr + 1, choices.len - 1 };
	while (r == 0 && json_next_element(&rest, &element) == 1)
		r = take_choice(m, element);
	return r;
}

static void put_text(struct buf *out, const char *name, const struct buf *text)
{
	put_member(out, name, STR("\""));
	buf_append_str(out, buf_str(text));
	buf_append_char(out, '"');
}

static void put_calls(struct buf *out, const struct choice *c)
{
	bool is_first = true;

	if (!c->calls)
		return;
	put_member(out, "tool_calls", STR("["));
	for (size_t i = 0; i < CALLS_MAX; i++) {
		const struct tool_call *call = &c->calls[i];

		if (!call->is_known)
			continue;
		if (!is_first)
			buf_append_char(out, ',');
		is_first = false;
		buf_append_char(out, '{');
		put_member(out, "id", call->id.ptr ? call->id : STR("\"\""));
		put_member(out, "type", call->type.ptr ? call->type : STR("\"function\""));
		put_member(out, "function", STR("{"));
		put_member(out, "name", call->name.ptr ? call->name : STR("\"\""));
		put_text(out, "arguments", &call->arguments);
		buf_append_str(out, STR("}}"));
	}
	buf_append_char(out, ']');
}

static void put_message(struct buf *out, const struct choice *c)
{
	put_member(out, "message", STR("{"));
	put_member(out, "role", c->role.ptr ? c->role : STR("\"assistant\""));
	/* an answer that only calls tools has no content, and says so */
	if (c->has_text[0] && (c->text[0].len || !c->calls))
		put_text(out, joined[0], &c->text[0]);
	else
		put_member(out, joined[0], STR("null"));
	for (size_t k = 1; k < JOINED; k++)
		if (c->has_text[k])
			put_text(out, joined[k], &c->text[k]);
	put_calls(out, c);
	for (size_t i = 0; i < c->other_count; i++)
		put_raw(out, c->others[i].name, c->others[i].value);
	buf_append_char(out, '}');
}

static void put_choice(const struct merge *m, struct buf *out, const struct choice *c, size_t index)
{
	buf_appendf(out, "{\"index\":%zu", index);
	if (m->dialect == DIALECT_COMPLETIONS)
		put_text(out, "text", &c->text[0]);
	else
		put_message(out, c);
	if (c->logprobs.len) {
		put_member(out, "logprobs", STR("{\"content\":["));
		buf_append_str(out, buf_str(&c->logprobs));
		buf_append_str(out, STR("]}"));
	} else {
		put_member(out, "logprobs", STR("null"));
	}
	put_member(out, "finish_reason", c->finish_reason.ptr ? c->finish_reason : STR("null"));
	buf_append_char(out, '}');
}

static int put_whole(const struct merge *m, struct buf *out)
{
	bool is_first = true;

	if (!m->first.ptr)
		return -EPROTO;
	buf_append_char(out, '{');
	put_from(out, m->first, "id");
	put_member(out, "object",
		   m->dialect == DIALECT_CHAT ? STR("\"chat.completion\"") : STR("\"text_completion\""));
	put_from(out, m->first, "created");
	put_from(out, m->first, "model");
	put_from(out, m->first, "system_fingerprint");
	put_member(out, "choices", STR("["));
	for (size_t i = 0; i < CHOICES_MAX; i++) {
		if (!m->choices[i].is_known)
			continue;
		if (!is_first)
			buf_append_char(out, ',');
		is_first = false;
		put_choice(m, out, &m->choices[i], i);
	}
	buf_append_char(out, ']');
	put_member(out, "usage", m->usage.ptr ? m->usage : STR("null"));
	buf_append_char(out, '}');
	return buf_error(out) ? -E2BIG : 0;
}

int chat_merge(enum dialect d, struct str events, struct buf *out)
{
	struct merge m = { .dialect = d, .bytes_max = out->bytes_max };
	struct sse_event e;
	SCOPED_BUF scratch;
	int r = 0;

	buf_init(&scratch, out->bytes_max);
	m.choices = xcalloc(CHOICES_MAX, sizeof(m.choices[0]));
	while (r == 0 && sse_next(&events, &scratch, &e) == 1) {
		/* what spans lines lives in scratch only until the next event: nobody sends JSON so, and we take none */
		if (!e.data.ptr || sse_is_done_mark(&e))
			continue;
		r = scratch.len ? -EPROTO : take_chunk(&m, str_trim(e.data));
	}
	if (r == 0)
		r = put_whole(&m, out);
	for (size_t i = 0; i < CHOICES_MAX; i++)
		choice_done(&m.choices[i]);
	free(m.choices);
	return r;
}
