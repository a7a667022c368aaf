/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt_rank - text-ranking to TEI, and to the /v1/rerank of vLLM and llama.cpp.
 *
 * The answer is a list of {"index","score"}, best first. Scores are the server's: what they are measured in is the model's matter.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define TEXTS_MAX 4096

/* Where the call has its parts: in "inputs", or at the root. */
static int find_parts(const struct adapt_call *c, struct str *ret_query, struct str *ret_texts)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 };

	if (!c->is_json)
		return -EINVAL;
	if (!inputs.len || inputs.ptr[0] != '{')
		inputs = c->body;
	*ret_query = raw_get(inputs, "query");
	*ret_texts = raw_get(inputs, "texts");
	return raw_is_string(*ret_query) && ret_texts->len && ret_texts->ptr[0] == '[' ? 0 : -EINVAL;
}

/* --- TEI --- */

static int rerank_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str query, texts;
	int r = find_parts(c, &query, &texts);

	if (r < 0)
		return r;
	buf_append_char(out, '{');
	put_member(out, "query", query);
	put_member(out, "texts", texts);
	put_member(out, "truncate", STR("true"));
	put_either(out, c->body, "raw_scores");
	put_either(out, c->body, "return_text");
	return buf_append_char(out, '}');
}

const struct adapter adapter_rerank = { .request = rerank_request, .speaks_otherwise = true };

/* --- /v1/rerank --- */

/* At the root or among the parameters. */
static bool is_wanted(struct str body, const char *name)
{
	return str_eq(raw_get(body, name), STR("true")) ||
	       str_eq(raw_get(parameters_of(body), name), STR("true"));
}

static int rank_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str query, texts;
	int r = find_parts(c, &query, &texts);

	if (r < 0)
		return r;
	/* whether these servers' scores are raw ones is theirs to choose */
	if (is_wanted(c->body, "raw_scores"))
		return -ENOTSUP;
	a->texts = is_wanted(c->body, "return_text") ? str_dup(texts) : NULL;
	buf_append_char(out, '{');
	put_model(out, c);
	put_member(out, "query", query);
	put_member(out, "documents", texts);
	return buf_append_char(out, '}');
}

struct place {
	struct str index, score; /* as written */
	double value;
	size_t order;
};

static int by_value(const void *x, const void *y)
{
	const struct place *a = x, *b = y;

	if (a->value != b->value)
		return a->value > b->value ? -1 : 1;
	return a->order < b->order ? -1 : 1;
}

/* The client's texts, as it wrote them; found once, since the list is walked for it. Returns how many. */
static size_t list_texts(const struct adapted *a, struct str texts[TEXTS_MAX])
{
	struct str rest, text = first_element(str_from(a->texts ? a->texts : ""), &rest);
	size_t count = 0;

	for (int more = text.ptr != NULL; more && count < TEXTS_MAX;
	     more = json_next_element(&rest, &text) == 1)
		texts[count++] = text;
	return count;
}

static int read_places(struct str results, struct place *places, size_t *ret_count)
{
	struct str rest, one = first_element(results, &rest);
	size_t count = 0;

	for (int more = one.ptr != NULL; more; more = json_next_element(&rest, &one) == 1) {
		if (count == TEXTS_MAX || one.ptr[0] != '{')
			return -EPROTO;
		places[count] = (struct place){ .index = raw_get(one, "index"),
						.score = raw_get(one, "relevance_score"),
						.order = count };
		if (!places[count].score.len)
			places[count].score = raw_get(one, "score");
		if (raw_u64(places[count].index, UINT64_MAX) == UINT64_MAX || !places[count].score.len)
			return -EPROTO;
		places[count].value = number_of(places[count].score);
		count++;
	}
	*ret_count = count;
	return 0;
}

static int rank_answer(struct adapted *a, struct str whole, struct buf *out)
{
	SCOPED_FREE struct place *places = xcalloc(TEXTS_MAX, sizeof(*places));
	struct str results = whole.ptr[0] == '{' ? raw_get(whole, "results") : whole;
	SCOPED_FREE struct str *texts = xcalloc(TEXTS_MAX, sizeof(*texts));
	size_t count = 0, text_count = list_texts(a, texts);

	if (!results.len || results.ptr[0] != '[' || read_places(results, places, &count) < 0)
		return -EPROTO;
	qsort(places, count, sizeof(*places), by_value);
	buf_append_char(out, '[');
	for (size_t i = 0; i < count; i++) {
		buf_append_str(out, i ? STR(",{") : STR("{"));
		put_member(out, "index", places[i].index);
		if (raw_u64(places[i].index, UINT64_MAX) < text_count)
			put_member(out, "text", texts[raw_u64(places[i].index, 0)]);
		put_member(out, "score", places[i].score);
		buf_append_char(out, '}');
	}
	return buf_append_char(out, ']') < 0 ? -E2BIG : 0;
}

const struct adapter adapter_rank = { .request = rank_request,
				      .answer = rank_answer,
				      .speaks_otherwise = true };
