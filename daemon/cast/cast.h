/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast - one answer of an inference server, heard by any number of ears while it comes.
 *
 * Equal calls at the same time are one call. The answer is held in memory from its beginning, so that who joins late hears
 * all of it; what is too long to be kept is passed on in constant memory, and nobody can join any more.
 *
 * Owns      the table of running casts by key; each one's answer so far, its transfer, the request's body.
 * Never     knows what an answer means: `filter` translates it, `ended` judges it and keeps it.
 * Threads   joined and heard by server threads; filled on the fetch thread; `ended` runs on a work thread.
 * Life      ASKING -> HEARD (its head has come) -> ENDING (`ended` runs) -> DONE. A cast that is DONE, or was broken, has left
 *           the table. What the filter calls whole is ENDING at once; its connection has a moment to end well by itself.
 * Promises  (1) one cast per key at a time; an empty key is shared by nobody.
 *           (2) every ear hears the whole answer in order, or an error on which its connection must be broken.
 *           (3) what `ended` keeps is kept before the last bytes are heard, and before another cast of its key can begin.
 *           (4) with no ear left upstream is let go at once; with finish_alone, as soon as its answer is too long to be kept.
 *           (5) of an answer at most answer_max and a piece are in memory; a slow ear then slows upstream down.
 */
#pragma once
#include "common/spool.h"
#include "common/waiter.h"
#include "common/work.h"
#include "fetch/fetch.h"

struct casts;
struct ear;

struct casts_opts {
	struct fetch *fetch;
	struct work *work;
	struct metrics *metrics;
	const struct clock *clock;
};
struct casts *casts_new(const struct casts_opts *opts);
/* Ends every cast and waits for what runs. */
void casts_free(struct casts *c);

/* Turns what a server says into what our client understands. All on the fetch thread; NULL: as it comes. */
struct cast_filter {
	/* May change both. Returns 0; -errno: the answer is refused with it. */
	int (*head)(void *ctx, int *status, struct headers *fields);
	/* Appends to out what the ears hear of this piece. Returns 0; 1 the answer is whole with it, the rest is not waited for;
	 * -errno breaks it. */
	int (*piece)(void *ctx, struct str piece, struct buf *out);
	/* It only looks: pieces pass as they are, so the length that upstream told is right. */
	bool keeps_pieces;
	/* After the last piece. Returns 0; -errno: what came is no whole answer. */
	int (*end)(void *ctx, struct buf *out);
	/* The server is not asked any more, however it ended; once, also without a head. Not when it joined. May be NULL. */
	void (*over)(void *ctx, int error);
};

struct cast_answer {
	int status;
	const struct headers *fields; /* after the filter */
	struct str body;              /* all of it */
	int64_t asked_at;             /* wall clock, seconds */
};

struct cast_query {
	struct str who; /* as in struct fetch_request */
	enum fetch_origin origin;
	const char *method;
	struct str target;
	const struct headers *fields;
	struct secret *token;
	struct spool *body; /* ended; a reference is taken; NULL: none */
	uint64_t first_byte_timeout_ms, stall_timeout_ms;
	uint64_t answer_max; /* bytes that may be kept */
	bool finish_alone;
	struct cast_filter filter;
	/* Work thread, once, if the answer came whole and no longer than answer_max; may be NULL. */
	void (*ended)(void *ctx, const struct cast_answer *a);
	void *ctx; /* of filter and ended; taken by cast_join() also when it joins or fails */
	void (*free_ctx)(void *ctx);
	/*
	 * Asked within cast_join(), when nobody else can begin a cast of this key any more: has the answer been kept
	 * meanwhile, so that none is needed? NULL: one is.
	 */
	bool (*is_answered)(void *asker);
	void *asker; /* borrowed for the call */
};
/*
 * Joins the cast of this key or begins one. Returns 0; -EALREADY it is answered; -E2BIG too many (4096; of one client its share,
 * common/shares.h). The ear is the caller's.
 * Who has joined what then proved to be answered hears -EALREADY instead of a head, and looks again.
 */
int cast_join(struct casts *c, struct str key, const struct cast_query *q, struct ear **ret_ear);
/* Only joins. The ear is the caller's; NULL: there is nothing to join. */
struct ear *cast_hear(struct casts *c, struct str key);
/* Did it join what others began? */
bool ear_has_joined(const struct ear *e);
/* Returns 0: the final head is there (borrowed for the ear's life); -EAGAIN; or why there will be none. content_length -1:
 * unknown. */
int ear_head(struct ear *e, int *ret_status, const struct headers **ret_fields, int64_t *ret_content_length);
/* Bytes: > 0; 0 the end; -EAGAIN; other: break the connection. */
ssize_t ear_read(struct ear *e, void *bytes, size_t len_max);
/*
 * All of an answer, without hearing it: for one that is short. Returns 0 with *ret, borrowed for the ear's life; -EAGAIN w hears of
 * what comes; -E2BIG it is longer; or why there is none. Only while nothing of it has been heard.
 */
int ear_peek(struct ear *e, size_t bytes_max, struct waiter *w, struct str *ret);
/* Registers w for news. false: there is some already. */
bool ear_wait(struct ear *e, struct waiter *w);
void ear_free(struct ear *e);
DEFINE_SCOPE(struct ear *, ear_free);
