/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer/chain - what a backend says, translated, and then heard by whoever would have heard upstream.
 *
 * Threads   fetch; chain_put() and the end: any.
 * Promises  (1) the backend's place is free as soon as it is not asked any more, and it hears once how the call went.
 */
#include "infer/priv.h"

#include "common/alloc.h"

#define TRANSLATED_MAX ((size_t)128 << 20)

struct chain {
	struct adapted *adapted; /* owned */
	struct slot *slot;       /* owned until the call is over */
	char commit[41];
	int status;
	struct buf translated;
	struct cast_filter outer;
	void (*ended)(void *ctx, const struct cast_answer *a);
	void (*free_ctx)(void *ctx);
	void *ctx;
};

static int chain_head(void *ctx, int *status, struct headers *fields)
{
	struct chain *x = ctx;

	x->status = *status;
	adapt_head(x->adapted, *status, fields);
	if (x->commit[0] && !headers_get(fields, STR("X-Sha")).len)
		(void)headers_set(fields, STR("X-Sha"), str_from(x->commit));
	return x->outer.head ? x->outer.head(x->ctx, status, fields) : 0;
}

/* Hands on what has been translated. */
static int hand_on(struct chain *x, struct buf *out)
{
	int r = 0;

	if (x->translated.len)
		r = x->outer.piece ? x->outer.piece(x->ctx, buf_str(&x->translated), out)
				   : buf_append_str(out, buf_str(&x->translated));
	buf_reset(&x->translated);
	return r;
}

static int chain_piece(void *ctx, struct str piece, struct buf *out)
{
	struct chain *x = ctx;
	int r = adapt_piece(x->adapted, piece, &x->translated);

	return r < 0 ? r : hand_on(x, out);
}

static int chain_end(void *ctx, struct buf *out)
{
	struct chain *x = ctx;
	int r = adapt_end(x->adapted, &x->translated);

	if (r == 0)
		r = hand_on(x, out);
	if (r < 0 || r == 1)
		return r < 0 ? r : 0;
	return x->outer.end ? x->outer.end(x->ctx, out) : 0;
}

static void chain_over(void *ctx, int error)
{
	struct chain *x = ctx;

	slot_done(TAKE_PTR(x->slot), error, error ? 0 : x->status);
	if (x->outer.over)
		x->outer.over(x->ctx, error);
}

static void chain_ended(void *ctx, const struct cast_answer *a)
{
	struct chain *x = ctx;

	x->ended(x->ctx, a);
}

static void chain_free(void *ctx)
{
	struct chain *x = ctx;

	slot_done(x->slot, 0, 0); /* it joined, or never began */
	adapted_free(x->adapted);
	buf_done(&x->translated);
	if (x->free_ctx)
		x->free_ctx(x->ctx);
	free(x);
}

void chain_put(struct adapted *take_adapted, struct slot *take_slot, const char commit[41],
	       struct cast_query *query)
{
	struct chain *x = xcalloc(1, sizeof(*x));

	x->adapted = take_adapted;
	x->slot = take_slot;
	memcpy(x->commit, commit, sizeof(x->commit));
	x->outer = query->filter;
	x->ended = query->ended;
	x->free_ctx = query->free_ctx;
	x->ctx = query->ctx;
	buf_init(&x->translated, TRANSLATED_MAX);
	query->filter = (struct cast_filter){
		.head = chain_head, .piece = chain_piece, .end = chain_end, .over = chain_over
	};
	query->ended = x->ended ? chain_ended : NULL;
	query->free_ctx = chain_free;
	query->ctx = x;
}
