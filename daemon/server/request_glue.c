/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/request_glue - the library's callbacks for a request: trampolines around struct exchange.
 *
 * The library calls glue_on_access() several times for one request: with the head, with each piece of the body, at the
 * end, and again after each resume. The exchange's phase says where we are.
 *
 *   NEW -- head read, route known --> BODY ----- all of it came ----> WHOLE -- handler: reply --> queued
 *    \--- streamed body --> OPENING -- the handler has opened its relay --> BODY
 *
 * An answer that is given in NEW or OPENING makes the library close the connection afterwards: it does not read the
 * body. So answers to requests without a body wait for WHOLE, which follows at once.
 *
 * Promises  (1) the handler is called from its top each time; while it waits the connection is suspended.
 *           (2) whatever happens, glue_end_exchange() frees the exchange, and with it the reader or relay: with the
 *               request, or with the connection when the library closed it without a word.
 */
#include "server/priv.h"

#include <assert.h>
#include <errno.h>
#include "common/alloc.h"

#include "common/banned.h"

static struct exchange *exchange_from(void *p)
{
	struct exchange *x = p;

	assert(x && x->magic == EXCHANGE_MAGIC);
	return x;
}

size_t glue_keep_escapes(void *cls, struct MHD_Connection *library, char *text)
{
	return strlen(text);
}

/*
 * The library would now cut the query into a list of its own, in the connection's memory, one entry for each of
 * thousands of "&" (N04). uri points into its read buffer: an empty query costs nothing, and we have our copy.
 */
static void hide_query(const char *uri)
{
	char *query = strchr((char *)(uintptr_t)uri, '?');

	if (query)
		query[1] = '\0';
}

void *glue_on_uri(void *cls, const char *uri, struct MHD_Connection *library)
{
	struct conn *c = conn_of(library);
	struct exchange *x = xcalloc(1, sizeof(*x));
	struct request *q = &x->request;

	assert(!c->exchange);
	x->magic = EXCHANGE_MAGIC;
	x->conn = c;
	x->body.fd = -1;
	x->aborted = ABORTED_NOT;
	request_init(q, park_wake);
	reply_init(&x->reply);
	q->target = xstrdup(uri ? uri : "");
	uri_split_target(str_from(q->target), &q->path, &q->query);
	q->began_mono_us = clock_mono_us(c->loop->server->clock);
	q->began_mono_ms = q->began_mono_us / 1000;
	if (uri)
		hide_query(uri);
	c->exchange = x;
	return x;
}

/* Calls the handler. Returns 0: there is a reply; -EAGAIN: it waits, and its waiter is registered. */
static int call_handler(struct exchange *x)
{
	int r;

	park_prepare(x);
	r = router_handle(x->conn->loop->server->router, &x->request, &x->reply);
	if (r == -EAGAIN)
		return r;
	park_abandon(x);
	if (r < 0) {
		reply_done(&x->reply);
		reply_init(&x->reply); /* a reply of which nothing was set is a 500 */
		log_error("server", "a handler failed", LOG_TEXT("req", x->request.id), LOG_ERR("error", r),
			  LOG_END);
	}
	x->has_reply = true;
	return 0;
}

static bool has_body(const struct request *q)
{
	return q->body_bytes != 0;
}

static bool expects_word(const struct request *q)
{
	return request_header(q, STR("Expect")).ptr;
}

/* The handler opens its relay before the first byte of the body is read. */
static enum MHD_Result open_stream(struct exchange *x)
{
	x->phase = PHASE_OPENING;
	if (call_handler(x) == 0)
		return response_queue(x);
	/* the library now tells the client to go on (100-continue): not before upstream wants the body */
	if (!x->request.relay || (expects_word(&x->request) && !relay_wants_body(x->request.relay))) {
		park_commit(x);
		return MHD_YES;
	}
	park_abandon(x); /* it waits for the answer's head, which needs the body first */
	x->phase = PHASE_BODY;
	return MHD_YES;
}

static enum MHD_Result begin(struct exchange *x, const char *method, const char *version)
{
	struct request *q = &x->request;

	x->phase = PHASE_BODY;
	if (glue_read_head(x, method, version) != 0 ||
	    router_classify(x->conn->loop->server->router, q, &x->reply) != 0)
		x->has_reply = true;
	if (!has_body(q))
		return MHD_YES;
	if (x->has_reply) {
		x->conn->has_unread = true;
		x->reply.close = true;
		return response_queue(x);
	}
	return q->body_kind == BODY_STREAM ? open_stream(x) : MHD_YES;
}

/* Gives bytes to the relay until they are gone or it is full; then the connection waits. */
static enum MHD_Result stream_body(struct exchange *x, const char *bytes, size_t *len)
{
	struct request *q = &x->request;

	while (*len > 0) {
		ssize_t n = q->relay ? relay_write(q->relay, bytes, *len) : -EPIPE;

		if (n > 0) {
			bytes += n;
			*len -= (size_t)n;
		} else if (n == 0 || n == -EAGAIN) {
			park_prepare(x);
			if (request_park_relay(q, true) == -EAGAIN) {
				park_commit(x);
				return MHD_YES;
			}
			park_abandon(x);
		} else { /* upstream has answered already, or has gone: what it said comes when the client is done */
			x->is_body_refused = true;
			*len = 0;
		}
	}
	return MHD_YES;
}

static enum MHD_Result collect_body(struct exchange *x, const char *bytes, size_t *len)
{
	static const struct wire_refusal too_large = { 413, "Content Too Large",
						       "The request body is larger than 1 MiB.", "body-size",
						       REJECTED_LIMIT };

	if (buf_append(&x->request.body, bytes, *len) < 0) {
		refuse_conn(x->conn, &too_large);
		return MHD_NO;
	}
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result spool_body(struct exchange *x, const char *bytes, size_t *len)
{
	static const struct wire_refusal too_large = {
		413, "Content Too Large", "The request body is larger than inference.max-request.",
		"body-size", REJECTED_LIMIT
	};
	static const struct wire_refusal no_room = {
		507, "Insufficient Storage", "There is no room on this server for the request's body.",
		"body-room", REJECTED_LIMIT
	};
	const struct server *s = x->conn->loop->server;
	struct request *q = &x->request;
	int r;

	if (!q->spool)
		q->spool = spool_new(s->spool_folder, SPOOL_MEMORY, s->spool_max);
	r = spool_append(q->spool, bytes, *len);
	if (r < 0) {
		refuse_conn(x->conn, r == -E2BIG ? &too_large : &no_room);
		return MHD_NO;
	}
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result take_body(struct exchange *x, const char *bytes, size_t *len)
{
	switch (x->is_body_refused ? BODY_NONE : x->request.body_kind) {
	case BODY_SMALL:
		return collect_body(x, bytes, len);
	case BODY_WHOLE:
		return spool_body(x, bytes, len);
	case BODY_STREAM:
		return stream_body(x, bytes, len);
	case BODY_NONE:
		break;
	}
	*len = 0;
	return MHD_YES;
}

static void end_body(struct exchange *x)
{
	x->phase = PHASE_WHOLE;
	if (x->request.body_kind == BODY_WHOLE) {
		if (!x->request.spool)
			x->request.spool = spool_new(x->conn->loop->server->spool_folder, 0, 0);
		(void)spool_end(x->request.spool);
	}
	if (x->request.body_kind == BODY_STREAM && x->request.relay)
		relay_write_end(x->request.relay);
}

static enum MHD_Result answer(struct exchange *x)
{
	if (!x->has_reply && call_handler(x) == -EAGAIN) {
		park_commit(x);
		return MHD_YES;
	}
	return response_queue(x);
}

enum MHD_Result glue_on_access(void *cls, struct MHD_Connection *library, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_bytes, void **exchange)
{
	struct exchange *x = exchange_from(*exchange);

	if (x->conn->is_closing)
		return MHD_NO;
	switch (x->phase) {
	case PHASE_NEW:
		return begin(x, method, version);
	case PHASE_OPENING:
		return open_stream(x);
	case PHASE_BODY:
		if (*upload_bytes > 0)
			return take_body(x, upload, upload_bytes);
		end_body(x);
		break;
	case PHASE_WHOLE:
		break;
	}
	return answer(x);
}

static void note_end(struct exchange *x, enum MHD_RequestTerminationCode why)
{
	if (x->aborted == ABORTED_NOT && why != MHD_REQUEST_TERMINATED_COMPLETED_OK && x->is_queued &&
	    !x->conn->is_taken)
		x->aborted = ABORTED_CLIENT;
	/* a request that never got an answer */
	if (x->aborted == ABORTED_NOT && !x->is_queued && x->status == 0)
		x->aborted = x->reply.kind == REPLY_ABORT ? ABORTED_UPSTREAM : ABORTED_CLIENT;
}

void glue_end_exchange(struct exchange *x, enum MHD_RequestTerminationCode why)
{
	struct conn *c = x->conn;

	waiter_cancel(&x->request.waiter);
	wire_remove_body(&x->body);
	note_end(x, why);
	c->is_broken = x->aborted != ABORTED_NOT;
	access_log_exchange(x);
	c->ended++;
	c->exchange = NULL;
	head_check_go_on(&c->check);
	if (c->is_refused && !c->is_closing && c->ended == c->check.heads)
		refuse_silently(c);
	x->magic = 0;
	reply_done(&x->reply);
	request_done(&x->request);
	free(x);
}

void glue_on_completed(void *cls, struct MHD_Connection *library, void **exchange,
		       enum MHD_RequestTerminationCode why)
{
	if (*exchange)
		glue_end_exchange(exchange_from(*exchange), why);
	*exchange = NULL;
}
