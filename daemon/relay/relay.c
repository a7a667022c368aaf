/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - the server's end of a relay: start, head, read, write, wait, free.
 *
 * Owns      the relay from relay_start() to relay_free(); the transfer's reference.
 * Never     holds its lock while it calls fetch or wakes.
 * Threads   the connection's server thread.
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "relay/priv.h"

#include "common/banned.h"

/* What writes may take its time to answer; a read that does not begin by then will not (reliability U12). */
#define READ_FIRST_BYTE_MS 30000
#define WRITE_FIRST_BYTE_MS 120000
#define STALL_MS 60000
/* Of an app, which works as long as it likes, and may have nothing to say for as long. */
#define SPACE_MS 600000

struct relays *relays_new(const struct relays_opts *opts)
{
	struct relays *r = xcalloc(1, sizeof(*r));

	*r = (struct relays){ .fetch = opts->fetch, .metrics = opts->metrics, .clock = opts->clock };
	lock_init(&r->lock, LOCK_RELAY);
	shares_init(&r->places, RELAYS_MAX);
	return r;
}

void relays_free(struct relays *r)
{
	if (!r)
		return;
	/* what fetch has not ended yet does not look back */
	shares_done(&r->places);
	lock_done(&r->lock);
	free(r);
}

static bool take_place(struct relays *r, struct str who, bool *ret_is_wide)
{
	SCOPED_LOCK(&r->lock);

	if (!shares_take(&r->places, who))
		return false;
	*ret_is_wide = r->wide < RELAYS_WIDE;
	r->wide += *ret_is_wide;
	return true;
}

static void give_place(struct relays *r, struct str who, bool was_wide)
{
	SCOPED_LOCK(&r->lock);

	shares_give(&r->places, who);
	r->wide -= was_wide;
}

static struct relay *relay_new(struct relays *relays, const struct relay_query *q, bool is_wide)
{
	const size_t pipe_bytes = is_wide ? RELAY_WIDE_BYTES : RELAY_PIPE_BYTES;
	struct relay *r = xcalloc(1, sizeof(*r));
	struct str path, query;

	atomic_init(&r->refs, 2);
	r->relays = relays;
	r->is_wide = is_wide;
	r->who = (struct str){ str_dup(q->who), q->who.len };
	/* the query may be a signature */
	uri_split_target(q->target.len ? q->target : q->location, &path, &query);
	r->label = xasprintf("%s %.*s", q->method, STR_ARGS(path));
	r->has_body = q->has_body;
	r->content_length = -1;
	r->open_end = UINT64_MAX;
	headers_init(&r->headers);
	lock_init(&r->lock, LOCK_RELAY);
	waiters_init(&r->waiters);
	if (q->verify) {
		r->has_verify = true;
		verify_init(&r->verify, q);
		r->open_end = r->verify.body_bytes - r->verify.held_back;
	}
	/* what is held back must not fill the pipe */
	pipe_init(&r->down, pipe_bytes + (size_t)r->verify.held_back);
	pipe_init(&r->up, pipe_bytes);
	return r;
}

void relay_unref(struct relay *r)
{
	if (atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
		return;
	waiters_done(&r->waiters);
	lock_done(&r->lock);
	pipe_done(&r->down);
	pipe_done(&r->up);
	headers_done(&r->headers);
	verify_done(&r->verify);
	free(r->label);
	free((char *)(uintptr_t)r->who.ptr);
	free(r);
}

int relay_start(struct relays *relays, const struct relay_query *q, struct relay **ret_relay)
{
	struct relay *r;
	bool is_wide, is_read = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0;
	struct fetch_request request = {
		.method = q->method,
		.origin = q->origin,
		.target = q->target,
		.location = q->location,
		.location_headers = q->location_headers,
		.is_space = q->is_space,
		.headers = q->headers,
		.token = q->token,
		.who = q->who,
		.follow = q->follow,
		.first_byte_timeout_ms = q->is_space ? SPACE_MS
					 : is_read   ? READ_FIRST_BYTE_MS
						     : WRITE_FIRST_BYTE_MS,
		.stall_timeout_ms = q->is_space ? SPACE_MS : STALL_MS,
		.is_once = !is_read,
		.has_body = q->has_body,
		.expects_continue = q->expects_continue,
		.body_bytes = q->body_bytes,
	};

	assert(!q->verify || (strcmp(q->method, "GET") == 0 && !q->has_body));
	assert(!q->range.end ||
	       (q->verify && q->range.first < q->range.end && q->range.end <= q->verify->size));
	if (!take_place(relays, q->who, &is_wide))
		return -EUSERS;
	request.receive_bytes = is_wide ? RELAY_WIDE_BYTES : RELAY_RECEIVE_BYTES;
	*ret_relay = r = relay_new(relays, q, is_wide);
	return fetch_start(relays->fetch, &request, &relay_ops, r, &r->transfer);
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	lock_take(&r->lock);
	r->is_closed = true;
	lock_drop(&r->lock);
	give_place(r->relays, r->who, r->is_wide);
	if (r->filter)
		r->filter->free_ctx(TAKE_PTR(r->filter_ctx));
	r->filter = NULL;
	buf_done(&r->filtered);
	transfer_cancel(r->transfer);
	r->transfer = transfer_unref(r->transfer);
	relay_unref(r);
}

int relay_head(struct relay *r, int *ret_status, const struct headers **ret_headers,
	       int64_t *ret_content_length)
{
	SCOPED_LOCK(&r->lock);

	if (!r->has_head)
		return !r->is_done ? -EAGAIN : r->error ? r->error : -EPROTO;
	r->head_was_taken = true;
	*ret_status = r->status;
	*ret_headers = &r->headers;
	*ret_content_length = r->content_length;
	return 0;
}

int relay_refused_status(struct relay *r, bool *ret_is_hub)
{
	SCOPED_LOCK(&r->lock);

	*ret_is_hub = r->is_refused_by_hub;
	return r->refused_status;
}

/* How many bytes may come out now. */
static uint64_t readable_locked(const struct relay *r)
{
	uint64_t open = r->open_end > r->taken ? r->open_end - r->taken : 0;

	return r->down.len < open ? r->down.len : open;
}

static ssize_t read_locked(struct relay *r, void *bytes, size_t len_max, bool *ret_resume)
{
	uint64_t readable = readable_locked(r);
	size_t len = pipe_take(&r->down, bytes, readable < len_max ? (size_t)readable : len_max);

	r->taken += len;
	if (r->is_paused_down &&
	    pipe_free_room(&r->down) >= (r->is_wide ? RELAY_WIDE_BYTES : RELAY_PIPE_BYTES) / 2) {
		r->is_paused_down = false;
		*ret_resume = true;
	}
	if (len)
		return (ssize_t)len;
	return r->is_done ? r->error : -EAGAIN;
}

static ssize_t read_raw(struct relay *r, void *bytes, size_t len_max)
{
	bool must_resume = false;
	ssize_t len;

	assert(len_max > 0);
	lock_take(&r->lock);
	len = read_locked(r, bytes, len_max, &must_resume);
	lock_drop(&r->lock);
	if (must_resume)
		transfer_resume(r->transfer);
	return len;
}

#define FILTERED_PIECE 16384

void relay_set_filter(struct relay *r, const struct relay_filter *filter, void *take_ctx)
{
	assert(!r->filter && r->taken == 0);
	r->filter = filter;
	r->filter_ctx = take_ctx;
	buf_init(&r->filtered, filter->piece_bytes_max);
}

/* One more piece through the filter. Returns 0; -EAGAIN. */
static int filter_some(struct relay *r)
{
	char piece[FILTERED_PIECE];
	ssize_t n = read_raw(r, piece, sizeof(piece));

	if (n == -EAGAIN)
		return -EAGAIN;
	buf_reset(&r->filtered);
	r->filtered_at = 0;
	if (n > 0) {
		r->filter_error =
			r->filter->piece(r->filter_ctx, (struct str){ piece, (size_t)n }, &r->filtered);
	} else {
		r->filter_error = r->filter->end(r->filter_ctx, (int)n, &r->filtered);
		r->filter_error = n < 0 ? (int)n : r->filter_error;
	}
	r->is_filter_over = n <= 0 || r->filter_error < 0;
	return 0;
}

static ssize_t read_filtered(struct relay *r, void *bytes, size_t len_max)
{
	size_t left;

	while (r->filtered_at == r->filtered.len) {
		if (r->is_filter_over)
			return r->filter_error;
		if (filter_some(r) == -EAGAIN)
			return -EAGAIN;
	}
	left = r->filtered.len - r->filtered_at;
	if (len_max > left)
		len_max = left;
	memcpy(bytes, r->filtered.bytes + r->filtered_at, len_max);
	r->filtered_at += len_max;
	return (ssize_t)len_max;
}

ssize_t relay_read(struct relay *r, void *bytes, size_t len_max)
{
	return r->filter ? read_filtered(r, bytes, len_max) : read_raw(r, bytes, len_max);
}

/* Nobody will read more of the request's body: fetch stops sending when the answer is a refusal. */
static bool is_unwanted_locked(const struct relay *r)
{
	return r->is_done || !r->has_body || (r->has_head && r->status >= 400);
}

static ssize_t write_locked(struct relay *r, const void *bytes, size_t len, bool *ret_resume)
{
	size_t taken;

	assert(!r->is_up_ended);
	if (is_unwanted_locked(r))
		return -EPIPE;
	taken = pipe_put(&r->up, bytes, len);
	if (taken && r->is_paused_up) {
		r->is_paused_up = false;
		*ret_resume = true;
	}
	return taken || len == 0 ? (ssize_t)taken : -EAGAIN;
}

ssize_t relay_write(struct relay *r, const void *bytes, size_t len)
{
	bool must_resume = false;
	ssize_t taken;

	lock_take(&r->lock);
	taken = write_locked(r, bytes, len, &must_resume);
	lock_drop(&r->lock);
	if (must_resume)
		transfer_resume(r->transfer);
	return taken;
}

void relay_write_end(struct relay *r)
{
	bool must_resume;

	lock_take(&r->lock);
	r->is_up_ended = true;
	must_resume = r->is_paused_up;
	r->is_paused_up = false;
	lock_drop(&r->lock);
	if (must_resume)
		transfer_resume(r->transfer);
}

bool relay_wants_body(struct relay *r)
{
	SCOPED_LOCK(&r->lock);

	return r->is_body_wanted;
}

static bool has_news_locked(const struct relay *r, bool want_write)
{
	if (want_write)
		return is_unwanted_locked(r) || pipe_free_room(&r->up) > 0;
	if (r->is_done)
		return true;
	return r->has_head && (!r->head_was_taken || readable_locked(r) > 0);
}

bool relay_wait(struct relay *r, bool want_write, struct waiter *w)
{
	SCOPED_LOCK(&r->lock);

	if (has_news_locked(r, want_write))
		return false;
	waiters_add(&r->waiters, w); /* under the lock: news cannot slip in between */
	return true;
}
