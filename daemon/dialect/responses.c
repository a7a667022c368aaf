/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/responses - /v1/responses: the last event of a stream holds the whole answer (inference-protocol 2.5).
 */
#include "dialect/priv.h"

#include <errno.h>

#include "common/banned.h"

int responses_merge(struct str events, struct buf *out)
{
	struct str last = { 0 };
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, out->bytes_max);
	while (sse_next(&events, &scratch, &e) == 1) {
		struct str data = str_trim(e.data), type;

		if (!data.len || scratch.len || !raw_is_json(data))
			continue;
		type = raw_inside(raw_get(data, "type"));
		if (str_eq(type, STR("response.completed")) || str_eq(type, STR("response.incomplete")))
			last = raw_get(data, "response");
	}
	if (!last.len)
		return -EPROTO;
	return buf_append_str(out, last) < 0 ? -E2BIG : 0;
}

struct split {
	struct buf *out;
	struct buf event;
	unsigned number;
};

static void begin(struct split *s, const char *type)
{
	buf_reset(&s->event);
	buf_appendf(&s->event, "{\"type\":\"%s\",\"sequence_number\":%u", type, s->number++);
}

static void end(struct split *s, const char *type)
{
	buf_append_char(&s->event, '}');
	put_named_event(s->out, type, buf_str(&s->event));
}

static void put_place(struct split *s, struct str item, size_t output, size_t content)
{
	struct str id = raw_get(item, "id");

	put_member(&s->event, "item_id", id.len ? id : STR("\"\""));
	buf_appendf(&s->event, ",\"output_index\":%zu,\"content_index\":%zu", output, content);
}

static void split_part(struct split *s, struct str item, struct str part, size_t output, size_t content)
{
	struct str text = raw_get(part, "text");

	begin(s, "response.content_part.added");
	put_place(s, item, output, content);
	put_member(&s->event, "part", STR("{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}"));
	end(s, "response.content_part.added");
	if (raw_is_string(text)) {
		begin(s, "response.output_text.delta");
		put_place(s, item, output, content);
		put_member(&s->event, "delta", text);
		end(s, "response.output_text.delta");
		begin(s, "response.output_text.done");
		put_place(s, item, output, content);
		put_member(&s->event, "text", text);
		end(s, "response.output_text.done");
	}
	begin(s, "response.content_part.done");
	put_place(s, item, output, content);
	put_member(&s->event, "part", part);
	end(s, "response.content_part.done");
}

static void split_item(struct split *s, struct str item, size_t output)
{
	struct str parts = raw_get(item, "content"), arguments = raw_get(item, "arguments"), rest, part;
	size_t content = 0;

	begin(s, "response.output_item.added");
	buf_appendf(&s->event, ",\"output_index\":%zu", output);
	put_member(&s->event, "item", item);
	end(s, "response.output_item.added");
	if (parts.len && parts.ptr[0] == '[') {
		rest = (struct str){ parts.ptr + 1, parts.len - 1 };
		while (json_next_element(&rest, &part) == 1)
			split_part(s, item, part, output, content++);
	}
	if (raw_is_string(arguments)) {
		begin(s, "response.function_call_arguments.done");
		put_place(s, item, output, 0);
		put_member(&s->event, "arguments", arguments);
		end(s, "response.function_call_arguments.done");
	}
	begin(s, "response.output_item.done");
	buf_appendf(&s->event, ",\"output_index\":%zu", output);
	put_member(&s->event, "item", item);
	end(s, "response.output_item.done");
}

int responses_split(struct str whole, struct buf *out)
{
	struct split s = { .out = out };
	struct str answer = raw_trim(whole), output, rest, item;
	size_t i = 0;

	if (!raw_is_json(answer) || answer.ptr[0] != '{')
		return -EPROTO;
	buf_init(&s.event, out->bytes_max);
	begin(&s, "response.created");
	put_member(&s.event, "response", answer);
	end(&s, "response.created");
	output = raw_get(answer, "output");
	if (output.len && output.ptr[0] == '[') {
		rest = (struct str){ output.ptr + 1, output.len - 1 };
		while (json_next_element(&rest, &item) == 1)
			split_item(&s, item, i++);
	}
	begin(&s, "response.completed");
	put_member(&s.event, "response", answer);
	end(&s, "response.completed");
	buf_done(&s.event);
	return buf_error(out) ? -E2BIG : 0;
}
