/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/generate - text generation: TGI's token stream and the pipeline answer (inference-protocol 2.5, 3.7).
 *
 * The last event holds all of the text, so merging is finding it. The way back knows no tokens but those in the details: without
 * them all of the text goes out as one token.
 */
#include "dialect/priv.h"

#include <errno.h>

#include "common/banned.h"

int generate_merge(struct str events, struct buf *out)
{
	struct str last = { 0 };
	struct sse_event e;
	SCOPED_BUF scratch;

	buf_init(&scratch, out->bytes_max);
	while (sse_next(&events, &scratch, &e) == 1) {
		struct str data = str_trim(e.data);

		if (!data.len || scratch.len || sse_is_done_mark(&e))
			continue;
		if (raw_is_json(data) && raw_is_string(raw_get(data, "generated_text")))
			last = data;
	}
	if (!last.ptr)
		return -EPROTO;
	buf_append_str(out, STR("[{\"generated_text\":"));
	buf_append_str(out, raw_get(last, "generated_text"));
	if (!raw_is_null(raw_get(last, "details")))
		put_member(out, "details", raw_get(last, "details"));
	buf_append_str(out, STR("}]"));
	return buf_error(out) ? -E2BIG : 0;
}

static void put_token(struct buf *chunk, struct str text, struct str id, struct str logprob,
		      struct str special)
{
	buf_append_str(chunk, STR("\"token\":{\"id\":"));
	buf_append_str(chunk, id.len ? id : STR("0"));
	buf_append_str(chunk, STR(",\"text\":"));
	buf_append_str(chunk, text);
	buf_append_str(chunk, STR(",\"logprob\":"));
	buf_append_str(chunk, raw_is_null(logprob) ? STR("0") : logprob);
	buf_append_str(chunk, STR(",\"special\":"));
	buf_append_str(chunk, special.len ? special : STR("false"));
	buf_append_char(chunk, '}');
}

static void put_token_event(struct buf *out, size_t index, struct str token, struct str text,
			    struct str details)
{
	SCOPED_BUF chunk;

	buf_init(&chunk, out->bytes_max);
	buf_appendf(&chunk, "{\"index\":%zu,", index);
	put_token(&chunk, token.ptr && token.ptr[0] == '{' ? raw_get(token, "text") : token,
		  token.ptr && token.ptr[0] == '{' ? raw_get(token, "id") : STR("0"),
		  token.ptr && token.ptr[0] == '{' ? raw_get(token, "logprob") : STR("0"),
		  token.ptr && token.ptr[0] == '{' ? raw_get(token, "special") : STR("false"));
	buf_append_str(&chunk, STR(",\"generated_text\":"));
	buf_append_str(&chunk, text.len ? text : STR("null"));
	buf_append_str(&chunk, STR(",\"details\":"));
	buf_append_str(&chunk, details.len ? details : STR("null"));
	buf_append_char(&chunk, '}');
	put_event(out, buf_str(&chunk));
}

int generate_split(struct str whole, struct buf *out)
{
	struct str answer = raw_trim(whole), text, details, tokens, rest, token, next;
	size_t i = 0;

	if (!raw_is_json(answer))
		return -EPROTO;
	if (answer.ptr[0] == '[') {
		rest = (struct str){ answer.ptr + 1, answer.len - 1 };
		if (json_next_element(&rest, &answer) != 1)
			return -EPROTO;
	}
	text = raw_get(answer, "generated_text");
	if (!raw_is_string(text))
		return -EPROTO;
	details = raw_get(answer, "details");
	tokens = details.len && details.ptr[0] == '{' ? raw_get(details, "tokens") : (struct str){ 0 };
	rest = tokens.len && tokens.ptr[0] == '[' ? (struct str){ tokens.ptr + 1, tokens.len - 1 } : STR("]");
	if (json_next_element(&rest, &token) != 1) {
		put_token_event(out, 1, text, text, details);
		return buf_error(out) ? -E2BIG : 0;
	}
	for (;; token = next) {
		bool is_last = json_next_element(&rest, &next) != 1;

		put_token_event(out, ++i, token, is_last ? text : (struct str){ 0 },
				is_last ? details : (struct str){ 0 });
		if (is_last)
			return buf_error(out) ? -E2BIG : 0;
	}
}
