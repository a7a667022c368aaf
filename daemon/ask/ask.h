/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask - one small call to upstream's API, shared by all who ask the same at the same time.
 *
 * Owns      the table of running asks and their answers (bounded bodies).
 * Never     understands the answer: `learn`, given by the handler, does, once, before anyone is woken.
 * Threads   started and read by server threads; filled by the fetch thread; learn runs on a work thread.
 * Life      ASKING -> LEARNING -> DONE. A done ask leaves the table at once: the next question is a new call.
 * Promises  (1) one upstream call per key at a time, however many ask (C03).
 *           (2) every ask is DONE within its deadline, or 9 s when none is given.
 *           (3) idempotent calls are tried again once when the connection broke or a 5xx came, inside the
 *               deadline (E11).
 */
#pragma once
#include "common/waiter.h"
#include "common/work.h"
#include "fetch/fetch.h"

struct asks;
struct ask;

struct asks_opts {
	struct fetch *fetch;
	struct work *work;
	const struct clock *clock;
	struct metrics *metrics;
};
struct asks *asks_new(const struct asks_opts *opts);
void asks_free(struct asks *a);

#define ANSWER_HOPS 2
struct answer {
	int error;  /* 0, or the errno of fetch's on_done: then nothing below is valid */
	int status; /* of the last hop */
	struct headers
		first;       /* fields of the first hop that was not followed elsewhere: the Hub's own word */
	struct headers last; /* fields of the last hop (the same as first without a redirect) */
	int first_status;
	struct buf body;        /* of the last hop, identity coded */
	int64_t content_length; /* of the last hop, -1 unknown */
	int64_t asked_at;       /* wall clock when the call began */
	int learned;            /* what learn returned */
	uint64_t wait_ms;       /* with the error -EBUSY: when upstream may be asked again */
};

struct question {
	const char *method;
	struct str who; /* as in struct fetch_request; of the one that asks first */
	enum fetch_origin origin;
	struct str target;             /* path and query there */
	const struct headers *headers; /* extra, may be NULL */
	struct secret *token;
	struct str body; /* request body, copied; ptr NULL: none */
	enum fetch_follow follow;
	uint64_t answer_bytes_max; /* 0: 64 MiB */
	uint64_t deadline_ms;      /* 0: 9 s */
	bool is_background;        /* nobody waits for it */
	/* Work thread, once, whatever the outcome; ctx is copied shallowly and freed by free_ctx after it.
	 * May be NULL. */
	int (*learn)(void *ctx, const struct answer *answer);
	void *learn_ctx; /* taken by ask_start also when it joins (then freed at once) */
	void (*free_ctx)(void *ctx);
};
/* key: what makes two questions the same (must hold the subject when the answer depends on it). The
 * caller's reference. Not after asks_free() has begun, unless from learn: then it ends at once. */
struct ask *ask_start(struct asks *a, struct str key, const struct question *q);
struct ask *ask_ref(struct ask *k);
struct ask *ask_unref(struct ask *k);
struct str ask_key(const struct ask *k);
bool ask_is_done(const struct ask *k);
/* Registers the waiter; false: it is done already and nothing was registered. */
bool ask_wait(struct ask *k, struct waiter *w);
/* Only when done. Borrowed while a reference is held. */
const struct answer *ask_answer(const struct ask *k);
DEFINE_SCOPE(struct ask *, ask_unref);
