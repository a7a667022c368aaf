/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/messages - /v1/messages: a stream of content blocks and the message they make (inference-protocol 2.5).
 */
#include "dialect/priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define BLOCKS_MAX 128

struct block {
	struct str start; /* as written; ptr NULL: there is none */
	struct buf text;  /* the pieces of its text, thinking or input */
	struct str signature;
};
struct merge {
	struct str message, stop_reason, stop_sequence, usage;
	struct block *blocks; /* owned, BLOCKS_MAX */
};

static struct block *block_at(struct merge *m, struct str data)
{
	uint64_t i = raw_u64(raw_get(data, "index"), BLOCKS_MAX);

	return i < BLOCKS_MAX ? &m->blocks[i] : NULL;
}

static int take_block_delta(struct merge *m, struct str data)
{
	static const char *const pieces[] = { "text", "partial_json", "thinking" };
	struct str delta = raw_get(data, "delta");
	struct block *b = block_at(m, data);

	if (!b || !b->start.ptr || !delta.len || delta.ptr[0] != '{')
		return -EPROTO;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++)
		buf_append_str(&b->text, raw_inside(raw_get(delta, pieces[i])));
	if (raw_is_string(raw_get(delta, "signature")))
		b->signature = raw_get(delta, "signature");
	return 0;
}

static int take_event(struct merge *m, struct str data)
{
	struct str type = raw_inside(raw_get(data, "type")), delta = raw_get(data, "delta");
	struct block *b;

	if (str_eq(type, STR("message_start"))) {
		m->message = raw_get(data, "message");
	} else if (str_eq(type, STR("content_block_start"))) {
		b = block_at(m, data);
		if (!b)
			return -EPROTO;
		b->start = raw_get(data, "content_block");
	} else if (str_eq(type, STR("content_block_delta"))) {
		return take_block_delta(m, data);
	} else if (str_eq(type, STR("message_delta"))) {
		m->stop_reason = raw_get(delta, "stop_reason");
		m->stop_sequence = raw_get(delta, "stop_sequence");
		m->usage = raw_get(data, "usage");
	}
	return 0;
}

/* A block as it began, with the pieces in their place. */
static void put_block(struct buf *out, const struct block *b)
{
	struct str type = raw_inside(raw_get(b->start, "type")), rest, name, value;
	const char *member = str_eq(type, STR("tool_use"))   ? "input"
			     : str_eq(type, STR("thinking")) ? "thinking"
							     : "text";
	bool is_input = str_eq(type, STR("tool_use"));

	buf_append_char(out, '{');
	if (json_members(b->start, &rest) == 0)
		while (json_next_member(&rest, &name, &value) == 1) {
			if (json_is_name(name, member) ||
			    (b->signature.len && json_is_name(name, "signature")))
				continue;
			put_raw(out, name, value);
		}
	if (is_input) {
		SCOPED_BUF quoted, plain;

		buf_init(&quoted, out->bytes_max);
		buf_init(&plain, out->bytes_max);
		buf_append_char(&quoted, '"');
		buf_append_str(&quoted, buf_str(&b->text));
		buf_append_char(&quoted, '"');
		/* the pieces of a string make the text of an object */
		if (b->text.len && json_unquote(buf_str(&quoted), &plain) == 0 &&
		    raw_is_json(buf_str(&plain)))
			put_member(out, member, buf_str(&plain));
		else
			put_member(out, member, STR("{}"));
	} else {
		put_member(out, member, STR("\""));
		buf_append_str(out, raw_inside(raw_get(b->start, member)));
		buf_append_str(out, buf_str(&b->text));
		buf_append_char(out, '"');
	}
	if (b->signature.len)
		put_member(out, "signature", b->signature);
	buf_append_char(out, '}');
}

static void put_content(const struct merge *m, struct buf *out)
{
	bool is_first = true;

	put_member(out, "content", STR("["));
	for (size_t i = 0; i < BLOCKS_MAX; i++) {
		if (!m->blocks[i].start.len)
			continue;
		if (!is_first)
			buf_append_char(out, ',');
		is_first = false;
		put_block(out, &m->blocks[i]);
	}
	buf_append_char(out, ']');
}

/* What the end says of the usage wins over what the beginning said. */
static void put_usage(const struct merge *m, struct buf *out)
{
	struct str early = raw_get(m->message, "usage"), rest, name, value, ignored;

	put_member(out, "usage", STR("{"));
	if (early.len && early.ptr[0] == '{' && json_members(early, &rest) == 0)
		while (json_next_member(&rest, &name, &value) == 1) {
			SCOPED_BUF plain;

			buf_init(&plain, 1024);
			if (json_unquote(name, &plain) == 0 && m->usage.len && m->usage.ptr[0] == '{' &&
			    json_find_member(m->usage, buf_str(&plain).ptr, &ignored) == 0)
				continue;
			put_raw(out, name, value);
		}
	if (m->usage.len && m->usage.ptr[0] == '{' && json_members(m->usage, &rest) == 0)
		while (json_next_member(&rest, &name, &value) == 1) {
			put_raw(out, name, value);
		}
	buf_append_char(out, '}');
}

static int put_whole(const struct merge *m, struct buf *out)
{
	static const char *const ours[] = { "content", "stop_reason", "stop_sequence", "usage" };
	struct str rest, name, value;

	if (!m->message.len || m->message.ptr[0] != '{' || json_members(m->message, &rest) < 0)
		return -EPROTO;
	buf_append_char(out, '{');
	while (json_next_member(&rest, &name, &value) == 1) {
		bool is_ours = false;

		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			is_ours |= json_is_name(name, ours[i]);
		if (is_ours)
			continue;
		put_raw(out, name, value);
	}
	put_content(m, out);
	put_member(out, "stop_reason", m->stop_reason.len ? m->stop_reason : STR("null"));
	put_member(out, "stop_sequence", m->stop_sequence.len ? m->stop_sequence : STR("null"));
	put_usage(m, out);
	buf_append_char(out, '}');
	return buf_error(out) ? -E2BIG : 0;
}

int messages_merge(struct str events, struct buf *out)
{
	struct merge m = { 0 };
	struct sse_event e;
	SCOPED_BUF scratch;
	int r = 0;

	buf_init(&scratch, out->bytes_max);
	m.blocks = xcalloc(BLOCKS_MAX, sizeof(m.blocks[0]));
	for (size_t i = 0; i < BLOCKS_MAX; i++)
		buf_init(&m.blocks[i].text, out->bytes_max);
	while (r == 0 && sse_next(&events, &scratch, &e) == 1) {
		struct str data = str_trim(e.data);

		if (data.len && !scratch.len)
			r = raw_is_json(data) && data.ptr[0] == '{' ? take_event(&m, data) : -EPROTO;
	}
	if (r == 0)
		r = put_whole(&m, out);
	for (size_t i = 0; i < BLOCKS_MAX; i++)
		buf_done(&m.blocks[i].text);
	free(m.blocks);
	return r;
}

/* --- the other way --- */

static void put_block_events(struct buf *out, struct buf *data, struct str block, size_t index)
{
	struct str type = raw_inside(raw_get(block, "type")), rest, name, value;
	const char *member = str_eq(type, STR("tool_use"))   ? "input"
			     : str_eq(type, STR("thinking")) ? "thinking"
							     : "text";
	const char *delta = str_eq(type, STR("tool_use"))   ? "input_json_delta\",\"partial_json"
			    : str_eq(type, STR("thinking")) ? "thinking_delta\",\"thinking"
							    : "text_delta\",\"text";
	struct str text = raw_get(block, member);

	buf_reset(data);
	buf_appendf(data, "{\"type\":\"content_block_start\",\"index\":%zu,\"content_block\":{", index);
	if (json_members(block, &rest) == 0)
		while (json_next_member(&rest, &name, &value) == 1) {
			if (data->bytes[data->len - 1] != '{')
				buf_append_char(data, ',');
			buf_append_str(data, name);
			buf_append_char(data, ':');
			if (json_is_name(name, member))
				buf_append_str(data, raw_is_string(value) ? STR("\"\"") : STR("{}"));
			else
				buf_append_str(data, value);
		}
	buf_append_str(data, STR("}}"));
	put_named_event(out, "content_block_start", buf_str(data));
	if (text.len) {
		buf_reset(data);
		buf_appendf(data,
			    "{\"type\":\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":\"%s\":",
			    index, delta);
		if (raw_is_string(text))
			buf_append_str(data, text);
		else
			(void)json_write_string(data, text);
		buf_append_str(data, STR("}}"));
		put_named_event(out, "content_block_delta", buf_str(data));
	}
	buf_reset(data);
	buf_appendf(data, "{\"type\":\"content_block_stop\",\"index\":%zu}", index);
	put_named_event(out, "content_block_stop", buf_str(data));
}

static void put_start(struct buf *out, struct buf *data, struct str answer)
{
	struct str rest, name, value;

	buf_reset(data);
	buf_append_str(data, STR("{\"type\":\"message_start\",\"message\":{"));
	if (json_members(answer, &rest) == 0)
		while (json_next_member(&rest, &name, &value) == 1) {
			if (data->bytes[data->len - 1] != '{')
				buf_append_char(data, ',');
			buf_append_str(data, name);
			buf_append_char(data, ':');
			buf_append_str(data, json_is_name(name, "content") ? STR("[]")
					     : json_is_name(name, "stop_reason") ||
							     json_is_name(name, "stop_sequence")
						     ? STR("null")
						     : value);
		}
	buf_append_str(data, STR("}}"));
	put_named_event(out, "message_start", buf_str(data));
}

int messages_split(struct str whole, struct buf *out)
{
	struct str answer = raw_trim(whole), content, rest, block, usage;
	SCOPED_BUF data;
	size_t i = 0;

	buf_init(&data, out->bytes_max);
	if (!raw_is_json(answer) || answer.ptr[0] != '{')
		return -EPROTO;
	content = raw_get(answer, "content");
	if (!content.len || content.ptr[0] != '[')
		return -EPROTO;
	put_start(out, &data, answer);
	rest = (struct str){ content.ptr + 1, content.len - 1 };
	while (json_next_element(&rest, &block) == 1)
		put_block_events(out, &data, block, i++);
	usage = raw_get(answer, "usage");
	buf_reset(&data);
	buf_append_str(&data, STR("{\"type\":\"message_delta\",\"delta\":{"));
	put_member(&data, "stop_reason",
		   raw_is_null(raw_get(answer, "stop_reason")) ? STR("null")
							       : raw_get(answer, "stop_reason"));
	put_member(&data, "stop_sequence",
		   raw_is_null(raw_get(answer, "stop_sequence")) ? STR("null")
								 : raw_get(answer, "stop_sequence"));
	buf_append_char(&data, '}');
	put_member(&data, "usage", raw_is_null(usage) ? STR("{}") : usage);
	buf_append_char(&data, '}');
	put_named_event(out, "message_delta", buf_str(&data));
	put_named_event(out, "message_stop", STR("{\"type\":\"message_stop\"}"));
	return buf_error(out) ? -E2BIG : 0;
}
