/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adapt - a call as the Hub's inference service takes it, as another server wants it; and its answer back
 * (inference-protocol 4.3).
 *
 * Text in, text out, as the rest of this room. An answer may come in pieces, and goes on in pieces where it is a stream.
 * Never     prints a number or a string of a model in another spelling, but for the scores that it computes itself.
 * Threads   any; one answer belongs to one thread at a time.
 */
#pragma once
#include "common/http/header.h"
#include "dialect/dialect.h"

enum adapt {
	ADAPT_RENAME,     /* both speak the same: only the model's name changes */
	ADAPT_PREDICT,    /* text-classification to TEI's /predict */
	ADAPT_CLASSIFY,   /* text-classification to /classify of vLLM */
	ADAPT_EMBED,      /* feature-extraction to TEI's /embed */
	ADAPT_EMBEDDINGS, /* feature-extraction to /v1/embeddings */
	ADAPT_SIMILARITY, /* sentence-similarity to TEI's /similarity */
	ADAPT_COSINE,     /* sentence-similarity by way of /v1/embeddings */
	ADAPT_RERANK,     /* text-ranking to TEI's /rerank */
	ADAPT_TGI,        /* text-generation to TGI, which takes all of it but a temperature of 0 */
	ADAPT_COMPLETE,   /* text-generation to /v1/completions */
	ADAPT_TRANSCRIBE, /* automatic-speech-recognition to /v1/audio/transcriptions */
	ADAPT_RANK,       /* text-ranking to /v1/rerank */
	ADAPT_COUNT,
};

struct adapt_call {
	enum adapt how;
	struct str body;
	bool is_json;     /* the body is a JSON object, as call_read() found */
	struct str media; /* the type of a body that is none; "" not said */
	struct str asked; /* the model as the client named it: answers say it; "": they keep what they say */
	struct str name;  /* the model as the server names it; "": it is not told */
	struct str
		labels; /* JSON object of label names by index, for servers that tell only the best one; "" not known */
};
struct adapted; /* what of a call is needed to read its answer */

/*
 * out   gets the server's body; type its Content-Type
 * Returns 0 with the caller's *ret; 1 likewise, but the client's body goes as it is; -ENOTSUP this server cannot do exactly
 * this; -EINVAL it is no call of this task; -E2BIG.
 */
int adapt_request(const struct adapt_call *c, struct buf *out, struct buf *type, struct adapted **ret);
void adapted_free(struct adapted *a);

/* The answer's head: what becomes of its body? May change the type. Returns 0. */
int adapt_head(struct adapted *a, int status, struct headers *fields);
/* Appends what the client hears of this piece. Returns 0; -E2BIG; -EPROTO. */
int adapt_piece(struct adapted *a, struct str piece, struct buf *out);
/* After the last piece. Returns 0; -EPROTO what came is no such answer; -ECONNRESET a stream without its end; -E2BIG. */
int adapt_end(struct adapted *a, struct buf *out);
