/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt_generate - text-generation to TGI, which speaks the same but for one thing, and to /v1/completions.
 *
 * A stream of completions becomes the token stream that the pipeline's clients read: one token for each piece, the last event with
 * all of the text. Pieces are joined as they are written, so a character may be cut anywhere in its escapes.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>

#include "common/alloc.h"

#include "common/banned.h"

/* What TGI generates when nothing is said. */
#define TOKENS_DEFAULT 100

static bool is_zero(struct str raw)
{
	return !raw_is_null(raw) && number_of(raw) == 0;
}

/* --- TGI --- */

static int put_tgi_parameters(struct str parameters, struct buf *out)
{
	struct str rest, name, value;

	buf_append_char(out, '{');
	if (json_members(parameters, &rest) < 0)
		return -EINVAL;
	while (json_next_member(&rest, &name, &value) == 1)
		if (!json_is_name(name, "temperature") && !json_is_name(name, "do_sample"))
			put_raw(out, name, value);
	put_member(out, "do_sample", STR("false"));
	return buf_append_char(out, '}');
}

/* It takes a temperature of 0 for a mistake here, and for greedy in chat. */
static int tgi_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str parameters, rest, name, value;
	int r = 0;

	if (!c->is_json)
		return -EINVAL;
	parameters = parameters_of(c->body);
	if (!is_zero(raw_get(parameters, "temperature")))
		return 1;
	if (json_members(c->body, &rest) < 0)
		return -EINVAL;
	buf_append_char(out, '{');
	while (r == 0 && json_next_member(&rest, &name, &value) == 1) {
		put_raw(out, name, json_is_name(name, "parameters") ? STR("") : value);
		if (json_is_name(name, "parameters"))
			r = put_tgi_parameters(parameters, out);
	}
	buf_append_char(out, '}');
	return r;
}

const struct adapter adapter_tgi = { .request = tgi_request };

/* --- completions: the request --- */

static void put_sampling(struct str p, struct buf *out)
{
	bool is_greedy = str_eq(raw_get(p, "do_sample"), STR("false")) ||
			 (raw_is_null(raw_get(p, "do_sample")) && raw_is_null(raw_get(p, "temperature")));

	if (is_greedy)
		put_member(out, "temperature", STR("0"));
	else
		put_as(out, p, "temperature", "temperature");
	put_as(out, p, "top_p", "top_p");
	put_as(out, p, "top_k", "top_k");
	put_as(out, p, "seed", "seed");
	put_as(out, p, "frequency_penalty", "frequency_penalty");
	put_as(out, p, "repetition_penalty", "repetition_penalty");
	put_as(out, p, "best_of", "best_of");
}

static int complete_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 }, p;

	if (!c->is_json)
		return -EINVAL;
	p = parameters_of(c->body);
	if (!raw_is_string(inputs))
		return inputs.len && inputs.ptr[0] == '[' ? -ENOTSUP : -EINVAL;
	if (!raw_is_null(raw_get(p, "grammar")) || !raw_is_null(raw_get(p, "adapter_id")) ||
	    str_eq(raw_get(p, "decoder_input_details"), STR("true")))
		return -ENOTSUP;
	a->wants_details = str_eq(raw_get(p, "details"), STR("true"));
	a->has_stops = !raw_is_null(raw_get(p, "stop")) || !raw_is_null(raw_get(p, "stop_sequences"));
	a->prompt =
		str_dup(str_eq(raw_get(p, "return_full_text"), STR("true")) ? raw_inside(inputs) : STR(""));
	buf_append_char(out, '{');
	put_model(out, c);
	put_member(out, "prompt", inputs);
	if (raw_is_null(raw_get(p, "max_new_tokens")))
		buf_appendf(out, ",\"max_tokens\":%d", TOKENS_DEFAULT);
	else
		put_as(out, p, "max_new_tokens", "max_tokens");
	put_sampling(p, out);
	if (a->has_stops)
		put_as(out, p, raw_is_null(raw_get(p, "stop")) ? "stop_sequences" : "stop", "stop");
	put_as(out, c->body, "stream", "stream");
	return buf_append_char(out, '}');
}

/* --- completions: the answer --- */

static struct str reason_of(const struct adapted *a, struct str raw)
{
	if (str_eq(raw_inside(raw), STR("length")))
		return STR("\"length\"");
	return a->has_stops ? STR("\"stop_sequence\"") : STR("\"eos_token\"");
}

static void put_full_text(const struct adapted *a, struct str text, struct buf *out)
{
	put_member(out, "generated_text", STR("\""));
	buf_append_str(out, str_from(a->prompt));
	buf_append_str(out, text);
	buf_append_char(out, '"');
}

static int complete_answer(struct adapted *a, struct str whole, struct buf *out)
{
	struct str rest, choice, usage, tokens;

	if (whole.ptr[0] != '{')
		return -EPROTO;
	choice = first_element(raw_get(whole, "choices"), &rest);
	if (!choice.ptr || choice.ptr[0] != '{' || !raw_is_string(raw_get(choice, "text")))
		return -EPROTO;
	buf_append_str(out, STR("[{"));
	put_full_text(a, raw_inside(raw_get(choice, "text")), out);
	if (a->wants_details) {
		usage = raw_get(whole, "usage");
		tokens = usage.len && usage.ptr[0] == '{' ? raw_get(usage, "completion_tokens")
							  : (struct str){ 0 };
		put_member(out, "details", STR("{"));
		put_member(out, "finish_reason", reason_of(a, raw_get(choice, "finish_reason")));
		put_member(out, "generated_tokens", raw_is_null(tokens) ? STR("0") : tokens);
		buf_append_str(out, STR(",\"seed\":null,\"prefill\":[],\"tokens\":[]}"));
	}
	return buf_append_str(out, STR("}]"));
}

/* text: between its quotes. reason: ptr NULL: it goes on. */
static void put_token_event(struct adapted *a, struct str text, struct str reason, struct buf *out)
{
	buf_appendf(out, "data: {\"index\":%llu,\"token\":{\"id\":0,\"text\":\"",
		    (unsigned long long)a->tokens);
	buf_append_str(out, text);
	/* clients do not show special ones: an end that says nothing is one */
	buf_appendf(out, "\",\"logprob\":0,\"special\":%s}", text.len ? "false" : "true");
	if (!reason.ptr) {
		buf_append_str(out, STR(",\"generated_text\":null,\"details\":null}\n\n"));
		return;
	}
	put_full_text(a, buf_str(&a->text), out);
	buf_append_str(out, STR(",\"details\":{\"finish_reason\":"));
	buf_append_str(out, reason);
	buf_appendf(out, ",\"generated_tokens\":%llu,\"seed\":null}}\n\n", (unsigned long long)a->tokens);
}

static int put_stream_error(struct str error, struct buf *out)
{
	struct str message = error.ptr[0] == '{' ? raw_get(error, "message") : error;

	buf_append_str(out, STR("data: {\"error\":"));
	buf_append_str(out, raw_is_string(message) ? message : STR("\"the backend failed\""));
	buf_append_str(out, STR(",\"error_type\":\"generation\"}\n\n"));
	return 0;
}

static int complete_event(struct adapted *a, const struct sse_event *e, struct buf *out)
{
	struct str data = str_trim(e->data), rest, choice, text, reason;

	if (!data.len || sse_is_done_mark(e) || a->is_finished)
		return 0;
	if (data.ptr[0] != '{' || !raw_is_json(data))
		return -EPROTO;
	if (!raw_is_null(raw_get(data, "error"))) {
		a->is_finished = true;
		return put_stream_error(raw_get(data, "error"), out);
	}
	choice = first_element(raw_get(data, "choices"), &rest);
	if (!choice.ptr || choice.ptr[0] != '{')
		return 0; /* it tells the usage */
	text = raw_inside(raw_get(choice, "text"));
	reason = raw_get(choice, "finish_reason");
	if (text.len == 0 && raw_is_null(reason))
		return 0;
	if (buf_append_str(&a->text, text) < 0)
		return -E2BIG;
	a->tokens += text.len > 0;
	a->is_finished = !raw_is_null(reason);
	put_token_event(a, text, a->is_finished ? reason_of(a, reason) : (struct str){ 0 }, out);
	return 0;
}

const struct adapter adapter_complete = { .request = complete_request,
					  .answer = complete_answer,
					  .event = complete_event,
					  .speaks_otherwise = true };
