/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer - inference calls: forwarded, heard by all who ask the same, kept, and given again.
 *
 * Owns      nothing but its rules. Answers are blobs of the store and documents of the index: one line of JSON about the
 *           answer, then its bytes as they came.
 * Never     calls libmicrohttpd, curl or SQLite; gives one token's answer to another, unless the answer's model is proven
 *           public and the rules say so; keeps what is an error in any dress, or is not whole.
 * Threads   handlers run on server threads, again from the top after each wait (reply/request.h).
 */
#pragma once
#include "backend/backend.h"
#include "cast/cast.h"
#include "dialect/dialect.h"
#include "relay/relay.h"
#include "reply/errors.h"
#include "reply/reply.h"

struct infer;

struct infer_opts {
	struct auth *auth;
	struct casts *casts;
	struct relays *relays;
	struct backends *backends; /* NULL: there are none */
	const char *spool_folder; /* for bodies that a backend needs in another form; borrowed for its life */
	struct fetch *fetch;
	struct store *store;
	struct index *index;
	struct metrics *metrics;
	const struct clock *clock;
	/* The store is full: something that was used long ago shall go. done hears of it, on any thread. NULL: nothing goes. */
	void (*need_room)(void *ctx, uint64_t bytes, void (*done)(void *, int), void *done_ctx);
	/* A stored blob turned out bad. */
	void (*on_corrupt)(void *ctx, const struct digest *sha256);
	void *ctx;
};
struct infer *infer_new(const struct infer_opts *opts);
void infer_free(struct infer *i);

struct infer_rules {
	enum infer_mode mode;
	const char *const *
		modes; /* "PATTERN=MODE", NULL ends: others for some models or routes; borrowed for the call */
	enum infer_scope scope;
	bool finish_alone;       /* a call that nobody waits for any more is finished and kept */
	uint64_t answer_max;     /* bytes of one answer that may be kept */
	uint64_t request_max;    /* bytes of a request's body; 0: any */
	uint64_t wait_budget_ms; /* how long a model that is loading is waited for */
};
/* Must be called before the first request, and may be again at any time. */
void infer_set_rules(struct infer *i, const struct infer_rules *rules);

/* Is this what an inference client asks: POST to a known path or host? The router asks before it looks at its own table. */
bool infer_is_call(const struct request *q);
/* All: 0 with a reply, or -EAGAIN parked. The request's body is whole. */
int infer_call(struct infer *i, struct request *q, struct reply *r);
/* A body that is longer than what is looked into: it is handed on as it comes (BODY_STREAM). */
bool infer_is_large(const struct request *q);
int infer_large(struct infer *i, struct request *q, struct reply *r);
/* Its Content-Length is over the configured maximum. */
bool infer_refuses_length(struct infer *i, const struct request *q);
/* What is read with GET: lists of models, how one is, /api/tasks; and all else that is said to the service's own host. The router
 * asks when no row of its own fits, or the Host is the service's. */
bool infer_is_page(const struct request *q);
bool infer_is_service(const struct request *q);
int infer_page(struct infer *i, struct request *q, struct reply *r);
/*
 * r says that the Hub was no help with /api/models/{model}. If the model is served here, and it was asked which providers it has,
 * or just what it is, then this is the answer. true: r has been replaced.
 */
bool infer_mapping(struct infer *i, struct request *q, struct str model, struct reply *r);
