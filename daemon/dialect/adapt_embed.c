/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialect/adapt_embed - feature-extraction and sentence-similarity, to TEI and to /v1/embeddings.
 *
 * Embeddings are told as a list of vectors, for a single text too.
 */
#include "dialect/adapt_priv.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "common/alloc.h"

#include "common/banned.h"

#define SENTENCES_MAX 4096
#define DIMENSIONS_MAX 65536

static int embed_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 };

	if (raw_is_null(inputs))
		return -EINVAL;
	buf_append_char(out, '{');
	put_member(out, "inputs", inputs);
	put_either(out, c->body, "normalize");
	put_either(out, c->body, "truncate");
	put_either(out, c->body, "truncation_direction");
	put_either(out, c->body, "prompt_name");
	put_either(out, c->body, "dimensions");
	return buf_append_char(out, '}');
}

const struct adapter adapter_embed = { .request = embed_request, .speaks_otherwise = true };

/* --- /v1/embeddings --- */

static int embeddings_request(const struct adapt_call *c, struct adapted *a, struct buf *out,
			      struct buf *type)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 };

	if (!raw_is_string(inputs) && (!inputs.len || inputs.ptr[0] != '['))
		return -EINVAL;
	buf_append_char(out, '{');
	put_model(out, c);
	put_member(out, "input", inputs);
	put_either(out, c->body, "dimensions");
	put_member(out, "encoding_format", STR("\"float\""));
	return buf_append_char(out, '}');
}

/* data[].embedding in the order of their index; each as written. Returns their number. */
static ssize_t vectors_of(struct str whole, struct str **ret_vectors)
{
	struct str rest, item;
	size_t count = 0;

	*ret_vectors = NULL;
	if (whole.ptr[0] != '{')
		return -EPROTO;
	item = first_element(raw_get(whole, "data"), &rest);
	*ret_vectors = xcalloc(SENTENCES_MAX + 1, sizeof(struct str));
	for (int more = item.ptr != NULL; more; more = json_next_element(&rest, &item) == 1, count++) {
		struct str vector = item.ptr[0] == '{' ? raw_get(item, "embedding") : (struct str){ 0 };
		uint64_t index = vector.ptr ? raw_u64(raw_get(item, "index"), count) : SENTENCES_MAX;

		if (!vector.len || vector.ptr[0] != '[' || index >= SENTENCES_MAX ||
		    (*ret_vectors)[index].ptr)
			return -EPROTO;
		(*ret_vectors)[index] = vector;
	}
	for (size_t i = 0; i < count; i++)
		if (!(*ret_vectors)[i].ptr)
			return -EPROTO;
	return count ? (ssize_t)count : -EPROTO;
}

static int embeddings_answer(struct adapted *a, struct str whole, struct buf *out)
{
	SCOPED_FREE struct str *vectors = NULL;
	ssize_t count = vectors_of(whole, &vectors);

	if (count < 0)
		return (int)count;
	buf_append_char(out, '[');
	for (ssize_t i = 0; i < count; i++) {
		if (i)
			buf_append_char(out, ',');
		buf_append_str(out, vectors[i]);
	}
	return buf_append_char(out, ']');
}

const struct adapter adapter_embeddings = { .request = embeddings_request,
					    .answer = embeddings_answer,
					    .speaks_otherwise = true };

/* --- similarity --- */

/* {"inputs":{…}}, or its members at the root. */
static struct str sentences_of(const struct adapt_call *c, struct str *ret_source)
{
	struct str inputs = c->is_json ? raw_get(c->body, "inputs") : (struct str){ 0 }, sentences;

	if (c->is_json && (!inputs.len || inputs.ptr[0] != '{'))
		inputs = c->body;
	if (!inputs.len)
		return (struct str){ 0 };
	*ret_source = raw_get(inputs, "source_sentence");
	sentences = raw_get(inputs, "sentences");
	return raw_is_string(*ret_source) && sentences.len && sentences.ptr[0] == '[' ? sentences
										      : (struct str){ 0 };
}

static int similarity_request(const struct adapt_call *c, struct adapted *a, struct buf *out,
			      struct buf *type)
{
	struct str source, sentences = sentences_of(c, &source);

	if (!sentences.ptr)
		return -EINVAL;
	buf_append_str(out, STR("{\"inputs\":{"));
	put_member(out, "source_sentence", source);
	put_member(out, "sentences", sentences);
	buf_append_char(out, '}');
	put_as(out, c->body, "parameters", "parameters");
	return buf_append_char(out, '}');
}

const struct adapter adapter_similarity = { .request = similarity_request, .speaks_otherwise = true };

static int cosine_request(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type)
{
	struct str source, sentences = sentences_of(c, &source), rest, one;

	one = first_element(sentences, &rest);
	if (!one.ptr)
		return -EINVAL;
	buf_append_char(out, '{');
	put_model(out, c);
	put_member(out, "input", STR("["));
	buf_append_str(out, source);
	for (size_t i = 0; i < SENTENCES_MAX; i++) {
		buf_append_char(out, ',');
		buf_append_str(out, one);
		if (json_next_element(&rest, &one) != 1)
			break;
	}
	buf_append_char(out, ']');
	put_member(out, "encoding_format", STR("\"float\""));
	return buf_append_char(out, '}');
}

/* Returns its length; 0: it is none. */
static size_t read_vector(struct str raw, double *numbers)
{
	struct str rest, one = first_element(raw, &rest);
	size_t count = 0;

	for (int more = one.ptr != NULL; more && count < DIMENSIONS_MAX; count++) {
		numbers[count] = number_of(one);
		more = json_next_element(&rest, &one) == 1;
	}
	return count;
}

static double cosine_of(const double *a, const double *b, size_t count)
{
	double dot = 0, aa = 0, bb = 0;

	for (size_t i = 0; i < count; i++) {
		dot += a[i] * b[i];
		aa += a[i] * a[i];
		bb += b[i] * b[i];
	}
	return aa > 0 && bb > 0 ? dot / (sqrt(aa) * sqrt(bb)) : 0;
}

static int cosine_answer(struct adapted *a, struct str whole, struct buf *out)
{
	SCOPED_FREE struct str *vectors = NULL;
	SCOPED_FREE double *source = xcalloc(DIMENSIONS_MAX, sizeof(double));
	SCOPED_FREE double *other = xcalloc(DIMENSIONS_MAX, sizeof(double));
	ssize_t count = vectors_of(whole, &vectors);
	size_t dimensions = count > 1 ? read_vector(vectors[0], source) : 0;

	if (dimensions == 0)
		return -EPROTO;
	buf_append_char(out, '[');
	for (ssize_t i = 1; i < count; i++) {
		if (read_vector(vectors[i], other) != dimensions)
			return -EPROTO;
		buf_appendf(out, "%s%.9g", i > 1 ? "," : "", cosine_of(source, other, dimensions));
	}
	return buf_append_char(out, ']');
}

const struct adapter adapter_cosine = { .request = cosine_request,
					.answer = cosine_answer,
					.speaks_otherwise = true };
