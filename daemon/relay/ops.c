/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops - fetch's end of a relay.
 *
 * Threads   fetch; takes the relay's lock for the pipes only, and wakes outside of it.
 * Promises  (1) of the door: open_end moves past what is held back in on_done(), after the digest matched.
 */
#include <errno.h>

#include "common/log.h"
#include "relay/priv.h"

#include "common/banned.h"

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct relay *r = ctx;
	int error = r->has_verify ? verify_head(&r->verify, head) : 0;

	if (error == 0 && !head->is_final)
		return 0;
	lock_take(&r->lock);
	if (error) {
		r->refused_status = head->status >= 400 ? head->status : 0;
		r->is_refused_by_hub = head->is_hub_origin;
		lock_drop(&r->lock);
		return error;
	}
	r->status = head->status;
	r->content_length = head->content_length;
	headers_copy(&r->headers, head->headers);
	r->has_head = true;
	lock_drop(&r->lock);
	waiters_wake_all(&r->waiters);
	return 0;
}

/* Returns 0, FETCH_PAUSE, or that nobody wants it any more. */
static ssize_t put_down(struct relay *r, const void *bytes, size_t len)
{
	SCOPED_LOCK(&r->lock);

	if (r->is_closed)
		return -ECANCELED;
	if (pipe_put_all(&r->down, bytes, len))
		return 0;
	r->is_paused_down = true;
	return FETCH_PAUSE;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct relay *r = ctx;
	ssize_t result;

	if (r->has_verify && len > r->verify.body_bytes - r->verify.received)
		return -EBADMSG;
	result = put_down(r, bytes, len);
	if (result < 0)
		return result;
	if (r->has_verify)
		result = verify_body(&r->verify, bytes, len);
	waiters_wake_all(&r->waiters);
	return result;
}

static ssize_t take_up(struct relay *r, void *bytes, size_t len_max, bool *ret_is_first)
{
	SCOPED_LOCK(&r->lock);
	size_t len;

	*ret_is_first = !r->is_body_wanted;
	r->is_body_wanted = true;
	if (r->is_closed)
		return -ECANCELED;
	len = pipe_take(&r->up, bytes, len_max);
	if (len || r->is_up_ended)
		return (ssize_t)len;
	r->is_paused_up = true;
	return FETCH_PAUSE;
}

static ssize_t on_need_body(void *ctx, void *bytes, size_t len_max)
{
	struct relay *r = ctx;
	bool is_first;
	ssize_t len = take_up(r, bytes, len_max, &is_first);

	if (len > 0 || is_first)
		waiters_wake_all(&r->waiters);
	return len;
}

static void on_done(void *ctx, int error)
{
	struct relay *r = ctx;

	if (error == 0 && r->has_verify)
		error = verify_end(&r->verify);
	if (error == -EBADMSG)
		log_warning("relay", "upstream sent something else than was promised: cut off",
			    LOG_TEXT("what", r->label), LOG_END);
	lock_take(&r->lock);
	r->error = error;
	r->is_done = true;
	if (error == 0)
		r->open_end = UINT64_MAX;
	lock_drop(&r->lock);
	waiters_wake_all(&r->waiters);
	relay_unref(r);
}

const struct fetch_ops relay_ops = {
	.on_head = on_head,
	.on_body = on_body,
	.on_need_body = on_need_body,
	.on_done = on_done,
};
