/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cast/fill - the side of the fetch thread: the head, the pieces through the filter, the end.
 *
 * The last piece is held back until `ended` has run: of an answer whose length is told its last byte, of others what the
 * filter called the end. A stream that ends without such a mark is heard whole, its end is held back.
 * Threads   fetch; ended_job() on a work thread.
 */
#include <errno.h>

#include "cast/priv.h"

#include "common/banned.h"

static void wake(struct cast *c)
{
	waiters_wake_all(&c->waiters);
}

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct cast *c = ctx;
	struct headers fields;
	int status = head->status, r = 0;

	if (!head->is_final)
		return 0;
	headers_init(&fields);
	headers_copy(&fields, head->headers);
	if (c->filter.head)
		r = c->filter.head(c->ctx, &status, &fields);
	lock_take(&c->lock);
	headers_done(&c->fields);
	c->fields = fields;
	c->status = status;
	c->content_length = c->filter.piece && !c->filter.keeps_pieces ? -1 : head->content_length;
	c->has_head = r == 0;
	lock_drop(&c->lock);
	wake(c);
	return r;
}

static uint64_t slowest_locked(const struct cast *c)
{
	uint64_t least = c->base + c->body.len;

	LIST_EACH(node, &c->ears) {
		const struct ear *e = LIST_ENTRY(node, struct ear, node);

		if (e->offset < least)
			least = e->offset;
	}
	return least;
}

/* What was gathered to be kept is not needed any more, and may have been a lot. */
static void shrink_locked(struct cast *c)
{
	struct buf rest;

	if (c->body.room <= 4 * CAST_WINDOW || c->body.len > CAST_WINDOW)
		return;
	buf_init(&rest, c->body.bytes_max);
	(void)buf_append_str(&rest, buf_str(&c->body)); /* fits: it has the same limit */
	buf_done(&c->body);
	c->body = rest;
}

bool cast_trim_locked(struct cast *c)
{
	uint64_t least = slowest_locked(c);
	size_t gone = (size_t)(least - c->base);

	if (!c->is_too_long)
		return false;
	/* moving costs: not for every few bytes */
	if (gone >= CAST_WINDOW / 4 || (gone > 0 && gone == c->body.len)) {
		memmove(c->body.bytes, c->body.bytes + gone, c->body.len - gone);
		c->body.len -= gone;
		c->base = least;
		shrink_locked(c);
	}
	if (!c->is_paused || c->body.len >= CAST_WINDOW / 2)
		return false;
	c->is_paused = false;
	return true;
}

/* Returns 0, FETCH_PAUSE or -errno; *ret_is_whole as the filter said. */
static ssize_t take_piece_locked(struct cast *c, struct str piece, bool *ret_is_whole)
{
	int r;

	if (c->is_too_long && list_is_empty(&c->ears))
		return -ECANCELED; /* it was to be kept, and cannot be */
	if (c->is_too_long && c->body.len >= CAST_WINDOW) {
		c->is_paused = true;
		return FETCH_PAUSE;
	}
	r = c->filter.piece ? c->filter.piece(c->ctx, piece, &c->body) : buf_append_str(&c->body, piece);
	if (r < 0)
		return r;
	*ret_is_whole = r == 1;
	if (!c->is_too_long && c->base + c->body.len > c->answer_max)
		c->is_too_long = true;
	return 0;
}

static bool is_last_locked(const struct cast *c)
{
	return c->content_length >= 0 && c->base + c->body.len >= (uint64_t)c->content_length;
}

static void ended_job(struct job *job)
{
	struct cast *c = LIST_ENTRY(job, struct cast, job);
	struct cast_answer answer = { .status = c->status, .fields = &c->fields, .asked_at = c->asked_at };

	/* nothing is appended any more, and nothing is forgotten of what is not too long */
	if (c->ended && !c->is_too_long) {
		answer.body = buf_str(&c->body);
		c->ended(c->ctx, &answer);
	}
	cast_leave_table(c);
	lock_take(&c->lock);
	c->open_end = UINT64_MAX;
	c->is_done = true;
	lock_drop(&c->lock);
	wake(c);
	cast_half_over(c);
}

/* All of it came. */
static void begin_end(struct cast *c)
{
	c->job.run = ended_job;
	work_submit(c->casts->work, &c->job);
}

/* Servers that say nothing more, and do not end either, are let go. */
static void let_go(void *ctx)
{
	struct cast *c = ctx;
	struct transfer *t;

	lock_take(&c->lock);
	t = c->transfer;
	lock_drop(&c->lock);
	if (t)
		transfer_cancel(t);
	cast_unref(c);
}

/* The terminator has come: who hears it need not wait for the connection, which may be used again when it ends well. */
static void end_early(struct cast *c)
{
	begin_end(c);
	fetch_call(c->casts->fetch, CAST_LINGER_MS, let_go, cast_ref(c));
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct cast *c = ctx;
	bool is_whole = false;
	uint64_t before;
	ssize_t r;

	lock_take(&c->lock);
	if (c->is_whole) {
		lock_drop(&c->lock);
		return 0; /* behind the end */
	}
	before = c->base + c->body.len;
	r = take_piece_locked(c, (struct str){ bytes, len }, &is_whole);
	if (r == 0 && is_whole) {
		c->is_whole = c->is_ending = true;
		c->open_end = before;
	} else if (r == 0 && is_last_locked(c)) {
		c->open_end = c->base + c->body.len - 1;
	}
	lock_drop(&c->lock);
	if (r == 0)
		wake(c);
	if (r == 0 && is_whole)
		end_early(c);
	return r;
}

static ssize_t on_need_body(void *ctx, void *bytes, size_t len_max)
{
	struct cast *c = ctx;
	ssize_t n = c->request ? spool_read(c->request, c->request_given, bytes, len_max) : 0;

	if (n > 0)
		c->request_given += (uint64_t)n;
	return n;
}

static int finish_filter_locked(struct cast *c, int error)
{
	size_t before = c->body.len;

	if (error || !c->has_head)
		return error ? error : -EPROTO;
	if (c->filter.end)
		error = c->filter.end(c->ctx, &c->body);
	if (error == 0 && c->body.len > before)
		c->open_end = c->base + before;
	c->is_whole = error == 0;
	return error;
}

static void on_done(void *ctx, int error)
{
	struct cast *c = ctx;
	bool is_ending;

	lock_take(&c->lock);
	is_ending = c->is_ending;
	if (!is_ending)
		c->error = finish_filter_locked(c, error);
	error = c->error;
	lock_drop(&c->lock);
	if (c->filter.over)
		c->filter.over(c->ctx, error);
	if (error == 0) {
		if (!is_ending)
			begin_end(c);
		cast_half_over(c);
		return;
	}
	cast_leave_table(c);
	lock_take(&c->lock);
	c->open_end = UINT64_MAX;
	c->is_done = true;
	lock_drop(&c->lock);
	wake(c);
	cast_over(c);
}

const struct fetch_ops cast_ops = {
	.on_head = on_head,
	.on_body = on_body,
	.on_need_body = on_need_body,
	.on_done = on_done,
};
