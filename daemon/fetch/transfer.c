/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer - the life of one transfer, hop by hop.
 *
 * Owns      what was asked, the state of the running hop, the time limits.
 * Never     touches a transfer that is not active; calls on_done twice.
 * Threads   all on the fetch thread, but ref and unref.
 * Life      mailed -> active -> (hop ended -> next hop)* -> done. Each way out leads through transfer_end().
 * Promises  (1) an op that was called after transfer_cancel() returned on this thread is on_done.
 *           (2) the redirect's own body is read (so that the connection can be used again) up to 64 KiB, and dropped.
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define URL_BYTES_MAX 65536
#define DRAINED_BYTES_MAX 65536

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

/* --- begin and end ---------------------------------------------------------------------------------------------- */

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
	if (!method_is_known(t->method) || !target_is_clean((struct str){ t->first_target, t->first_target_len }))
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

/* --- the answer's head ------------------------------------------------------------------------------------------ */

static int report_head(struct transfer *t)
{
	struct fetch_head head = {
		.status = t->head.status,
		.headers = &t->head.headers,
		.hop = t->hop,
		.is_final = !t->has_next,
		.is_hub_origin = transfer_is_hub_hop(t),
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
	metrics_add(t->fetch->metrics, METRIC_UPSTREAM_REQUESTS, metric_code(t->head.status), 0, 0, 1);
	if (t->head.status == 429)
		metrics_inc(t->fetch->metrics, METRIC_UPSTREAM_RATE_LIMITED);
	if (!origin_eq(&t->origin, &t->fetch->rules.hub))
		return;
	fetch_note_hub(t->fetch, 0, t->is_breaker_probe);
	t->is_breaker_probe = false;
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
	r = redirect_decide(&t->fetch->rules, &facts, &t->next_url, &t->next_origin);
	if (r == -EACCES) {
		struct str before_query, query;

		(void)str_cut(facts.location, '?', &before_query, &query); /* the query may be a signature */
		log_warning("fetch", "upstream redirects to a host that is not in hub.redirect-hosts: not followed",
			    LOG_STR("location", before_query), LOG_END);
	}
	return r;
}

static int take_head(struct transfer *t)
{
	int r;

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
		t->since_mono_ms = t->fetch->now;
	/* libcurl stops sending after a refusal, but goes on waiting for a body that was paused */
	if (t->is_final && t->is_paused_up && t->head.status >= 400)
		transfer_resume(t);
	r = report_head(t);
	if (r == 0 && t->is_final && t->body_bytes_max && t->content_length > 0 && strcmp(t->method, "HEAD") != 0 &&
	    (uint64_t)t->content_length > t->body_bytes_max)
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

/* --- bodies ----------------------------------------------------------------------------------------------------- */

static ssize_t take_final_body(struct transfer *t, const void *bytes, size_t len)
{
	ssize_t r = 0;

	if (t->body_bytes_max && t->received_bytes + len > t->body_bytes_max)
		return -E2BIG;
	if (t->ops.on_body)
		r = t->ops.on_body(t->ctx, bytes, len);
	t->is_paused_down = r == FETCH_PAUSE;
	if (r < 0)
		return r;
	t->received_bytes += len;
	t->since_mono_ms = t->fetch->now;
	metrics_add(t->fetch->metrics, METRIC_UPSTREAM_RECEIVED, 0, 0, 0, len);
	return 0;
}

ssize_t transfer_take_body(struct transfer *t, const void *bytes, size_t len)
{
	ssize_t r;

	if (t->error)
		return t->error;
	if (t->has_next) {
		t->drained_bytes += len;
		return t->drained_bytes > DRAINED_BYTES_MAX ? -E2BIG : 0; /* no error of ours: the next hop comes anyway */
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

void transfer_continue(struct transfer *t)
{
	if (!t->is_active || !t->easy || !(t->is_paused_down || t->is_paused_up))
		return;
	t->is_paused_down = t->is_paused_up = false;
	t->since_mono_ms = t->fetch->now;
	easy_continue(t);
}

int transfer_check_address(struct transfer *t, const struct sockaddr *sa, socklen_t len)
{
	struct address to;

	if (address_from_socket(sa, len, &to) < 0 || !redirect_address_ok(&t->fetch->rules, &t->origin, &to)) {
		t->sockets_refused++;
		return -EACCES;
	}
	t->sockets_opened++;
	return 0;
}

void transfer_note_connected(struct transfer *t)
{
	t->is_connected = true;
	/* a new connection is all that a probe is to find out; an old one proves nothing */
	if (!t->is_breaker_probe || !t->sockets_opened)
		return;
	fetch_note_hub(t->fetch, 0, true);
	t->is_breaker_probe = false;
}

/* --- the end of a hop ------------------------------------------------------------------------------------------- */

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

/* --- deadlines -------------------------------------------------------------------------------------------------- */

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
