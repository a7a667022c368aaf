/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast/priv - the room's inside: cast.c is the table and the ears, fill.c the side of the fetch thread.
 */
#pragma once
#include <stdatomic.h>

#include "cast/cast.h"
#include "common/clock.h"
#include "common/list.h"
#include "common/map.h"
#include "common/shares.h"

#define CASTS_MAX 4096
/* How long a connection may take to end by itself behind an answer that is whole: then it can be used again. */
#define CAST_LINGER_MS 250
/* What a slow ear may be behind before upstream is slowed down, once the answer is too long to be kept. */
#define CAST_WINDOW ((size_t)256 * 1024)

struct casts {
	struct fetch *fetch; /* borrowed, as the next three */
	struct work *work;
	struct metrics *metrics;
	const struct clock *clock;
	struct lock lock;     /* rank CASTS; never together with that of a cast */
	struct map *by_key;   /* key -> struct cast; guarded by lock */
	struct list all;      /* casts that are not over; guarded by lock */
	struct shares places; /* of casts that are not over; guarded by lock */
	bool is_stopping;     /* guarded by lock */
	pthread_cond_t quiet; /* all is empty */
};

struct cast {
	atomic_uint refs; /* one is the transfer's, until it is over; one for each ear */
	struct casts *casts;
	struct list node;       /* in casts->all; guarded by casts->lock */
	bool is_told_to_stop;   /* guarded by casts->lock */
	struct str key;         /* owned; empty: alone */
	struct str who;         /* owned: who began it */
	struct spool *request;  /* shared; NULL: none */
	uint64_t request_given; /* the fetch thread's */
	struct cast_filter filter;
	void (*ended)(void *ctx, const struct cast_answer *a);
	void (*free_ctx)(void *ctx);
	void *ctx; /* owned */
	uint64_t answer_max;
	bool finish_alone;
	int64_t asked_at;
	struct job job;
	_Atomic int halves; /* of its end that are still to come */

	struct lock lock;          /* rank CAST */
	struct transfer *transfer; /* shared; set once, guarded by lock; lives as long as the cast */
	bool has_head, is_cancelled, is_paused;
	bool is_whole;    /* all of it came; `ended` may still run */
	bool is_ending;   /* that was heard before the transfer was over: its end is not waited for */
	bool is_done;     /* the ears may hear the end */
	bool is_too_long; /* its beginning is forgotten as it is heard */
	int error, status;
	int64_t content_length;
	struct headers fields; /* constant after has_head */
	uint64_t base;         /* offset of body's first byte in the answer */
	struct buf body;
	uint64_t open_end; /* what may be heard; the rest waits for `ended` */
	struct list ears;
	struct waiters waiters;
};

struct ear {
	struct list node;            /* in cast->ears; guarded by its lock */
	struct cast *cast;           /* a reference */
	uint64_t offset;             /* guarded by its lock */
	bool has_joined, knows_head; /* the server thread's */
};

/* fill.c */
extern const struct fetch_ops cast_ops;
/* What is behind the slowest ear goes, once the answer is too long. Returns whether upstream is to be resumed. */
bool cast_trim_locked(struct cast *c);

/* cast.c */
struct cast *cast_ref(struct cast *c);
void cast_unref(struct cast *c);
/* Nobody can join it any more. */
void cast_leave_table(struct cast *c);
/* Twice, when the end has begun: the transfer is over, `ended` has run. With the second its reference goes. */
void cast_half_over(struct cast *c);
/* Both at once. */
void cast_over(struct cast *c);
