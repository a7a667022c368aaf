/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call - the calls upstream of one ask: the first, one more if that is worth it, and those that carry a body
 *        along a redirect.
 *
 * Never     calls again without time left, or anything but GET and HEAD; decodes a body.
 * Threads   ask_call(): the starting thread, later the fetch thread; the ops: fetch thread.
 * Promises  (2) and (3) of the door: each attempt gets the time that is left as its total limit.
 */
#include <assert.h>
#include <errno.h>

#include "ask/priv.h"
#include "common/http/date.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define RETRY_WAIT_MS 200
/* A second try that has less than this is a waste of everybody's time. */
#define RETRY_TIME_MIN_MS 300

static uint64_t time_left(const struct ask *k)
{
	uint64_t now = clock_mono_ms(k->asks->clock);

	return k->deadline_mono_ms > now ? k->deadline_mono_ms - now : 0;
}

static void forget_answer(struct ask *k)
{
	struct answer *answer = &k->answer;

	headers_done(&answer->first);
	headers_done(&answer->last);
	buf_reset(&answer->body);
	answer->status = answer->first_status = answer->error = 0;
	answer->content_length = -1;
}

/* --- ops ------------------------------------------------------------------------------------------------ */

static int on_head(void *ctx, const struct fetch_head *head)
{
	struct ask *k = ctx;

	if (k->answer.first_status == 0) {
		k->answer.first_status = head->status;
		headers_copy(&k->answer.first, head->headers);
	}
	if (!head->is_final)
		return 0;
	k->answer.status = head->status;
	k->answer.content_length = head->content_length;
	headers_copy(&k->answer.last, head->headers);
	return 0;
}

static ssize_t on_body(void *ctx, const void *bytes, size_t len)
{
	struct ask *k = ctx;

	return buf_append(&k->answer.body, bytes, len);
}

static ssize_t on_need_body(void *ctx, void *bytes, size_t len_max)
{
	struct ask *k = ctx;
	struct str body = buf_str(&k->request_body);
	size_t left = body.len - k->body_given;
	size_t len = left < len_max ? left : len_max;

	memcpy(bytes, body.ptr + k->body_given, len);
	k->body_given += len;
	return (ssize_t)len;
}

/* --- again? --------------------------------------------------------------------------------------------- */

static bool is_worth_retrying(const struct ask *k, int error)
{
	int status = k->answer.status;
	int64_t asked_wait = -1;
	struct str retry_after = headers_get(&k->answer.last, STR("Retry-After"));

	if (strcmp(k->method, "GET") != 0 && strcmp(k->method, "HEAD") != 0)
		return false;
	if (error)
		return error == -ECONNRESET;
	if (status != 500 && status != 502 && status != 503 && status != 504)
		return false;
	if (retry_after.ptr)
		asked_wait = retry_after_ms(retry_after, clock_wall_s(k->asks->clock), INT32_MAX);
	return asked_wait <= RETRY_WAIT_MS; /* also when it is malformed */
}

static bool will_retry(struct ask *k, int error)
{
	return k->attempts == 1 && time_left(k) >= RETRY_WAIT_MS + RETRY_TIME_MIN_MS &&
	       is_worth_retrying(k, error) && !asks_stopping(k->asks);
}

/*
 * fetch follows no redirect of a request with a body; but this body is still here, and renamed repos answer
 * 307 to a paths-info POST (hub-protocol 5.3). Only to the Hub itself. Returns true with the new target.
 */
static bool will_replay(struct ask *k)
{
	struct str location = headers_get(&k->answer.last, STR("Location"));
	SCOPED_BUF base = { 0 }, url = { 0 };
	struct origin origin;
	struct str target;

	if (!k->has_body || k->origin != FETCH_HUB || k->follow == FETCH_FOLLOW_NONE || location.len == 0 ||
	    k->replays >= ASK_REPLAYS_MAX)
		return false;
	if ((k->answer.status != 307 && k->answer.status != 308) || asks_stopping(k->asks))
		return false;
	buf_init(&base, 2 * k->target.bytes_max);
	buf_init(&url, k->target.bytes_max);
	origin = *fetch_hub_origin(k->asks->fetch);
	(void)buf_appendf(&base, "http%s://%s:%u", origin.is_tls ? "s" : "", origin.host, origin.port);
	(void)buf_append_str(&base, buf_str(&k->target));
	(void)str_cut(location, '#', &location, &target);
	if (buf_error(&base) || uri_resolve(buf_str(&base), location, &url) < 0 ||
	    origin_parse(buf_str(&url), &origin, &target) < 0 ||
	    !origin_eq(&origin, fetch_hub_origin(k->asks->fetch)))
		return false;
	buf_reset(&k->target);
	return buf_append_str(&k->target, target) == 0;
}

static void call_again(void *ctx)
{
	struct ask *k = ctx;

	forget_answer(k);
	ask_call(k);
}

/* --- the end of an attempt ------------------------------------------------------------------------------ */

static bool is_coded(const struct headers *h)
{
	struct str coding = str_trim(headers_get(h, STR("Content-Encoding")));

	return coding.len && !str_eq_nocase(coding, STR("identity"));
}

/* The attempt is over: whatever is put down for it from now on is late. */
static struct transfer *take_transfer(struct ask *k)
{
	SCOPED_LOCK(&k->lock);

	k->attempts_over++;
	return TAKE_PTR(k->transfer);
}

static void on_done(void *ctx, int error)
{
	struct ask *k = ctx;

	transfer_unref(take_transfer(k));
	if (will_retry(k, error)) {
		metrics_inc(k->asks->metrics, METRIC_UPSTREAM_RETRIES);
		fetch_call(k->asks->fetch, RETRY_WAIT_MS, call_again, k);
		return;
	}
	if (error == 0 && will_replay(k)) {
		k->replays++;
		call_again(k);
		return;
	}
	if (error == 0 && is_coded(&k->answer.last))
		error = -EPROTO; /* identity was asked for, and nothing here decodes */
	k->answer.error = error;
	k->answer.wait_ms =
		error == -EBUSY ? fetch_busy_ms(k->asks->fetch, k->origin, buf_str(&k->target), k->token) : 0;
	ask_answered(k);
}

static const struct fetch_ops ask_ops = {
	.on_head = on_head,
	.on_body = on_body,
	.on_need_body = on_need_body,
	.on_done = on_done,
};

/* Puts the transfer down for asks_free() to find, unless on_done was quicker. Takes the reference. */
static void keep_transfer(struct ask *k, struct transfer *t, unsigned attempt)
{
	lock_take(&k->lock);
	if (k->attempts_over < attempt)
		k->transfer = TAKE_PTR(t);
	lock_drop(&k->lock);
	transfer_unref(t);
	if (asks_stopping(k->asks))
		ask_cancel(k); /* it came too late for asks_free() */
}

void ask_call(struct ask *k)
{
	uint64_t left = time_left(k);
	struct fetch_request request = {
		.method = k->method,
		.who = k->who,
		.origin = k->origin,
		.target = buf_str(&k->target),
		.headers = &k->headers,
		.token = k->token,
		.follow = k->follow,
		.is_background = k->is_background,
		.first_byte_timeout_ms = left ? left : 1,
		.stall_timeout_ms = left ? left : 1,
		.total_timeout_ms = left ? left : 1,
		.has_body = k->has_body,
		.body_bytes = (int64_t)k->request_body.len,
		.body_bytes_max = k->answer_bytes_max,
	};
	unsigned attempt = ++k->attempts;
	struct transfer *t = NULL;

	k->body_given = 0;
	(void)fetch_start(k->asks->fetch, &request, &ask_ops, k, &t); /* failures come through on_done */
	keep_transfer(k, t, attempt);
}
