/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request - what a client asked, as a value, and how a handler waits.
 *
 * A handler is a function of the request that is called again, from its top, each time what it waited for has
 * happened. It looks up; if something is missing it asks (ask, flight, relay), parks, and returns -EAGAIN.
 * So there are
 * no half-done states but the list of asks, the reader and the relay that the request holds for it.
 *
 * Owns      its strings, its asks, its reader, its relay, its ear, its dial, its trail, its spool.
 * Threads   belongs to one server thread; request_wake() (from the waiter) may come from any.
 */
#pragma once
#include "ask/ask.h"
#include "auth/auth.h"
#include "cast/cast.h"
#include "flight/flight.h"
#include "metrics/metrics.h"
#include "relay/relay.h"
#include "splice/splice.h"

#define REQUEST_ASKS_MAX 8
#define REQUEST_BODY_MAX (1024 * 1024)

/* SMALL: gathered in memory, 1 MiB at most. WHOLE: gathered in a spool, of any size. STREAM: handed on as it comes. */
enum request_body { BODY_NONE, BODY_SMALL, BODY_WHOLE, BODY_STREAM };

struct request {
	/* the head; strings owned */
	char *method;           /* "GET" … as sent */
	char *target;           /* raw path and query, still percent-encoded */
	struct str path, query; /* parts of target */
	struct headers headers; /* as sent; Authorization stays only in subject */
	bool is_http10;
	bool is_admin;       /* it came through the administrator's own socket, and no other way */
	bool is_intercepted; /* its client speaks TLS to a name of the Hub's, and knows nothing of us */
	bool is_head;        /* HEAD: handlers may treat it like GET; server/ drops the body */
	bool wants_pointer; /* of an LFS file only what git holds, which needs none of its bytes: raw's own */
	char *host;         /* the Host the client used, for absolute URLs ("server:8090") */
	char *base;         /* "http://server:8090": server.public-url if set, else from Host */
	char *client;       /* address without port, for the log */
	char id[64];        /* X-Request-Id */
	struct subject subject;
	uint64_t writes;        /* hub's write_count when this write was sent (hub/writes.c) */
	bool has_restarted;     /* what was known misled it once: it runs again from the top, once */
	bool distrusts_entries; /* since then, and until upstream was asked anew */
	bool has_no_room; /* what it wants was refused a place in the store */
	bool has_valid_subject; /* false: the Authorization field was malformed */
	bool is_not_for_pages; /* the administrator's word opened: no page of another site may read the answer (N08) */

	/* the body */
	enum request_body body_kind; /* set from the route */
	struct buf body;             /* BODY_SMALL: complete before the handler is called */
	struct spool *spool;         /* BODY_WHOLE: likewise; NULL before */
	int64_t body_bytes;          /* Content-Length; -1 chunked; 0 none */

	/* what the handler holds while it waits */
	struct ask *asks[REQUEST_ASKS_MAX];
	unsigned ask_count;
	struct reader *reader;
	struct relay *relay;
	struct ear *ear;
	struct dial *dial;
	void *memo; /* what a handler has worked out and need not work out again; owned, through free_memo */
	void (*free_memo)(void *memo);
	void *trail; /* what a handler remembers between its runs; owned, through free_trail */
	void (*free_trail)(void *trail);
	struct waiter waiter; /* wake = the server's */
	uint64_t began_mono_ms, began_mono_us;

	/* for the access log and metrics; set by handlers as they learn it; static strings or owned */
	unsigned row; /* router's own: the row that router_classify() found */
	enum metric_route route;
	enum metric_result result;
	char *log_repo;     /* owned or NULL */
	char *log_revision; /* owned or NULL */
	const char *log_dialect,
		*log_by;  /* of an inference call: its kind, and who answered; static, or NULL */
	uint64_t busy_ms; /* with -EBUSY: when upstream may be asked again */
	bool used_upstream;
	bool collapsed;
};

/* The value of a request field; ptr NULL if absent. */
struct str request_header(const struct request *r, struct str name);
/* The client's fields that a passed-on request carries: not what is between us and the client, nor the token. */
void request_forward_fields(const struct request *r, struct headers *to);
/* The same for a place that is not the Hub, such as its storage: without any field that holds a token of the Hub's. */
void request_forward_fields_abroad(const struct request *r, struct headers *to);
/*
 * Asks once per request and key. Returns 0 with *ret_answer (borrowed for the request's life) when it is
 * done, also when
 * answer->error is set; -EAGAIN after parking (return it); -ELOOP when the request has asked too often (a
 * defect: 500).
 */
int request_ask(struct request *r, struct asks *asks, struct str key, const struct question *q,
		const struct answer **ret_answer);
/* Parks until the reader / relay has news. Returns -EAGAIN, or 0 when there is news already: look again. */
int request_park_reader(struct request *r, uint64_t offset);
int request_park_relay(struct request *r, bool want_write);
int request_park_ear(struct request *r);
int request_park_dial(struct request *r);
void request_init(struct request *r, void (*wake)(struct waiter *));
void request_done(struct request *r);
