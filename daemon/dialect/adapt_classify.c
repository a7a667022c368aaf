/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt_classify - text-classification to TEI and to vLLM. The pipeline answers with a list for each text, and so do we,
 * also for a single one: its clients take the first element of what they get.
 *
 * TEI takes ["a","b"] for one pair of texts, the pipeline for two texts: each text goes in a list of its own.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define LABELS_MAX 4096

static int read_parameters(struct str parameters, struct adapted *a, bool *ret_is_raw)
{
	struct str function = raw_inside(raw_get(parameters, "function_to_apply"));

	a->top_k = raw_u64(raw_get(parameters, "top_k"), 0);
	*ret_is_raw = str_eq(function, STR("none"));
	return function.len == 0 || *ret_is_raw || str_eq(function, STR("softmax")) ? 0 : -ENOTSUP;
}

/* "text", or {"text":…, "text_pair":…}, in a list of its own. */
static int put_text(struct str text, struct buf *out)
{
	struct str pair;

	if (raw_is_string(text)) {
		buf_append_char(out, '[');
		buf_append_str(out, text);
		return buf_append_char(out, ']');
	}
	if (!text.len || text.ptr[0] != '{' || !raw_is_string(raw_get(text, "text")))
		return -EINVAL;
	pair = raw_get(text, "text_pair");
	buf_append_char(out, '[');
	buf_append_str(out, raw_get(text, "text"));
	if (raw_is_string(pair)) {
		buf_append_char(out, ',');
		buf_append_str(out, pair);
	}
	return buf_append_char(out, ']');
}

static int put_texts(struct str inputs, struct adapted *a, struct buf *out)
{
	struct str rest, text;
	int r;

	buf_append_char(out, '[');
	a->is_single = inputs.len && inputs.ptr[0] != '[';
	if (a->is_single) {
		r = put_text(inputs, out);
	} else {
		text = first_element(inputs, &rest);
		r = text.ptr ? put_text(text, out) : -EINVAL;
		while (r == 0 && json_next_element(&rest, &text) == 1) {
			buf_append_char(out, ',');
			r = put_text(text, out);
		}
	}
	buf_append_char(out, ']');
	return r;
}

static int predict_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	bool is_raw;
	int r = c->is_json ? read_parameters(parameters_of(c->body), a, &is_raw) : -EINVAL;

	if (r < 0)
		return r;
	buf_append_char(out, '{');
	put_member(out, "inputs", STR(""));
	r = put_texts(raw_get(c->body, "inputs"), a, out);
	put_member(out, "truncate", STR("true"));
	put_member(out, "raw_scores", is_raw ? STR("true") : STR("false"));
	buf_append_char(out, '}');
	return r;
}

struct label {
	struct str raw; /* {"label":…,"score":…} */
	double score;
	size_t index;
};

static int by_score(const void *x, const void *y)
{
	const struct label *a = x, *b = y;

	if (a->score != b->score)
		return a->score > b->score ? -1 : 1;
	return a->index < b->index ? -1 : 1; /* nearly the same on every host */
}

/* The best labels of one text, best first. */
static int put_best(struct str list, uint64_t top_k, struct buf *out)
{
	SCOPED_FREE struct label *labels = xcalloc(LABELS_MAX, sizeof(*labels));
	struct str rest, one = first_element(list, &rest);
	size_t count = 0;

	for (int more = one.ptr != NULL; more; more = json_next_element(&rest, &one) == 1) {
		if (count == LABELS_MAX || one.ptr[0] != '{' || !raw_is_string(raw_get(one, "label")))
			return -EPROTO;
		labels[count] = (struct label){ .raw = one,
						.score = number_of(raw_get(one, "score")),
						.index = count };
		count++;
	}
	qsort(labels, count, sizeof(*labels), by_score);
	buf_append_char(out, '[');
	for (size_t i = 0; i < count && (top_k == 0 || i < top_k); i++) {
		if (i)
			buf_append_char(out, ',');
		buf_append_str(out, labels[i].raw);
	}
	return buf_append_char(out, ']') < 0 ? -E2BIG : 0;
}

static int predict_answer(struct adapted *a, struct str whole, struct buf *out)
{
	struct str rest, list = first_element(whole, &rest);
	int r = 0;

	if (!list.ptr)
		return -EPROTO;
	buf_append_char(out, '[');
	if (list.ptr[0] == '{') /* a server that took the list for one text */
		r = put_best(whole, a->top_k, out);
	for (int more = list.ptr[0] != '{', i = 0; r == 0 && more; i++) {
		if (i)
			buf_append_char(out, ',');
		r = put_best(list, a->top_k, out);
		more = json_next_element(&rest, &list) == 1;
	}
	buf_append_char(out, ']');
	return r;
}

const struct adapter adapter_predict = { .request = predict_request,
					 .answer = predict_answer,
					 .speaks_otherwise = true };

/* --- vLLM: tells all probabilities, and the name of the best one only --- */

static int classify_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 };
	bool is_raw, is_list = inputs.len && inputs.ptr[0] == '[';
	int r = c->is_json ? read_parameters(parameters_of(c->body), a, &is_raw) : -EINVAL;

	if (r < 0 || is_raw)
		return r < 0 ? r : -ENOTSUP;
	if (!is_list && !raw_is_string(inputs))
		return -EINVAL;
	a->is_single = !is_list;
	buf_append_char(out, '{');
	put_model(out, c);
	put_member(out, "input", is_list ? inputs : STR("["));
	if (!is_list) {
		buf_append_str(out, inputs);
		buf_append_char(out, ']');
	}
	return buf_append_char(out, '}');
}

/* The name of a label: the server's for the best one, else the model's, else its number. */
static void put_label(const struct adapted *a, size_t index, bool is_best, struct str best, struct buf *out)
{
	char number[32];
	struct str named;

	(void)snprintf(number, sizeof(number), "%zu", index);
	named = a->labels[0] ? raw_get(str_from(a->labels), number) : (struct str){ 0 };
	if (is_best && raw_is_string(best))
		named = best;
	if (raw_is_string(named))
		buf_append_str(out, named);
	else
		buf_appendf(out, "\"LABEL_%zu\"", index);
}

static size_t best_of(struct str probs)
{
	struct str rest, one = first_element(probs, &rest);
	size_t best = 0;
	double most = -1;

	for (size_t i = 0; one.ptr && i < LABELS_MAX; i++) {
		if (number_of(one) > most) {
			most = number_of(one);
			best = i;
		}
		if (json_next_element(&rest, &one) != 1)
			break;
	}
	return best;
}

static int put_probabilities(const struct adapted *a, struct str item, struct buf *out)
{
	struct str probs = raw_get(item, "probs"), rest, one = first_element(probs, &rest);
	size_t best = best_of(probs);
	SCOPED_BUF list;

	buf_init(&list, out->bytes_max);
	if (!one.ptr)
		return -EPROTO;
	buf_append_char(&list, '[');
	for (size_t i = 0; i < LABELS_MAX; i++) {
		buf_append_str(&list, i ? STR(",{\"label\":") : STR("{\"label\":"));
		put_label(a, i, i == best, raw_get(item, "label"), &list);
		put_member(&list, "score", one);
		buf_append_char(&list, '}');
		if (json_next_element(&rest, &one) != 1)
			break;
	}
	buf_append_char(&list, ']');
	return buf_error(&list) ? -E2BIG : put_best(buf_str(&list), a->top_k, out);
}

static int classify_answer(struct adapted *a, struct str whole, struct buf *out)
{
	struct str rest, item;
	int r = 0;

	if (whole.ptr[0] != '{')
		return -EPROTO;
	item = first_element(raw_get(whole, "data"), &rest);
	buf_append_char(out, '[');
	for (int more = item.ptr != NULL, i = 0; r == 0 && more; i++) {
		if (i)
			buf_append_char(out, ',');
		r = item.ptr[0] == '{' ? put_probabilities(a, item, out) : -EPROTO;
		more = json_next_element(&rest, &item) == 1;
	}
	buf_append_char(out, ']');
	return r < 0 ? r : item.ptr ? 0 : -EPROTO;
}

const struct adapter adapter_classify = { .request = classify_request,
					  .answer = classify_answer,
					  .speaks_otherwise = true };
