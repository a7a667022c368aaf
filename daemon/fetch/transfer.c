/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer - the life of one transfer, hop by hop.
 *
 * Owns      what was asked, the time limits, the way from one hop to the next.
 * Never     touches a transfer that is not active; calls on_done twice.
 * Threads   all on the fetch thread, but ref and unref.
 * Life      mailed -> active -> (its turn comes) -> (hop ended -> next hop)* -> done. Each way out leads through transfer_end().
 */
#include <assert.h>
#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

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
	free(t->location);
	free((char *)(uintptr_t)t->who.ptr);
	headers_done(&t->headers);
	headers_done(&t->location_headers);
	(void)secret_unref(t->token);
	buf_done(&t->url);
	buf_done(&t->next_url);
	head_done(&t->head);
	fetch_unref(t->fetch);
	t->magic = 0;
	free(t);
	return NULL;
}

/* A token is sent to the exact origin that was asked, and not any more once the road went through another. */
bool transfer_is_home_hop(const struct transfer *t)
{
	return !t->has_left_home && origin_eq(&t->origin, &t->home->rules.hub);
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
	if (!t->home->url)
		return -EDESTADDRREQ;
	if (t->fetch->is_offline && !t->home->is_backend)
		return -EHOSTUNREACH;
	if (!method_is_known(t->method))
		return -EINVAL;
	if (t->location && t->first_target_len == 0)
		return 0; /* there is nothing to ask for but the address */
	return target_is_clean((struct str){ t->first_target, t->first_target_len }) ? 0 : -EINVAL;
}

/* --- the governor ---------------------------------------------------------------------------------------- */

static struct principal principal_of_hop(const struct transfer *t)
{
	static const struct principal anonymous;

	return transfer_is_home_hop(t) ? t->principal : anonymous;
}

/* Each hop counts upstream, so each hop asks. */
static int ask_governor(struct transfer *t)
{
	struct fetch *f = t->fetch;
	struct principal who = principal_of_hop(t);
	enum rate_pass pass;
	struct origin origin;
	uint64_t wait_ms;
	struct str target;

	/* inference has no budget of its own to keep: its limits are per model and provider, and its clients' affair */
	if (t->home->which >= FETCH_INFERENCE || !origin_eq(&t->origin, &t->home->rules.hub) ||
	    origin_parse(buf_str(&t->url), &origin, &target) < 0)
		return 0;
	if (t->is_at_location && t->first_target_len)
		target = (struct str){ t->first_target, t->first_target_len };
	t->bucket = t->home->which == FETCH_VIEWER ? RATE_VIEWER : policy_rate_bucket(target);
	if (t->is_own)
		return 0;
	lock_take(&f->lock);
	pass = governor_ask(&f->governor, &who, t->bucket, f->now, t->is_background, &wait_ms);
	lock_drop(&f->lock);
	t->is_rate_try = pass == RATE_TRY;
	return pass == RATE_STOP ? -EBUSY : 0;
}

void transfer_tell_governor(struct transfer *t)
{
	struct fetch *f = t->fetch;
	struct principal who = principal_of_hop(t);

	if (t->home->which >= FETCH_INFERENCE)
		return;
	lock_take(&f->lock);
	governor_told(&f->governor, &who, t->bucket, t->head.status, &t->head.headers, f->now,
		      clock_wall_s(f->clock), t->is_rate_try);
	lock_drop(&f->lock);
	t->is_rate_try = false;
}

static void leave_governor(struct transfer *t)
{
	struct principal who = principal_of_hop(t);

	if (!t->is_rate_try)
		return;
	lock_take(&t->fetch->lock);
	governor_unsure(&t->fetch->governor, &who, t->bucket);
	lock_drop(&t->fetch->lock);
	t->is_rate_try = false;
}

/* --- hops ------------------------------------------------------------------------------------------------ */

static int start_hop(struct transfer *t)
{
	int r = ask_governor(t);

	if (r < 0)
		return r;
	head_done(&t->head);
	head_init(&t->head);
	t->has_next = t->has_head = false;
	t->is_connected = false;
	t->sockets_opened = t->sockets_refused = 0;
	t->own_error = t->last_family = 0;
	t->drained_bytes = 0;
	return easy_start_hop(t);
}

void log_refused_location(struct str location)
{
	struct str before_query, query;

	(void)str_cut(location, '?', &before_query, &query); /* the query may be a signature */
	log_warning("fetch", "upstream names an address on a host that is not in hub.redirect-hosts",
		    LOG_STR("location", before_query), LOG_END);
}

/* As if the origin had answered the target with a redirect to it. */
static int begin_at_location(struct transfer *t)
{
	int r;

	buf_reset(&t->url);
	r = redirect_begin(&t->home->rules, str_from(t->location), t->is_space, &t->url, &t->origin);
	if (r < 0) {
		log_refused_location(str_from(t->location));
		return r;
	}
	t->is_at_location = true;
	t->has_left_home = !origin_eq(&t->origin, &t->home->rules.hub);
	t->hop = 1;
	return 0;
}

/* The breaker is about the origin that is asked; what begins elsewhere does not need it. */
static bool breaker_stops(struct transfer *t)
{
	return !t->is_own && !t->has_left_home && !breaker_lets(&t->home->breaker);
}

/* Its turn has come. */
static int start_first_hop(struct transfer *t)
{
	list_remove(&t->wait_node);
	return breaker_stops(t) ? -EHOSTUNREACH : start_hop(t);
}

static struct shares *shares_of(struct transfer *t)
{
	struct fetch *f = t->fetch;
	bool is_hub = t->home == &f->homes[FETCH_HUB] || t->home == &f->homes[FETCH_VIEWER];

	return is_hub && !t->is_space ? &f->shares : &f->stream_shares;
}

/* A place of its own is not needed by what we ask ourselves: a full line must not look like an upstream that is gone. */
static bool takes_place(struct transfer *t)
{
	if (!t->is_own)
		t->has_place = shares_take(shares_of(t), t->who);
	return t->is_own || t->has_place;
}

static bool is_full(const struct shares *s)
{
	return s->taken == s->max;
}

void transfers_serve_line(struct fetch *f)
{
	if (!f->has_room)
		return;
	f->has_room = false;
	LIST_EACH(node, &f->waiting) {
		struct transfer *t = LIST_ENTRY(node, struct transfer, wait_node);
		int r = takes_place(t) ? start_first_hop(t) : 0;

		if (r < 0)
			transfer_end(t, r);
		if (is_full(&f->shares) && is_full(&f->stream_shares))
			return;
	}
}

static void leave_place(struct transfer *t)
{
	list_remove(&t->wait_node);
	if (!t->has_place)
		return;
	t->has_place = false;
	shares_give(shares_of(t), t->who);
	t->fetch->has_room = true;
}

void transfer_begin(struct transfer *t)
{
	int r;

	(void)transfer_ref(t);
	list_add_tail(&t->fetch->active, &t->node);
	t->is_active = true;
	t->since_mono_ms = t->began_mono_ms = t->fetch->now;
	t->origin = t->home->rules.hub;
	t->is_body_sent = !t->has_body || t->body_bytes == 0;
	buf_init(&t->url, URL_BYTES_MAX);
	buf_init(&t->next_url, URL_BYTES_MAX);
	(void)buf_append_str(&t->url, str_from(t->home->url));
	r = buf_append(&t->url, t->first_target, t->first_target_len);
	if (r == 0)
		r = check_request(t);
	if (r == 0 && t->location)
		r = begin_at_location(t);
	if (r == 0 && breaker_stops(t))
		r = -EHOSTUNREACH;
	if (r == 0 && takes_place(t))
		r = start_first_hop(t);
	else if (r == 0)
		list_add_tail(&t->fetch->waiting, &t->wait_node);
	if (r < 0)
		transfer_end(t, r);
}

void transfer_end(struct transfer *t, int error)
{
	assert(t->is_active && !t->is_done);
	easy_end_hop(t);
	leave_governor(t);
	leave_place(t);
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
	t->since_mono_ms = t->pace_mono_ms = t->fetch->now;
	t->pace_bytes = t->received_bytes;
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

static const char *what_is_silent(const struct home *h)
{
	if (h->which >= FETCH_SPACE_FIRST)
		return "no answer from the app of a Space of one's own";
	return h->is_backend ? "no answer from a backend" : "no answer from upstream";
}

/* The cause in words, for who looks why nothing comes: a name, a port, a certificate. Once in a while: each request has a line. */
#define TELL_EVERY_MS 10000

static void tell_why(struct transfer *t, int error, CURLcode code)
{
	uint64_t now = t->fetch->now;

	if (error != 0 && error != -ECANCELED && !t->error && transfer_is_home_hop(t))
		health_note_words(t->home, code);
	if (error == 0 || error == -ECANCELED || t->error ||
	    (t->home->told_mono_ms && now - t->home->told_mono_ms < TELL_EVERY_MS))
		return;
	t->home->told_mono_ms = now;
	log_warning("fetch", what_is_silent(t->home), LOG_TEXT("upstream", t->home->url),
		    LOG_TEXT("host", t->origin.host), LOG_U64("port", t->origin.port),
		    LOG_TEXT("reason", curl_easy_strerror(code)),
		    LOG_TEXT("hint", code == CURLE_PEER_FAILED_VERIFICATION
					     ? "its certificate is not trusted: see hub.ca-file"
				     : t->home->is_backend
					     ? "see its url in the configuration, and whether it runs"
					     : "see hub.url, the name service and the uplink"),
		    LOG_END);
}

static void tell_own_limit(struct transfer *t, int error)
{
	uint64_t now = t->fetch->now;

	if (t->home->told_mono_ms && now - t->home->told_mono_ms < TELL_EVERY_MS)
		return;
	t->home->told_mono_ms = now;
	log_warning("fetch", "this machine gave no connection: says nothing about who was to be asked",
		    LOG_TEXT("host", t->origin.host), LOG_ERR("error", error), LOG_END);
}

/* own: easy_own_error()'s. */
static int why_no_answer(struct transfer *t, CURLcode code, int own)
{
	int r = easy_error(code);

	if (own) {
		tell_own_limit(t, own);
		return own;
	}
	tell_why(t, r, code);

	if (r == -EHOSTUNREACH && t->sockets_refused && !t->sockets_opened) {
		log_warning("fetch", "a redirect leads to an internal address: not connected",
			    LOG_TEXT("host", t->origin.host), LOG_END);
		return -EACCES;
	}
	return r;
}

/* Nothing came: counts for metrics, and for the breaker when the asked origin itself could not be reached. */
static void note_failure(struct transfer *t, int r)
{
	bool is_transport = r == -EHOSTUNREACH || (r == -ETIMEDOUT && !t->is_connected);

	if (t->head.is_complete)
		return;
	metrics_add(t->fetch->metrics,
		    t->home->is_backend ? METRIC_BACKEND_REQUESTS : METRIC_UPSTREAM_REQUESTS, metric_code(0),
		    0, 0, 1);
	if (t->is_own || !origin_eq(&t->origin, &t->home->rules.hub))
		return;
	if (is_transport)
		health_note_failure(t->home, t->began_mono_ms, r);
	else if (r == -ETIMEDOUT && t->is_read)
		health_note_silence(t->home);
}

static int next_hop(struct transfer *t)
{
	leave_governor(t);
	if (!origin_eq(&t->origin, &t->next_origin))
		t->has_left_home = true;
	t->is_at_location = false;
	t->origin = t->next_origin;
	t->hop++;
	buf_reset(&t->url);
	if (buf_append_str(&t->url, buf_str(&t->next_url)) < 0)
		return -EPROTO;
	return start_hop(t);
}

void transfer_hop_ended(struct transfer *t, CURLcode code)
{
	int r = t->error, own = r ? 0 : easy_own_error(t, code);

	assert(t->is_active);
	easy_end_hop(t);
	if (r == 0 && t->has_next) {
		r = next_hop(t);
		if (r == 0)
			return;
	} else if (r == 0) {
		r = code == CURLE_OK ? check_complete(t) : why_no_answer(t, code, own);
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

/* A read that hears nothing from the asked origin for so long makes it worth a question (E09: 9 s in all). */
#define DOUBT_MS 4000

static void doubt_silence(struct transfer *t)
{
	if (t->has_doubted || t->is_own || !t->is_read || t->has_head || !transfer_is_home_hop(t) ||
	    t->fetch->now - t->since_mono_ms < DOUBT_MS || (!t->is_connected && !t->sockets_opened))
		return;
	t->has_doubted = true;
	health_note_silence(t->home);
}

#define PACE_MS 30000
#define PACE_REST_BYTES (1u << 20)

/* U12: bytes come, but so few that another connection is likely to do better. */
static bool is_crawling(struct transfer *t)
{
	uint64_t now = t->fetch->now, ran_ms = now - t->pace_mono_ms,
		 came = t->received_bytes - t->pace_bytes;

	if (!t->min_bytes_per_s || !t->is_final || t->is_paused_down || ran_ms < PACE_MS)
		return false;
	t->pace_mono_ms = now;
	t->pace_bytes = t->received_bytes;
	if (t->content_length >= 0 && (uint64_t)t->content_length - t->received_bytes <= PACE_REST_BYTES)
		return false;
	return came < t->min_bytes_per_s * (ran_ms / 1000);
}

void transfer_check_deadlines(struct transfer *t)
{
	bool waits_for_us = t->is_final ? t->is_paused_down : t->is_paused_up;
	uint64_t now = t->fetch->now;
	bool is_late = t->total_timeout_ms && now - t->began_mono_ms >= t->total_timeout_ms;
	bool had_connection;

	if (!waits_for_us && now - t->since_mono_ms >= patience_ms(t))
		is_late = true;
	doubt_silence(t);
	if (!is_late && !is_crawling(t))
		return;
	had_connection = t->sockets_opened || t->is_connected;
	/* without one it was still in line, behind as many as we allow: that says nothing about upstream */
	note_failure(t, had_connection ? -ETIMEDOUT : -ECANCELED);
	transfer_end(t, had_connection ? -ETIMEDOUT : -ENOBUFS);
}
