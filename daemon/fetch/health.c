/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health - is an origin there? What transfers met goes into its breaker, probes find out the rest.
 *
 * Owns      each home's breaker and its probe: a bare connection, or our own question.
 * Never     asks a question that a client chose; ends a transfer from inside libcurl (that comes in health_turn()).
 * Threads   fetch.
 * Promises  (1) once an origin is taken for unreachable, nobody waits for the beginning of its answer any more: what is
 *               still waiting ends within a turn. With DOUBT_MS and QUESTION_MS a client that asks a silent Hub has
 *               its answer within 9 s (E09).
 *           (2) at start each origin is tried by a connection of our own, for which no transfer waits; what is there and
 *               what is not is known when that ends, after the connect time-out at the latest.
 */
#include <assert.h>
#include <errno.h>

#include "common/http/date.h"
#include "common/log.h"
#include "fetch/priv.h"
#include "metrics/metrics.h"

#include "common/banned.h"

#define QUESTION_MS 4000
/* Cheap for upstream, chosen by no client, and through the same machines as everything else. */
static const struct str question_targets[FETCH_ORIGIN_COUNT] = { STR("/api/whoami-v2"), STR("/healthcheck") };

static const char why_gone[] = "upstream cannot be reached: answering from what is held until it can";
static const char why_sick[] =
	"upstream answers with errors only, or not at all: answering from what is held until it does";

static bool is_hub(const struct home *h)
{
	return h->which == FETCH_HUB;
}

/* --- verdicts -------------------------------------------------------------------------------------------- */

static const char *trouble_of(const struct home *h)
{
	const char *trouble = atomic_load(&h->trouble);

	return trouble ? trouble : "no answer in time";
}

static void went_down(struct home *h, const char *why, int error)
{
	atomic_store(&h->down_since_at, clock_wall_s(h->fetch->clock));
	atomic_store(&h->is_tried, true);
	h->has_gone = true;
	h->gone_error = error;
	if (is_hub(h))
		metrics_gauge_set(h->fetch->metrics, METRIC_UPSTREAM_UP, 0, 0);
	log_warning("fetch", why, LOG_TEXT("upstream", h->url), LOG_ERR("error", error),
		    LOG_TEXT("reason", why == why_sick ? "it answers with errors" : trouble_of(h)), LOG_END);
}

static void is_back(struct home *h)
{
	log_info("fetch", "upstream can be reached again", LOG_TEXT("upstream", h->url),
		 LOG_I64("down_s", clock_wall_s(h->fetch->clock) - atomic_load(&h->down_since_at)), LOG_END);
	atomic_store(&h->down_since_at, 0);
	if (is_hub(h))
		metrics_gauge_set(h->fetch->metrics, METRIC_UPSTREAM_UP, 0, 1);
}

bool health_is_trouble(int status)
{
	return status == 500 || (status >= 502 && status <= 504);
}

void health_note_words(struct home *h, CURLcode code)
{
	if (code != CURLE_OK && code != CURLE_ABORTED_BY_CALLBACK)
		atomic_store(&h->trouble, curl_easy_strerror(code));
}

void fetch_look(const struct fetch *f, enum fetch_origin which, struct fetch_view *ret)
{
	const struct home *h = &f->homes[which];
	bool is_never_asked = f->is_offline && !h->is_backend;

	*ret = (struct fetch_view){ .url = h->url,
				    .is_never_asked = is_never_asked,
				    .is_tried = is_never_asked || atomic_load(&h->is_tried),
				    .down_since = atomic_load(h->is_backend ? &h->failed_since_at
									    : &h->down_since_at) };
	if (is_never_asked)
		ret->reason = "hub.offline: it is never asked";
	else if (ret->down_since)
		ret->reason = trouble_of(h);
}

void health_note_answer(struct home *h, int status)
{
	atomic_store(&h->is_tried, true);
	if (h->is_backend) {
		atomic_store(&h->failed_since_at, 0);
		return;
	}
	/* the viewer says 500 for what is wrong with a dataset */
	if (is_hub(h) && health_is_trouble(status))
		breaker_troubled(&h->breaker, false);
	else if (breaker_answered(&h->breaker, h->fetch->now))
		is_back(h);
}

void health_note_silence(struct home *h)
{
	if (h->is_backend)
		return;
	breaker_troubled(&h->breaker, true);
}

void health_note_failure(struct home *h, uint64_t began_mono_ms, int error)
{
	int64_t up = 0;

	if (h->is_backend) {
		atomic_store(&h->is_tried, true);
		(void)atomic_compare_exchange_strong(&h->failed_since_at, &up, clock_wall_s(h->fetch->clock));
		return;
	}
	if (breaker_failed(&h->breaker, began_mono_ms, h->fetch->now))
		went_down(h, why_gone, error);
}

static void probe_failed(struct home *h, int error, uint64_t retry_after_ms)
{
	if (breaker_probe_failed(&h->breaker, h->fetch->now, retry_after_ms))
		went_down(h, h->breaker.is_sick ? why_sick : why_gone, error);
}

/* Its end: whatever else went wrong, as a certificate, somebody is there, and those who ask are told what is wrong. */
static void connection_ended(struct home *h, int error)
{
	if (h->breaker.is_untried && error != -EHOSTUNREACH && error != -ETIMEDOUT)
		error = 0;
	if (error < 0) {
		probe_failed(h, error, 0);
		return;
	}
	atomic_store(&h->is_tried, true);
	if (breaker_connected(&h->breaker, h->fetch->now))
		is_back(h);
}

/* --- our own question ------------------------------------------------------------------------------------ */

static int on_question_head(void *ctx, const struct fetch_head *head)
{
	struct home *h = ctx;
	struct str after = headers_get(head->headers, STR("Retry-After"));
	int64_t wait_ms = -1;

	if (after.ptr)
		wait_ms = retry_after_ms(after, clock_wall_s(h->fetch->clock), BREAKER_WAIT_ASKED_MAX_MS);
	h->question_status = head->status;
	h->question_retry_ms = wait_ms > 0 ? (uint64_t)wait_ms : 0;
	return 0;
}

static void on_question_done(void *ctx, int error)
{
	struct home *h = ctx;

	h->is_asking = false;
	if (error == -ECANCELED || (policy_is_own_limit(error) && breaker_lets(&h->breaker)))
		breaker_unsure(&h->breaker);
	else if (h->question_status == 0)
		probe_failed(h, error, 0);
	else if (health_is_trouble(h->question_status))
		probe_failed(h, -EPROTO, h->question_retry_ms);
	else if (breaker_answered(&h->breaker, h->fetch->now))
		is_back(h);
}

static void ask_question(struct home *h)
{
	static const struct fetch_ops ops = { .on_head = on_question_head, .on_done = on_question_done };
	struct fetch_request request = { .method = "HEAD",
					 .target = question_targets[h->which],
					 .origin = h->which,
					 .total_timeout_ms = QUESTION_MS };

	h->is_asking = true;
	h->question_status = 0;
	fetch_start_own(h->fetch, &request, &ops, h);
}

/* --- a bare connection ----------------------------------------------------------------------------------- */

static void end_connection(struct home *h)
{
	if (!h->connection)
		return;
	(void)curl_multi_remove_handle(h->fetch->multi, h->connection);
	curl_easy_cleanup(h->connection);
	h->connection = NULL;
}

bool health_take_connection(struct fetch *f, CURL *easy, CURLcode code)
{
	for (unsigned i = 0; i < FETCH_ORIGIN_COUNT; i++) {
		struct home *h = &f->homes[i];

		if (!easy || h->connection != easy)
			continue;
		end_connection(h);
		health_note_words(h, code);
		connection_ended(h, easy_error(code));
		return true;
	}
	return false;
}

static void connect_only(struct home *h)
{
	h->connection = easy_new_probe(h);
	if (!h->connection)
		connection_ended(h, -EHOSTUNREACH);
}

/* --- each turn ------------------------------------------------------------------------------------------- */

/* A read that waits for the first byte: its end now is an honest answer; a write may have been carried out. */
static bool waits_in_vain(const struct transfer *t, const struct home *h)
{
	return t->home == h && !t->is_own && t->is_read && !t->has_head && transfer_is_home_hop(t);
}

/* Where connections are refused, one that is not made yet will not be. */
static int gone_for(const struct transfer *t, const struct home *h)
{
	if (t->is_connected || (t->sockets_opened && h->gone_error != -EHOSTUNREACH))
		return -ETIMEDOUT;
	return -EHOSTUNREACH;
}

static void end_waiting(struct home *h)
{
	h->has_gone = false;
	LIST_EACH(node, &h->fetch->active) {
		struct transfer *t = LIST_ENTRY(node, struct transfer, node);

		if (waits_in_vain(t, h))
			transfer_end(t, gone_for(t, h));
	}
}

static bool may_probe(const struct home *h)
{
	return h->url && !h->fetch->is_offline && !h->connection && !h->is_asking;
}

/* With everything answered from the store nobody else would find out that upstream is back. */
static void probe_if_due(struct home *h)
{
	switch (may_probe(h) ? breaker_probe(&h->breaker, h->fetch->now) : BREAKER_NO_PROBE) {
	case BREAKER_NO_PROBE:
		break;
	case BREAKER_CONNECT:
		connect_only(h);
		break;
	case BREAKER_QUESTION:
		ask_question(h);
		break;
	}
}

void health_turn(struct fetch *f)
{
	for (unsigned i = 0; i < FETCH_ORIGIN_COUNT; i++) {
		if (f->homes[i].has_gone)
			end_waiting(&f->homes[i]);
		probe_if_due(&f->homes[i]);
	}
}

uint64_t health_due(const struct fetch *f)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < FETCH_ORIGIN_COUNT; i++) {
		const struct home *h = &f->homes[i];
		uint64_t probe_due = may_probe(h) ? breaker_probe_due(&h->breaker) : UINT64_MAX;

		if (h->has_gone)
			return f->now;
		due = probe_due < due ? probe_due : due;
	}
	return due;
}

void health_stop(struct fetch *f)
{
	for (unsigned i = 0; i < FETCH_ORIGIN_COUNT; i++)
		end_connection(&f->homes[i]);
}
