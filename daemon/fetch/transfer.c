/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer - the life of one transfer, hop by hop.
 *
 * Owns      what was asked, the time limits, the way from one hop to the next.
 * Never     touches a transfer that is not active; calls on_done twice.
 * Threads   all on the fetch thread, but ref and unref.
 * Life      mailed -> active -> (hop ended -> next hop)* -> done. Each way out leads through transfer_end().
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define URL_BYTES_MAX 65536

struct transfer *transfer_ref(struct transfer *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

struct transfer *transfer_unref(struct transfer *t)
{
	if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return NULL;
	assert(t->magic == TRANSFER_MAGIC && !t->easy && !t->fields && !t->is_active);
	free(t->method);
	free(t->first_target);
	headers_done(&t->headers);
	(void)secret_unref(t->token);
	buf_done(&t->url);
	buf_done(&t->next_url);
	head_done(&t->head);
	fetch_unref(t->fetch);
	t->magic = 0;
	free(t);
	return NULL;
}

/* A token is sent to the Hub's exact origin, and not any more once the road went through another. */
bool transfer_is_hub_hop(const struct transfer *t)
{
	return !t->has_left_hub && origin_eq(&t->origin, &t->fetch->rules.hub);
}

/* --- begin and end -------------------------------------------------------------------------------------- */

static bool method_is_known(const char *method)
{
	static const char *const known[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(method, known[i]) == 0)
			return true;
	return false;
}

/* It goes into the request line as it is. */
static bool target_is_clean(struct str target)
{
	if (target.len == 0 || target.ptr[0] != '/')
		return false;
	for (size_t i = 0; i < target.len; i++) {
		unsigned char c = (unsigned char)target.ptr[i];

		if (c <= ' ' || c == 0x7f || c == '#')
			return false;
	}
	return true;
}

static int check_request(const struct transfer *t)
{
	if (atomic_load(&t->is_cancelled))
		return -ECANCELED;
	if (t->fetch->is_offline)
		return -EHOSTUNREACH;
	if (!method_is_known(t->method) ||
	    !target_is_clean((struct str){ t->first_target, t->first_target_len }))
		return -EINVAL;
	return 0;
}

static int ask_breaker(struct transfer *t)
{
	enum breaker_pass pass = breaker_ask(&t->fetch->breaker, t->fetch->now);

	t->is_breaker_probe = pass == BREAKER_PROBE;
	return pass == BREAKER_STOP ? -EHOSTUNREACH : 0;
}

static int start_hop(struct transfer *t)
{
	head_done(&t->head);
	head_init(&t->head);
	t->has_next = false;
	t->is_connected = false;
	t->sockets_opened = t->sockets_refused = 0;
	t->drained_bytes = 0;
	return easy_start_hop(t);
}

void transfer_begin(struct transfer *t)
{
	int r;

	(void)transfer_ref(t);
	list_add_tail(&t->fetch->active, &t->node);
	t->is_active = true;
	t->since_mono_ms = t->began_mono_ms = t->fetch->now;
	t->origin = t->fetch->rules.hub;
	t->is_body_sent = !t->has_body || t->body_bytes == 0;
	buf_init(&t->url, URL_BYTES_MAX);
	buf_init(&t->next_url, URL_BYTES_MAX);
	(void)buf_append_str(&t->url, str_from(t->fetch->hub_url));
	r = buf_append(&t->url, t->first_target, t->first_target_len);
	if (r == 0)
		r = check_request(t);
	if (r == 0)
		r = ask_breaker(t);
	if (r == 0)
		r = start_hop(t);
	if (r < 0)
		transfer_end(t, r);
}

void transfer_end(struct transfer *t, int error)
{
	assert(t->is_active && !t->is_done);
	easy_end_hop(t);
	if (t->is_breaker_probe)
		breaker_unsure(&t->fetch->breaker);
	t->is_active = false;
	t->is_done = true;
	list_remove(&t->node);
	t->ops.on_done(t->ctx, error);
	transfer_unref(t);
}

/* --- going on ------------------------------------------------------------------------------------------- */

void transfer_continue(struct transfer *t)
{
	if (!t->is_active || !t->easy || !(t->is_paused_down || t->is_paused_up))
		return;
	t->is_paused_down = t->is_paused_up = false;
	t->since_mono_ms = t->fetch->now;
	easy_continue(t);
}

/* --- the end of a hop ----------------------------------------------------------------------------------- */

static int check_complete(const struct transfer *t)
{
	bool has_body = strcmp(t->method, "HEAD") != 0 && t->head.status != 204 && t->head.status != 304;

	if (!t->head.is_complete)
		return -ECONNRESET; /* the connection ended inside the head, which libcurl finds good enough */
	if (has_body && t->content_length >= 0 && t->received_bytes != (uint64_t)t->content_length)
		return -ECONNRESET; /* promise 3, whatever libcurl thinks */
	return 0;
}

static int why_no_answer(struct transfer *t, CURLcode code)
{
	int r = easy_error(code);

	if (r == -EHOSTUNREACH && t->sockets_refused && !t->sockets_opened) {
		log_warning("fetch", "a redirect leads to an internal address: not connected",
			    LOG_TEXT("host", t->origin.host), LOG_END);
		return -EACCES;
	}
	return r;
}

/* Nothing came: counts for metrics, and for the breaker when the Hub itself could not be reached. */
static void note_failure(struct transfer *t, int r)
{
	bool is_transport = r == -EHOSTUNREACH || (r == -ETIMEDOUT && !t->is_connected);

	if (t->head.is_complete)
		return;
	metrics_add(t->fetch->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(0), 0, 0, 1);
	if (!is_transport || !origin_eq(&t->origin, &t->fetch->rules.hub))
		return;
	fetch_note_hub(t->fetch, r, t->is_breaker_probe);
	t->is_breaker_probe = false;
}

static int next_hop(struct transfer *t)
{
	if (!origin_eq(&t->origin, &t->next_origin))
		t->has_left_hub = true;
	t->origin = t->next_origin;
	t->hop++;
	buf_reset(&t->url);
	if (buf_append_str(&t->url, buf_str(&t->next_url)) < 0)
		return -EPROTO;
	return start_hop(t);
}

void transfer_hop_ended(struct transfer *t, CURLcode code)
{
	int r = t->error;

	assert(t->is_active);
	easy_end_hop(t);
	if (r == 0 && t->has_next) {
		r = next_hop(t);
		if (r == 0)
			return;
	} else if (r == 0) {
		r = code == CURLE_OK ? check_complete(t) : why_no_answer(t, code);
	}
	if (r < 0)
		note_failure(t, r);
	transfer_end(t, r);
}

/* --- deadlines ------------------------------------------------------------------------------------------ */

static uint64_t patience_ms(const struct transfer *t)
{
	if (t->is_final || (t->has_body && !t->is_body_sent))
		return t->stall_timeout_ms;
	return t->first_byte_timeout_ms;
}

void transfer_check_deadlines(struct transfer *t)
{
	bool waits_for_us = t->is_final ? t->is_paused_down : t->is_paused_up;
	uint64_t now = t->fetch->now;
	bool is_late = t->total_timeout_ms && now - t->began_mono_ms >= t->total_timeout_ms;

	if (!waits_for_us && now - t->since_mono_ms >= patience_ms(t))
		is_late = true;
	if (!is_late)
		return;
	/* without a socket it was still in libcurl's queue: that says nothing about the Hub */
	note_failure(t, t->sockets_opened ? -ETIMEDOUT : -ECANCELED);
	transfer_end(t, -ETIMEDOUT);
}
