/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server - libmicrohttpd glue: request in, reply out.
 *
 * Owns      the listening sockets, one library daemon and loop thread per core, every connection, the
 *           access log.
 * Never     knows a Hub path; waits for upstream.
 * Threads   one per core: epoll_wait on the library's descriptor, then MHD_run(). Suspended connections are
 *           resumed from
 *           any thread.
 * Promises  (1) no byte of a request reaches the library before server/wire.c has checked it (reliability
 *           A.7: 89 of 89).
 *           (2) a head is complete within 10 s of its first byte, or the connection is closed (P13).
 *           (3) one access line per request, when it ends.
 *           (4) a body that cannot be completed ends with a closed connection before its promised length.
 *           (5) of a connection that is in other hands (on_connect, REPLY_DIAL) nothing is read, written or shut down any more.
 */
#pragma once
#include <sys/socket.h>
#include "router/router.h"

struct server;

struct server_opts {
	/* "127.0.0.1:8090", "[::]:8090", "0.0.0.0:0", "unix:/run/hfcached/admin.sock"; NULL ends */
	const char *const *listen;
	const int
		*inherited_fds; /* sockets from the service manager; used instead of listen when count > 0 */
	unsigned inherited_count;
	unsigned threads;         /* 0: one per core */
	unsigned connections_max; /* all threads together; 0: 10,000 or what RLIMIT_NOFILE allows */
	uint64_t head_timeout_ms; /* 0: 10 s */
	uint64_t idle_timeout_ms; /* keep-alive; 0: 75 s */
	const char *public_url;   /* or NULL */
	const char *const *hosts; /* accepted Host values besides public_url; NULL: any */
	/*
	 * A socket of its own for the administrator, mode 0600, replaced when stale and removed at the end; NULL: none.
	 * Requests that come in through it, and no others, have is_admin. `hosts` does not count there.
	 */
	const char *admin_socket;
	const char *const
		*intercepted_hosts; /* patterns (host_matches): which Hosts SERVER_INTERCEPTED serves */
	/*
	 * A TCP client has begun a CONNECT, with no request of its own unanswered: the socket, and all that was read of the
	 * CONNECT, are the callee's. On a loop's thread: must not wait. NULL, and on all other connections: 405.
	 */
	void (*on_connect)(void *ctx, int take_fd, const struct sockaddr_storage *from, struct str early);
	void *on_connect_ctx;
	const char *spool_folder; /* for bodies that are gathered; NULL: /tmp */
	uint64_t spool_max;       /* the longest of them, bytes; 0: no limit */
	struct router *router;
	struct auth *auth;
	struct metrics *metrics;
	const struct clock *clock;
};
/* Returns 0; -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, -EINVAL (address), other errno; ret_reason is a sentence
 * with the address (free()). */
int server_start(const struct server_opts *opts, struct server **ret_server, char **ret_reason);
/* "127.0.0.1:43121" of the first TCP socket, the real port when 0 was asked for. Borrowed. */
const char *server_address(const struct server *s);
/* No new connections; idle ones are closed; running answers go on up to drain_ms. Returns how many were
 * cut. */
unsigned server_drain(struct server *s, uint64_t drain_ms);
/*
 * Serves a stream socket as a connection of the client `from` (IPv4 or IPv6: never taken for one of this machine's own sockets).
 * take_fd  taken, also on failure. From any thread.
 * Returns 0; -EINVAL other families; -ESHUTDOWN draining.
 */
int server_add(struct server *s, int take_fd, const struct sockaddr_storage *from, unsigned flags);
/*
 * Its bytes were TLS when they came. A request's base is "https://" and its Host, whatever public_url says; the Host must be one of
 * intercepted_hosts, else 421; our own pages are not there (404), but for the addresses of uploads, which hub/ hands out.
 */
#define SERVER_INTERCEPTED 1u
void server_free(struct server *s);
/* NULL when each loop turned within the last 10 s, else a sentence. */
const char *server_loops_alive(struct server *s);
