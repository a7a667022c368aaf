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

struct relays *relays_new(const struct relays_opts *opts)
{
	struct relays *r = xcalloc(1, sizeof(*r));

	*r = (struct relays){ .fetch = opts->fetch, .metrics = opts->metrics, .clock = opts->clock };
	return r;
}

void relays_free(struct relays *r)
{
	free(r); /* running ones do not look back */
}

static struct relay *relay_new(const struct relay_query *q)
{
	struct relay *r = xcalloc(1, sizeof(*r));
	struct str path, query;

	atomic_init(&r->refs, 2);
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
	pipe_init(&r->down, RELAY_PIPE_BYTES + (size_t)r->verify.held_back);
	pipe_init(&r->up, RELAY_PIPE_BYTES);
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
	free(r);
}

int relay_start(struct relays *relays, const struct relay_query *q, struct relay **ret_relay)
{
	struct relay *r = relay_new(q);
	bool is_read = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0;
	struct fetch_request request = {
		.method = q->method,
		.origin = q->origin,
		.target = q->target,
		.location = q->location,
		.location_headers = q->location_headers,
		.headers = q->headers,
		.token = q->token,
		.follow = q->follow,
		.first_byte_timeout_ms = is_read ? READ_FIRST_BYTE_MS : WRITE_FIRST_BYTE_MS,
		.stall_timeout_ms = STALL_MS,
		.is_once = !is_read,
		.has_body = q->has_body,
		.expects_continue = q->expects_continue,
		.body_bytes = q->body_bytes,
	};

	assert(!q->verify || (strcmp(q->method, "GET") == 0 && !q->has_body));
	assert(!q->range.end ||
	       (q->verify && q->range.first < q->range.end && q->range.end <= q->verify->size));
	*ret_relay = r;
	return fetch_start(relays->fetch, &request, &relay_ops, r, &r->transfer);
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	lock_take(&r->lock);
	r->is_closed = true;
	lock_drop(&r->lock);
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
	if (r->is_paused_down && pipe_free_room(&r->down) >= RELAY_PIPE_BYTES / 2) {
		r->is_paused_down = false;
		*ret_resume = true;
	}
	if (len)
		return (ssize_t)len;
	return r->is_done ? r->error : -EAGAIN;
}

ssize_t relay_read(struct relay *r, void *bytes, size_t len_max)
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
