/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice - two byte streams joined: what one end says the other hears, until both have ended. An end may speak TLS.
 *
 * Three uses: a client's TLS is taken off, so that the server inside hears plain HTTP (interception); bytes of a client are
 * carried to a host that nobody looks into (a blind tunnel); and a connection that a handler has had upgraded at an app
 * (WebSocket).
 *
 * Owns      the joins and their sockets, the TLS sessions, name lookups for outgoing connections.
 * Never     knows what the bytes mean, beyond the head of an answer to an upgrade; keeps anything of them; decides who may
 *           be connected to: its callers do, and each address of a name is checked as fetch does it (no name leads
 *           to loopback, link-local or other special addresses, unless the caller says that it is local).
 * Threads   one of its own, "splice": epoll, never blocks; up to four more for name lookups. All calls from any thread.
 * Life      of a join: GREETING -> SHAKING (TLS) -> OPEN -> ENDING (one side has said all) -> gone.
 * Promises  (1) memory per join is bounded (two buffers of SPLICE_BUFFER, and the session's own), whatever either side does: who
 *               does not read stops the other side from being read.
 *           (2) an end of the stream is passed on as such, and bytes before it are not lost; a TLS stream that ends without
 *               close_notify, or breaks, ends the other side with a reset, not cleanly: a cut body never looks whole.
 *           (3) hands are shaken within 10 s; a join without a byte in either direction for idle_ms ends; a tunnel
 *               30 s and an upgraded connection 5 s after its client has ended, unless the host has something to say.
 *           (4) at most joins_max at a time; more are refused at once (-EMFILE). Of these no client takes another who has as
 *               many as are free (-EUSERS; common/shares.h), whatever they are used for. A client is an address.
 */
#pragma once
#include <sys/socket.h>
#include "ca/ca.h"
#include "common/clock.h"
#include "common/http/header.h"
#include "common/waiter.h"
#include "metrics/metrics.h"

struct splices;

#define SPLICE_BUFFER ((size_t)32 * 1024)
/* Of a host's head, and of the one that is told instead: both go into one buffer. */
#define SPLICE_HEAD_MAX (SPLICE_BUFFER / 2)

struct splices_opts {
	unsigned joins_max;  /* 0: 4,096 */
	uint64_t idle_ms;    /* 0: 10 min */
	const char *ca_file; /* to verify hosts that are connected to; NULL: the system's */
	struct metrics *metrics;
	const struct clock *clock;
};
/* NULL: no thread, no descriptor or no memory. */
struct splices *splices_new(const struct splices_opts *opts);
/* Cuts all joins and ends the threads. What is asked for afterwards is refused with -ESHUTDOWN. */
void splices_stop(struct splices *s);
/* Stops it; every dial has been freed by now. */
void splices_free(struct splices *s);
/* How many joins there are. */
unsigned splices_count(struct splices *s);

/* --- a client's TLS is taken off --- */

struct splice_host {
	/*
	 * The certificate for the name that the client asks for (SNI; lower case; empty when it named none). On the splice
	 * thread, must not wait. Returns 0 with a leaf of the caller's (ca_leaf_done by splice); -EACCES: not this name,
	 * the client is told unrecognized_name.
	 */
	int (*identify)(void *ctx, struct str name, struct ca_leaf *ret_leaf);
	/* Hands were shaken: returns a stream socket, taken by splice, whose other end is served for this client; -errno. */
	int (*open_inner)(void *ctx, struct str name, const struct sockaddr_storage *from);
	/*
	 * What is served inside ends its stream by closing it. An end of which the other direction stays open means that an answer
	 * broke off: the client is reset, and not told close_notify. Only for sockets of AF_UNIX.
	 */
	bool half_end_breaks;
};
/*
 * fd        a connected socket; taken, unless it is refused: then the caller may tell its client why
 * greeting  sent first, in the clear ("HTTP/1.1 200 ..."); NULL: nothing
 * early     what was read from it already
 * host      borrowed for the life of s, as is ctx
 * Protocol  TLS 1.2 and 1.3; ALPN: http/1.1 and nothing else.
 * Returns 0; -EMFILE too many; -EUSERS too many of this client; other errno.
 */
int splice_unwrap(struct splices *s, int fd, const struct sockaddr_storage *from, const char *greeting,
		  struct str early, const struct splice_host *host, void *ctx);

/* --- a blind tunnel --- */

/*
 * Connects to host:port (within 10 s), greets the client, and joins both. When that fails the client is told `refusal`
 * (a whole HTTP answer) instead of `greeting`, and is let go. is_local: the administrator named the address: any will do.
 * host, early, greeting, refusal: copied. fd and what is returned: as above.
 */
int splice_tunnel(struct splices *s, int fd, const struct sockaddr_storage *from, struct str early,
		  const char *host, uint16_t port, bool is_local, const char *greeting, const char *refusal);

/* --- a connection that is to be upgraded --- */

struct dial; /* an outgoing connection with one HTTP request on it whose answer may be 101 */

struct dial_query {
	const char *host; /* name or address */
	uint16_t port;
	bool is_tls;     /* its certificate is verified for host */
	bool is_local;   /* the administrator named it: any address will do */
	struct str head; /* the whole request head, with the empty line; copied */
	struct str who;  /* its client's address, as the server writes it; empty: nobody in particular */
};
/* Returns 0; -EMFILE, -EUSERS as above; other errno. */
int dial_start(struct splices *s, const struct dial_query *q, struct dial **ret_dial);
/*
 * Returns 0: the head of the answer has come (16 KiB at most); -EAGAIN; -EHOSTUNREACH, -ETIMEDOUT (10 s to connect, 30 s for the
 * head), -ECONNRESET, -EPROTO (no HTTP, TLS failed), -EACCES (address). Headers are borrowed for the dial's life.
 */
int dial_head(struct dial *d, int *ret_status, const struct headers **ret_headers);
/* Registers w for news of dial_head; false: there is some already. */
bool dial_wait(struct dial *d, struct waiter *w);
/*
 * The answer was 101: the client is told `head` instead of the host's, then what came behind that, and the two are joined. Takes
 * the socket, also on failure.
 * head   a whole one, with the empty line; SPLICE_HEAD_MAX at most; copied
 * early  what the client has sent behind its own; copied
 * The dial itself is still the caller's to free. Returns 0; -E2BIG; -EPROTO it was not 101; -ESHUTDOWN.
 */
int dial_join(struct dial *d, int take_client_fd, struct str head, struct str early);
/* Ends the connection unless it was joined. */
void dial_free(struct dial *d);
DEFINE_SCOPE(struct dial *, dial_free);
