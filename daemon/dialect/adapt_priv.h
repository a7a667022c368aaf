/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adapt_priv - what the files of adapt share: an adapter is a row of functions.
 */
#pragma once
#include "dialect/adapt.h"
#include "dialect/priv.h"

struct adapted {
	enum adapt how;
	char *asked;    /* owned */
	bool is_single; /* one text was sent, not a list */
	uint64_t top_k; /* 0: all */
	char *labels;   /* owned; "" none */

	/* of ranking */
	char *texts; /* owned; the list as written; NULL: they are not told again */

	/* of text generation */
	char *prompt; /* owned: as written, without quotes, when it is part of the answer; else "" */
	bool wants_details, has_stops;
	uint64_t tokens;
	bool is_finished;
	struct buf text; /* all of it so far, as written */

	/* the answer as it comes */
	enum { AS_IT_IS, GATHERED, EVENTS } mode;
	int status;
	struct buf rest; /* all so far, or what is not a whole event yet */
};

/* NULL: the function of ADAPT_RENAME, or none is needed. */
struct adapter {
	int (*request)(const struct adapt_call *c, struct adapted *a, struct buf *out, struct buf *type);
	int (*answer)(struct adapted *a, struct str whole, struct buf *out);
	int (*event)(struct adapted *a, const struct sse_event *e, struct buf *out);
	bool speaks_otherwise; /* its errors have another shape than the client's */
};
extern const struct adapter adapter_predict, adapter_classify, adapter_embed, adapter_embeddings,
	adapter_similarity, adapter_cosine, adapter_rerank, adapter_rank, adapter_tgi, adapter_complete,
	adapter_transcribe;

/* "parameters" of a task's body; "{}" without. */
struct str parameters_of(struct str body);
/* The first element of an array as written, and what follows; ptr NULL: it is no array, or empty. */
struct str first_element(struct str array, struct str *ret_rest);
/* "model":name as the first member, when there is one. */
void put_model(struct buf *out, const struct adapt_call *c);
/* A member of the body under another name, if it is there and not null. */
void put_as(struct buf *out, struct str from, const char *name, const char *as);
/* The pipeline has these at the root; some clients put them where the other tasks have theirs. */
void put_either(struct buf *out, struct str body, const char *name);
double number_of(struct str raw);
/* adapt_speech.c: a form whose "model" gets the server's name. As adapter.request. */
int rename_form(const struct adapt_call *c, struct str boundary, struct buf *out, struct buf *type);
