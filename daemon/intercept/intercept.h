/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept - the roads of clients whose code names huggingface.co: a proxy that takes CONNECT, and a TLS listener for names that
 * the site's DNS leads here. On the inside both are ordinary connections of the server, with https in front of their Host.
 *
 *   CONNECT name:443 ──┐ (server's own port, or intercept.listen)
 *                      ├─ name in hosts   -> TLS with a leaf of the site CA -> the server
 *   TLS to the listener┘  name in tunnels -> (CONNECT only) blind bytes to the real host
 *                         else            -> 403, or the TLS alert unrecognized_name
 *
 * Owns      its listeners, and clients that have not said yet what they want.
 * Never     looks into a blind tunnel; connects to an address that a client chose: only to listed names and ports, and to no
 *           address of this machine or its networks that is not itself listed; asks upstream.
 * Threads   one of its own, "intercept": epoll over listeners and heads. intercept_take() from any thread.
 * Life      of a client: READING -> handed to splice, or -> LEAVING (told why not; a moment to read it) -> gone.
 * Promises  (1) a head is whole within 10 s and 16 KiB, or the client is let go; at most 256 such clients, 64 per address,
 *               and no more than are free for others.
 *           (2) each refusal is one line in the log with the name, and a sentence to the client that says which option allows it.
 *           (3) Proxy-Authorization and whatever else stands in a CONNECT head is neither used, kept nor logged.
 */
#pragma once
#include "ca/ca.h"
#include "common/http/host.h"
#include "splice/splice.h"

struct intercept;

/* All borrowed for the room's life. */
struct intercept_opts {
	const char *const
		*listen; /* as server.listen takes them, without unix:; may be empty (NULL at once) */
	const char *const *hosts;   /* "router.huggingface.co", "*.example.org" (all below); NULL ends */
	const char *const *tunnels; /* likewise, or an address, or "*"; with ":PORT" where it is not 443 */
	struct ca *ca;
	struct splices *splices;
	struct metrics *metrics;
	const struct clock *clock;
	/* A stream socket, whose other end is now a connection of the server, of the client `from`; or -errno. */
	int (*open_inner)(void *ctx, const struct sockaddr_storage *from);
	void *ctx;
};
/* Are the lists well written? Returns 0; -EINVAL with a sentence (free()) that begins with the option's name. Pure. */
int intercept_check(const char *const *listen, const char *const *hosts, const char *const *tunnels,
		    char **ret_reason);
/* Returns 0; -EADDRINUSE, -EACCES, -EINVAL, other errno with a sentence (free()). */
int intercept_start(const struct intercept_opts *opts, struct intercept **ret_intercept, char **ret_reason);
/* "127.0.0.1:43211" of the first listener; NULL without one. Borrowed. */
const char *intercept_address(const struct intercept *i);
/* Would a connection to this address come to one of the listeners? Any thread. */
bool intercept_is_at(const struct intercept *i, const struct sockaddr *address, socklen_t len);
/* A connection on which a CONNECT has begun: takes the socket; early is what was read of it. */
void intercept_take(struct intercept *i, int take_fd, const struct sockaddr_storage *from, struct str early);
/* Takes nobody any more, and lets go those who have not said what they want. What splice has goes on. */
void intercept_stop(struct intercept *i);
void intercept_free(struct intercept *i);

/*
 * Pure. The head of a CONNECT request (RFC 9110 9.3.6): "CONNECT name:port HTTP/1.x", fields, empty line.
 * Returns the length of the head with name (points into head) and port; -EAGAIN not whole yet; -EINVAL. Foreign bytes: fuzzed.
 */
ssize_t connect_head_parse(struct str head, struct str *ret_name, uint16_t *ret_port);
