/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/access_log - one line and the counts of a request, when it ends.
 *
 * Never     logs the query (it may sign), the token (only its fingerprint), or a header.
 */
#include "server/priv.h"

#include "common/http/token.h"
#include "common/banned.h"

static enum source source_of(const struct exchange *x)
{
	switch (x->reply.kind) {
	case REPLY_BLOB:
		return SOURCE_CACHE;
	case REPLY_READER:
		return SOURCE_FILL;
	case REPLY_RELAY:
	case REPLY_EAR:
		return SOURCE_UPSTREAM;
	default:
		break;
	}
	switch (x->request.result) {
	case RESULT_HIT:
	case RESULT_STALE_HIT:
	case RESULT_REVALIDATED:
	case RESULT_NEGATIVE_HIT:
		return SOURCE_CACHE;
	default:
		return SOURCE_OWN;
	}
}

static void count(const struct exchange *x, uint64_t us)
{
	struct metrics *m = x->conn->loop->server->metrics;
	const struct request *q = &x->request;

	if (x->is_queued)
		metrics_add(m, METRIC_HTTP_REQUESTS, q->route, metric_method(str_from(q->method)),
			    metric_code(x->status), 1);
	if (x->is_queued)
		metrics_observe_us(m, METRIC_HTTP_FIRST_BYTE, q->route, q->result, x->first_byte_us);
	metrics_observe_us(m, METRIC_HTTP_DURATION, q->route, q->result, us);
	if (x->sent > 0)
		metrics_add(m, METRIC_HTTP_SENT_BYTES, q->route, source_of(x), 0, x->sent);
	if (x->aborted != ABORTED_NOT)
		metrics_add(m, METRIC_HTTP_ABORTED, x->aborted, 0, 0, 1);
}

static void write_line(const struct exchange *x, uint64_t us)
{
	const struct request *q = &x->request;
	struct log_field fields[20];
	unsigned n = 0;

	fields[n++] = LOG_TEXT("req", q->id);
	fields[n++] = LOG_TEXT("client", x->conn->peer);
	fields[n++] = LOG_TEXT("method", q->method ? q->method : "?");
	/* a client's mistake must not publish its token */
	fields[n++] = LOG_STR("path", text_holds_token(q->path) ? STR("-") : q->path);
	if (q->log_repo)
		fields[n++] = LOG_TEXT("repo", q->log_repo);
	if (q->log_revision)
		fields[n++] = LOG_TEXT("rev", q->log_revision);
	if (q->log_dialect)
		fields[n++] = LOG_TEXT("dialect", q->log_dialect);
	if (q->log_by)
		fields[n++] = LOG_TEXT("by", q->log_by);
	fields[n++] = LOG_U64("status", (uint64_t)x->status);
	fields[n++] = LOG_U64("bytes", x->sent);
	fields[n++] = LOG_U64("ms", us / 1000);
	if (x->is_queued)
		fields[n++] = LOG_U64("ttfb_ms", x->first_byte_us / 1000);
	fields[n++] = LOG_TEXT("cache", metric_result_name(q->result));
	fields[n++] = LOG_TEXT("tok", q->subject.fingerprint[0] ? q->subject.fingerprint : "-");
	if (x->aborted != ABORTED_NOT)
		fields[n++] = LOG_TEXT("aborted", x->aborted == ABORTED_CLIENT ? "client" : "upstream");
	fields[n++] = LOG_END;
	log_line_fields(LOG_LEVEL_INFO, "server", "request", fields);
}

void access_log_exchange(struct exchange *x)
{
	uint64_t us = clock_mono_us(x->conn->loop->server->clock) - x->request.began_mono_us;

	/* its head never became whole, or the bare socket was answered: refuse.c has said so */
	if (x->phase == PHASE_NEW || (x->status && !x->is_queued))
		return;
	/* what leaves in one call from memory is only counted here; of a broken one nobody knows how much left */
	if (x->reply.kind == REPLY_BYTES && x->is_queued && !x->request.is_head && x->status != 304 &&
	    x->aborted == ABORTED_NOT)
		x->sent = x->reply.length;
	count(x, us);
	if (log_get_level() >= LOG_LEVEL_INFO)
		write_line(x, us);
}
