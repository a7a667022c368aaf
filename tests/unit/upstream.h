/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upstream - a small scripted HTTP/1.1 server on loopback, for unit tests of the rooms that go upstream.
 *
 * Owns      a listening socket on a free port, one thread that accepts and one per connection.
 * Never     answers by itself: the test's function writes every byte, so that it can also write wrong ones.
 * Threads   `answer` runs on connection threads, several at a time.
 */
#pragma once
#include "common/buf.h"

struct upstream;

struct upstream_call {
	struct upstream *up;
	int fd;
	char method[16];
	char target[2048];
	char head[8192]; /* all of it */
	bool close;      /* set it: the connection ends after this answer */
};
typedef void (*upstream_answer)(void *ctx, struct upstream_call *call);

struct upstream *upstream_new(upstream_answer answer, void *ctx);
/* On a port that upstream_dead_port() gave out. */
struct upstream *upstream_new_on(unsigned port, upstream_answer answer, void *ctx);
void upstream_free(struct upstream *u);
/* "http://127.0.0.1:PORT" */
const char *upstream_url(const struct upstream *u);
unsigned upstream_port(const struct upstream *u);
unsigned upstream_requests(struct upstream *u);
/* On which a request came; and all, also those on which none did. */
unsigned upstream_connections(struct upstream *u);
unsigned upstream_accepted(struct upstream *u);

/* Returns false when the client has gone. */
bool upstream_say(struct upstream_call *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool upstream_send(struct upstream_call *c, const void *bytes, size_t len);
/* A whole answer with Content-Length. */
void upstream_reply(struct upstream_call *c, int status, const char *fields, const char *body);
/* The value of a request field, "" if absent; borrowed until the next call of it on this thread. */
const char *upstream_field(const struct upstream_call *c, const char *name);
/* The request's body, of Content-Length or chunked. */
bool upstream_read_body(struct upstream_call *c, struct buf *ret_body);
/* Ends early when the test ends or the client goes away. */
void upstream_sleep(struct upstream_call *c, unsigned ms);
/* The connection ends with RST, now. */
void upstream_reset(struct upstream_call *c);
/* A loopback port that nobody listens on. */
unsigned upstream_dead_port(void);
