/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt - the table of adapters, and the road of an answer through one: as it is, gathered, or event by event.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

/* What is gathered before it is turned over, and one event of a stream. */
#define GATHERED_MAX ((size_t)64 << 20)
#define EVENT_MAX ((size_t)8 << 20)

static const struct adapter adapter_rename;
static const struct adapter *const adapters[ADAPT_COUNT] = {
	[ADAPT_RENAME] = &adapter_rename,
	[ADAPT_PREDICT] = &adapter_predict,
	[ADAPT_CLASSIFY] = &adapter_classify,
	[ADAPT_EMBED] = &adapter_embed,
	[ADAPT_EMBEDDINGS] = &adapter_embeddings,
	[ADAPT_SIMILARITY] = &adapter_similarity,
	[ADAPT_COSINE] = &adapter_cosine,
	[ADAPT_RERANK] = &adapter_rerank,
	[ADAPT_RANK] = &adapter_rank,
	[ADAPT_TGI] = &adapter_tgi,
	[ADAPT_COMPLETE] = &adapter_complete,
	[ADAPT_TRANSCRIBE] = &adapter_transcribe,
};

/* --- for all adapters --- */

struct str parameters_of(struct str body)
{
	struct str parameters = raw_get(body, "parameters");

	return parameters.len && parameters.ptr[0] == '{' ? parameters : STR("{}");
}

struct str first_element(struct str array, struct str *ret_rest)
{
	struct str element = { 0 };

	*ret_rest = STR("]");
	if (!array.len || array.ptr[0] != '[')
		return element;
	*ret_rest = (struct str){ array.ptr + 1, array.len - 1 };
	return json_next_element(ret_rest, &element) == 1 ? element : (struct str){ 0 };
}

void put_model(struct buf *out, const struct adapt_call *c)
{
	if (!c->name.len)
		return;
	put_member(out, "model", STR(""));
	(void)json_write_string(out, c->name);
}

void put_as(struct buf *out, struct str from, const char *name, const char *as)
{
	struct str raw = raw_get(from, name);

	if (!raw_is_null(raw))
		put_member(out, as, raw);
}

void put_either(struct buf *out, struct str body, const char *name)
{
	if (!raw_is_null(raw_get(body, name)))
		put_from(out, body, name);
	else
		put_as(out, parameters_of(body), name, name);
}

double number_of(struct str raw)
{
	char copy[64];

	if (raw.len == 0 || raw.len >= sizeof(copy))
		return 0;
	memcpy(copy, raw.ptr, raw.len);
	copy[raw.len] = 0;
	return strtod(copy, NULL);
}

/* --- the same dialect on both sides --- */

static int rename_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str body = c->body, rest, boundary = form_boundary(c->media);

	if (boundary.len && !c->is_json && c->name.len)
		return rename_form(c, boundary, out, type);
	if (!c->is_json || !c->name.len)
		return 1;
	if (raw_get(body, "model").len)
		return model_rename(body, c->name, out) < 0 ? -E2BIG : 0;
	(void)str_cut(body, '{', &rest, &body);
	buf_append_char(out, '{');
	put_model(out, c);
	if (json_members(c->body, &rest) == 0 &&
	    json_next_member(&rest, &(struct str){ 0 }, &(struct str){ 0 }) == 1)
		buf_append_char(out, ',');
	buf_append_str(out, body);
	return 0;
}

/* Of the outermost object, or of the one that these dialects wrap it in. */
static int put_renamed(struct str text, struct str name, struct buf *out)
{
	static const char *const wrappers[] = { "response", "message" };

	for (size_t i = 0; i < 2 && !raw_get(text, "model").len; i++) {
		struct str inner = raw_get(text, wrappers[i]);

		if (!inner.len || inner.ptr[0] != '{' || !raw_get(inner, "model").len)
			continue;
		buf_append_str(out, str_from_range(text.ptr, inner.ptr));
		(void)model_rename(inner, name, out);
		return buf_append_str(out, str_from_range(inner.ptr + inner.len, text.ptr + text.len));
	}
	return model_rename(text, name, out);
}

static struct str without_margin(struct str text)
{
	while (text.len && strchr(" \t\r\n", text.ptr[0]))
		text = (struct str){ text.ptr + 1, text.len - 1 };
	while (text.len && strchr(" \t\r\n", text.ptr[text.len - 1]))
		text.len--;
	return text;
}

static int rename_answer(struct adapted *a, struct str whole, struct buf *out)
{
	struct str text = without_margin(whole);

	if (!text.len || text.ptr[0] != '{' || !raw_is_json(text))
		return buf_append_str(out, whole);
	return put_renamed(text, str_from(a->asked), out);
}

static int rename_event(struct adapted *a, const struct sse_event *e, struct buf *out)
{
	struct str data = e->data;
	bool is_inside = data.ptr >= e->raw.ptr && data.ptr <= e->raw.ptr + e->raw.len;

	if (!is_inside || !data.len || str_trim(data).ptr[0] != '{' || !raw_is_json(data))
		return buf_append_str(out, e->raw);
	buf_append_str(out, str_from_range(e->raw.ptr, data.ptr));
	(void)put_renamed(data, str_from(a->asked), out);
	return buf_append_str(out, str_from_range(data.ptr + data.len, e->raw.ptr + e->raw.len));
}

static const struct adapter adapter_rename = { .request = rename_request,
					       .answer = rename_answer,
					       .event = rename_event };

/* --- a call --- */

int adapt_request(const struct adapt_call *c, struct buf *out, struct buf *type, struct adapted **ret)
{
	struct adapted *a = xcalloc(1, sizeof(*a));
	struct adapt_call call = *c;
	int r;

	a->how = c->how;
	a->asked = str_dup(c->asked);
	a->labels = str_dup(c->labels);
	buf_init(&a->rest, GATHERED_MAX);
	buf_init(&a->text, GATHERED_MAX);
	if (c->is_json)
		call.body = without_margin(c->body);
	r = adapters[c->how]->request(&call, a, out, type);
	if (r >= 0 && (buf_error(out) || buf_error(type)))
		r = -E2BIG;
	if (r < 0) {
		adapted_free(a);
		return r;
	}
	if (r == 0 && type->len == 0)
		(void)buf_append_str(type, STR("application/json"));
	*ret = a;
	return r;
}

void adapted_free(struct adapted *a)
{
	if (!a)
		return;
	free(a->asked);
	free(a->labels);
	free(a->prompt);
	free(a->texts);
	buf_done(&a->text);
	buf_done(&a->rest);
	free(a);
}

/* --- its answer --- */

static bool is_type(const struct headers *fields, struct str prefix)
{
	struct str type = headers_get(fields, STR("Content-Type"));

	return type.len >= prefix.len && str_eq_nocase((struct str){ type.ptr, prefix.len }, prefix);
}

int adapt_head(struct adapted *a, int status, struct headers *fields)
{
	const struct adapter *adapter = adapters[a->how];
	bool is_json = is_type(fields, STR("application/json"));
	bool is_events = is_type(fields, STR("text/event-stream"));
	bool may_change = a->how == ADAPT_RENAME ? a->asked[0] != 0 : true;

	a->status = status;
	a->mode = AS_IT_IS;
	buf_reset(&a->rest);
	if (headers_get(fields, STR("Content-Encoding")).len)
		return 0;
	if (status != 200)
		a->mode = adapter->speaks_otherwise && is_json ? GATHERED : AS_IT_IS;
	else if (is_events && adapter->event && may_change)
		a->mode = EVENTS;
	else if (adapter->answer && may_change && (is_json || a->how != ADAPT_RENAME))
		a->mode = GATHERED;
	if (a->mode != AS_IT_IS)
		headers_remove(fields, STR("Content-Length"));
	if (a->mode == GATHERED)
		(void)headers_set(fields, STR("Content-Type"), STR("application/json"));
	return 0;
}

static int take_events(struct adapted *a, struct buf *out)
{
	struct str text = buf_str(&a->rest);
	struct sse_event e;
	SCOPED_BUF scratch;
	int r = 0;

	buf_init(&scratch, EVENT_MAX);
	while (r == 0 && sse_next(&text, &scratch, &e) == 1)
		r = adapters[a->how]->event(a, &e, out);
	if (text.len != a->rest.len && text.len)
		memmove(a->rest.bytes, text.ptr, text.len);
	a->rest.len = text.len;
	return r < 0 ? r : a->rest.len > EVENT_MAX || buf_error(out) ? -E2BIG : 0;
}

int adapt_piece(struct adapted *a, struct str piece, struct buf *out)
{
	if (a->mode == AS_IT_IS)
		return buf_append_str(out, piece);
	if (buf_append_str(&a->rest, piece) < 0)
		return -E2BIG;
	return a->mode == EVENTS ? take_events(a, out) : 0;
}

/* {"error":{"message":…}} of OpenAI's shape as the task routes say it: {"error":text}. */
static int put_error(struct str whole, struct buf *out)
{
	struct str text = without_margin(whole), error, message, kind;

	if (!text.len || text.ptr[0] != '{' || !raw_is_json(text))
		return buf_append_str(out, whole);
	error = raw_get(text, "error");
	message = error.len && error.ptr[0] == '{' ? raw_get(error, "message") : raw_get(text, "message");
	kind = error.len && error.ptr[0] == '{' ? raw_get(error, "type") : raw_get(text, "type");
	if (raw_is_string(error) || !raw_is_string(message))
		return buf_append_str(out, whole);
	buf_append_char(out, '{');
	put_member(out, "error", message);
	put_member(out, "error_type", raw_is_string(kind) ? kind : STR("\"backend\""));
	return buf_append_char(out, '}');
}

int adapt_end(struct adapted *a, struct buf *out)
{
	struct str whole = buf_str(&a->rest);
	int r = 0;

	if (a->mode == AS_IT_IS)
		return 0;
	if (a->mode == EVENTS && a->how == ADAPT_RENAME)
		r = buf_append_str(out, whole); /* what stands behind the last event */
	else if (a->mode == EVENTS)
		r = a->is_finished ? 0 : -ECONNRESET;
	else if (a->status != 200)
		r = put_error(whole, out);
	else if (a->how != ADAPT_RENAME && !raw_is_json(without_margin(whole)))
		r = -EPROTO;
	else
		r = adapters[a->how]->answer(a, a->how == ADAPT_RENAME ? whole : without_margin(whole), out);
	return r < 0 ? r : buf_error(out) ? -E2BIG : 0;
}
