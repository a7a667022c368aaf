/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/chat_split - chat and completions: one answer into chunks (inference-protocol 3.7).
 *
 * A string is cut as it is written, never within a character, an escape or a surrogate pair.
 */
#include "dialect/priv.h"

#include <errno.h>

#include "common/banned.h"

#define PIECE_BYTES 24 /* about what a token is */

static const char *const thoughts[] = { "reasoning_content", "reasoning", "refusal" };

struct split {
	enum dialect dialect;
	struct str whole;
	struct buf *out;
	struct buf chunk;
};

static void chunk_begin(struct split *s)
{
	struct str fingerprint = raw_get(s->whole, "system_fingerprint");

	buf_reset(&s->chunk);
	buf_append_char(&s->chunk, '{');
	put_from(&s->chunk, s->whole, "id");
	put_member(&s->chunk, "object",
		   s->dialect == DIALECT_CHAT ? STR("\"chat.completion.chunk\"")
					      : STR("\"text_completion\""));
	put_from(&s->chunk, s->whole, "created");
	put_from(&s->chunk, s->whole, "model");
	if (fingerprint.len)
		put_member(&s->chunk, "system_fingerprint", fingerprint);
	put_member(&s->chunk, "choices", STR("["));
}

static void chunk_end(struct split *s)
{
	buf_append_str(&s->chunk, STR("]}"));
	put_event(s->out, buf_str(&s->chunk));
}

/* One chunk with one member of a delta, or one piece of text. */
static void put_piece(struct split *s, struct str index, const char *name, struct str inside)
{
	chunk_begin(s);
	buf_appendf(&s->chunk, "{\"index\":%.*s,", STR_ARGS(index));
	buf_appendf(&s->chunk, s->dialect == DIALECT_CHAT ? "\"delta\":{\"%s\":\"" : "\"%s\":\"", name);
	buf_append_str(&s->chunk, inside);
	buf_append_str(&s->chunk, s->dialect == DIALECT_CHAT ? STR("\"},\"finish_reason\":null}")
							     : STR("\",\"finish_reason\":null}"));
	chunk_end(s);
}

/* How much of a string's inside goes into one chunk: never a part of a character, an escape or a surrogate pair. */
static size_t piece_length(struct str inside)
{
	size_t at = 0;

	while (at < inside.len && at < PIECE_BYTES) {
		if (inside.ptr[at] != '\\')
			at++;
		else if (at + 1 < inside.len && inside.ptr[at + 1] == 'u')
			at += at + 12 <= inside.len &&
					      (inside.ptr[at + 2] == 'd' || inside.ptr[at + 2] == 'D') &&
					      strchr("89abAB", inside.ptr[at + 3])
				      ? 12
				      : 6;
		else
			at += 2;
	}
	while (at < inside.len && ((unsigned char)inside.ptr[at] & 0xc0) == 0x80)
		at++;
	return at < inside.len ? at : inside.len;
}

static void put_pieces(struct split *s, struct str index, const char *name, struct str raw)
{
	struct str inside = raw_inside(raw);

	while (inside.len) {
		size_t n = piece_length(inside);

		put_piece(s, index, name, (struct str){ inside.ptr, n });
		inside = (struct str){ inside.ptr + n, inside.len - n };
	}
}

/* Each tool call as one delta. */
static void put_tool_calls(struct split *s, struct str index, struct str calls)
{
	struct str rest, call;
	size_t i = 0;

	if (calls.len == 0 || calls.ptr[0] != '[')
		return;
	rest = (struct str){ calls.ptr + 1, calls.len - 1 };
	while (json_next_element(&rest, &call) == 1) {
		struct str members, name, value;

		if (json_members(call, &members) < 0)
			continue;
		chunk_begin(s);
		buf_appendf(&s->chunk, "{\"index\":%.*s,\"delta\":{\"tool_calls\":[{\"index\":%zu",
			    STR_ARGS(index), i++);
		while (json_next_member(&members, &name, &value) == 1)
			if (!json_is_name(name, "index")) {
				buf_append_char(&s->chunk, ',');
				buf_append_str(&s->chunk, name);
				buf_append_char(&s->chunk, ':');
				buf_append_str(&s->chunk, value);
			}
		buf_append_str(&s->chunk, STR("}]},\"finish_reason\":null}"));
		chunk_end(s);
	}
}

static void split_message(struct split *s, struct str index, struct str message)
{
	struct str role = raw_get(message, "role");

	chunk_begin(s);
	buf_appendf(&s->chunk, "{\"index\":%.*s,\"delta\":{\"role\":", STR_ARGS(index));
	buf_append_str(&s->chunk, raw_is_string(role) ? role : STR("\"assistant\""));
	buf_append_str(&s->chunk, STR(",\"content\":\"\"},\"finish_reason\":null}"));
	chunk_end(s);
	/* people think before they speak: clients show it in the order of the chunks */
	for (size_t k = 0; k < sizeof(thoughts) / sizeof(thoughts[0]); k++)
		put_pieces(s, index, thoughts[k], raw_get(message, thoughts[k]));
	put_pieces(s, index, "content", raw_get(message, "content"));
	put_tool_calls(s, index, raw_get(message, "tool_calls"));
}

static void split_choice(struct split *s, struct str choice)
{
	struct str index = raw_get(choice, "index"), reason = raw_get(choice, "finish_reason"),
		   logprobs = raw_get(choice, "logprobs");

	if (index.len == 0)
		index = STR("0");
	if (s->dialect == DIALECT_CHAT)
		split_message(s, index, raw_get(choice, "message"));
	else
		put_pieces(s, index, "text", raw_get(choice, "text"));
	chunk_begin(s);
	buf_appendf(&s->chunk, "{\"index\":%.*s,", STR_ARGS(index));
	buf_append_str(&s->chunk, s->dialect == DIALECT_CHAT ? STR("\"delta\":{},") : STR("\"text\":\"\","));
	if (!raw_is_null(logprobs)) {
		buf_append_str(&s->chunk, STR("\"logprobs\":"));
		buf_append_str(&s->chunk, logprobs);
		buf_append_char(&s->chunk, ',');
	}
	buf_append_str(&s->chunk, STR("\"finish_reason\":"));
	buf_append_str(&s->chunk, raw_is_null(reason) ? STR("\"stop\"") : reason);
	buf_append_char(&s->chunk, '}');
	chunk_end(s);
}

int chat_split(enum dialect d, struct str whole, bool wants_usage, struct buf *out)
{
	struct split s = { .dialect = d, .whole = raw_trim(whole), .out = out };
	struct str choices, rest, element, usage;

	if (!raw_is_json(whole) || s.whole.ptr[0] != '{')
		return -EPROTO;
	choices = raw_get(s.whole, "choices");
	if (choices.len == 0 || choices.ptr[0] != '[')
		return -EPROTO;
	buf_init(&s.chunk, out->bytes_max);
	rest = (struct str){ choices.ptr + 1, choices.len - 1 };
	while (json_next_element(&rest, &element) == 1)
		split_choice(&s, element);
	usage = raw_get(s.whole, "usage");
	if (wants_usage && !raw_is_null(usage)) {
		chunk_begin(&s);
		buf_append_str(&s.chunk, STR("],\"usage\":"));
		buf_append_str(&s.chunk, usage);
		buf_append_char(&s.chunk, '}');
		put_event(out, buf_str(&s.chunk));
	}
	put_event(out, STR("[DONE]"));
	buf_done(&s.chunk);
	return buf_error(out) ? -E2BIG : 0;
}
