/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hop - what happens while a hop runs: its address, its head, its bodies. Called by the trampolines in easy.c.
 *
 * Never     ends the transfer: it returns an error, leaves the reason in t->error, and libcurl ends the hop.
 * Threads   fetch, inside libcurl: nothing here may add, remove or continue a handle; that comes by mail.
 * Promises  (1) after transfer_cancel() was called on this thread the only op that still comes is on_done.
 *           (2) the redirect's own body is read (so that the connection can be used again) up to 64 KiB, and dropped.
 */
#include <assert.h>
#include <errno.h>

#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define DRAINED_BYTES_MAX 65536

int transfer_check_address(struct transfer *t, const struct sockaddr *sa, socklen_t len)
{
	struct address to;

	if (address_from_socket(sa, len, &to) < 0 || !redirect_address_ok(&t->home->rules, &t->origin, &to)) {
		t->sockets_refused++;
		return -EACCES;
	}
	t->sockets_opened++;
	return 0;
}

void transfer_note_connected(struct transfer *t)
{
	t->is_connected = true;
}

/* --- the answer's head ---------------------------------------------------------------------------------- */

static int report_head(struct transfer *t)
{
	struct fetch_head head = {
		.status = t->head.status,
		.headers = &t->head.headers,
		.hop = t->hop,
		.is_final = !t->has_next,
		.is_hub_origin = transfer_is_home_hop(t),
		.content_length = t->content_length,
	};
	int r;

	if (atomic_load(&t->is_cancelled))
		return -ECANCELED;
	r = t->ops.on_head ? t->ops.on_head(t->ctx, &head) : 0;
	return r > 0 ? -ECANCELED : r;
}

static void count_answer(struct transfer *t)
{
	if (t->home->is_backend) {
		metrics_add(t->fetch->metrics, METRIC_BACKEND_REQUESTS, metric_code(t->head.status), 0, 0, 1);
		if (origin_eq(&t->origin, &t->home->rules.hub))
			health_note_answer(t->home, t->head.status);
		return;
	}
	metrics_add(t->fetch->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(t->head.status), 0, 0, 1);
	if (t->head.status == 429)
		metrics_inc(t->fetch->metrics, METRIC_UPSTREAM_RATE_LIMITED);
	if (!origin_eq(&t->origin, &t->home->rules.hub))
		return;
	if (!t->is_own)
		health_note_answer(t->home, t->head.status); /* a probe's owner does it */
	transfer_tell_governor(t);
}

/* Returns 1 it will be followed; 0 it is the final answer; -errno. */
static int decide_redirect(struct transfer *t)
{
	struct redirect_facts facts = {
		.method = t->method,
		.follow = t->follow,
		.has_body = t->has_body,
		.status = t->head.status,
		.hop = t->hop,
		.base_url = buf_str(&t->url),
		.location = headers_get(&t->head.headers, STR("Location")),
	};
	int r;

	if (headers_count_of(&t->head.headers, STR("Location")) > 1)
		return -EPROTO;
	buf_reset(&t->next_url);
	r = redirect_decide(&t->home->rules, &facts, &t->next_url, &t->next_origin);
	if (r == -EACCES)
		log_refused_location(facts.location);
	return r;
}

static int take_head(struct transfer *t)
{
	int r;

	t->has_head = true;
	count_answer(t);
	r = head_content_length(&t->head, &t->content_length);
	if (r < 0)
		return r;
	r = decide_redirect(t);
	if (r < 0)
		return r;
	t->has_next = r == 1;
	t->is_final = !t->has_next;
	if (t->is_final)
		t->since_mono_ms = t->pace_mono_ms = t->fetch->now;
	/* libcurl stops sending after a refusal, but goes on waiting for a body that was paused */
	if (t->is_final && t->is_paused_up && t->head.status >= 400)
		transfer_resume(t);
	r = report_head(t);
	if (r == 0 && t->is_final && t->body_bytes_max && t->content_length > 0 &&
	    strcmp(t->method, "HEAD") != 0 && (uint64_t)t->content_length > t->body_bytes_max)
		r = -E2BIG;
	return r;
}

int transfer_take_line(struct transfer *t, struct str line)
{
	int r = t->error ? t->error : head_line(&t->head, line);

	if (r == 1)
		r = take_head(t);
	if (r < 0 && !t->error)
		t->error = r;
	return r;
}

/* --- bodies --------------------------------------------------------------------------------------------- */

static ssize_t take_final_body(struct transfer *t, const void *bytes, size_t len)
{
	ssize_t r = 0;

	if (t->body_bytes_max && t->received_bytes + len > t->body_bytes_max)
		return -E2BIG;
	if (t->ops.on_body)
		r = t->ops.on_body(t->ctx, bytes, len);
	t->is_paused_down = r == FETCH_PAUSE;
	if (t->is_paused_down)
		return r; /* they come again */
	t->received_bytes += len;
	t->since_mono_ms = t->fetch->now;
	metrics_add(t->fetch->metrics,
		    t->home->is_backend ? METRIC_BACKEND_RECEIVED : METRIC_UPSTREAM_RECEIVED, 0, 0, 0, len);
	return r < 0 ? r : 0;
}

ssize_t transfer_take_body(struct transfer *t, const void *bytes, size_t len)
{
	ssize_t r;

	if (t->error)
		return t->error;
	if (t->has_next) {
		t->drained_bytes += len;
		/* t->error stays 0: the next hop comes anyway */
		return t->drained_bytes > DRAINED_BYTES_MAX ? -E2BIG : 0;
	}
	r = atomic_load(&t->is_cancelled) ? -ECANCELED : take_final_body(t, bytes, len);
	if (r < 0 && r != FETCH_PAUSE)
		t->error = (int)r;
	return r;
}

/* Asks the op for as much as is still owed: a client that sends less, or more, must not end well. */
static ssize_t give_some(struct transfer *t, void *bytes, size_t len_max)
{
	uint64_t owed = t->body_bytes >= 0 ? (uint64_t)t->body_bytes - t->sent_bytes : UINT64_MAX;
	ssize_t r;

	if (owed == 0)
		return 0;
	r = t->ops.on_need_body(t->ctx, bytes, len_max < owed ? len_max : (size_t)owed);
	if (r == 0 && t->body_bytes >= 0)
		return -ECANCELED;
	return r;
}

ssize_t transfer_give_body(struct transfer *t, void *bytes, size_t len_max)
{
	ssize_t r;

	if (t->error)
		return t->error;
	if (!t->has_body)
		return 0;
	r = atomic_load(&t->is_cancelled) ? -ECANCELED : give_some(t, bytes, len_max);
	t->is_paused_up = r == FETCH_PAUSE;
	if (r == FETCH_PAUSE)
		return r;
	if (r < 0) {
		t->error = (int)r;
		return r;
	}
	assert((size_t)r <= len_max);
	t->sent_bytes += (uint64_t)r;
	t->is_body_sent = r == 0 || (t->body_bytes >= 0 && t->sent_bytes == (uint64_t)t->body_bytes);
	t->since_mono_ms = t->fetch->now;
	return r;
}
