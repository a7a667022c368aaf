/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask/priv - the room's inside: ask.c is the table and the waiting, call.c the calls upstream.
 */
#pragma once
#include <stdatomic.h>

#include "ask/ask.h"
#include "common/clock.h"
#include "common/map.h"

struct asks {
	struct fetch *fetch;       /* borrowed */
	struct work *work;         /* borrowed */
	struct metrics *metrics;   /* borrowed */
	const struct clock *clock; /* borrowed */
	struct lock lock;          /* rank ASK; never together with that of an ask */
	struct map *running; /* key -> struct ask, borrowed from the asks' own reference; guarded by lock */
	unsigned count;      /* of asks that are not DONE; guarded by lock */
	bool is_stopping;    /* guarded by lock */
	pthread_cond_t all_done;
};

/* Replays of a body after a redirect; as many as fetch follows. */
#define ASK_REPLAYS_MAX 5

struct ask {
	atomic_uint refs;  /* one is the running call's, until DONE */
	struct asks *asks; /* borrowed until DONE */
	struct str key;    /* owned */

	/* the question, copied */
	char *method;   /* owned */
	struct str who; /* owned: who asked first */
	enum fetch_origin origin;
	struct buf target;
	struct headers headers;
	struct secret *token; /* shared */
	struct buf request_body;
	bool has_body;
	enum fetch_follow follow;
	bool is_background;
	uint64_t answer_bytes_max, deadline_mono_ms;
	int (*learn)(void *ctx, const struct answer *answer);
	void (*free_ctx)(void *ctx);
	void *learn_ctx; /* owned until learn has run */
	struct job job;

	/* the fetch thread's until LEARNING, the work thread's until DONE, constant afterwards */
	struct answer answer;
	unsigned attempts, replays;
	size_t body_given;

	struct lock lock;          /* rank ASK */
	bool is_done;              /* guarded by lock */
	unsigned attempts_over;    /* guarded by lock */
	struct transfer *transfer; /* of the running attempt, shared; guarded by lock */
	struct waiters waiters;
};

/* call.c */
void ask_call(struct ask *k);

/* ask.c */
bool asks_stopping(struct asks *a);
/* Cancels the running attempt, if there is one. */
void ask_cancel(struct ask *k);
/* The last attempt has ended: learn, then wake. */
void ask_answered(struct ask *k);
