/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server/priv - what the files of this room share.
 *
 *   server --- loop (one per core: thread, library daemon, epoll, listeners)
 *                \-- conn (one per client connection: head check, deadlines)
 *                      \-- exchange (one per request while it is served: request, reply, body)
 *
 * A loop, its conns and their exchanges belong to the loop's thread. Other threads touch an exchange only
 * through its
 * waiter (park.c), and a server only through its atomics.
 */
#pragma once
#include "server/head_check.h"
#include "server/server.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include "common/clock.h"
#include "common/list.h"
#include "common/lock.h"
#include "common/log.h"

#define CONN_PEER_MAX 46 /* INET6_ADDRSTRLEN */
/* Beside those of server_add(): it came in through the administrator's socket. */
#define CONN_ADMIN 0x100u
#define EXCHANGE_MAGIC 0x45584348u
/* The library's memory of one connection: the largest head, its structures, and the head of the answer. */
#define CONN_MEMORY ((size_t)24 * 1024)
#define SERVER_CONNECTIONS_MAX 10000u
#define SERVER_THREADS_MAX 64u
/* One sendfile of ours: at 128 KiB, the library's own, many streams cost 1.4 to 1.8 times the CPU. */
#define WIRE_SEND_MAX ((uint64_t)1024 * 1024)
/* A client that reads slower than this over a whole minute is let go (P14). */
#define CONN_RATE_MIN_BYTES_S 4096u
#define CONN_RATE_WINDOW_MS 60000u
/* Of a body that is gathered, how much stays in memory. */
#define SPOOL_MEMORY ((size_t)256 * 1024)

/* Label indices of the metrics' closed sets. */
enum rejected { REJECTED_HEAD, REJECTED_TIMEOUT, REJECTED_LIMIT, REJECTED_HOST };
enum aborted { ABORTED_CLIENT, ABORTED_UPSTREAM, ABORTED_NOT };
enum source { SOURCE_CACHE, SOURCE_FILL, SOURCE_UPSTREAM, SOURCE_OWN };

struct listener {
	int fd;         /* owned */
	bool is_shared; /* one for all loops; else the one of loop `loop` */
	bool is_admin;  /* the administrator's */
	unsigned loop;
};

struct server {
	struct router *router; /* borrowed, as the next three */
	struct auth *auth;
	struct metrics *metrics;
	const struct clock *clock;
	char *public_url;         /* owned, without a trailing slash; or NULL */
	char **hosts;             /* owned, lower case, NULL ends; NULL: any */
	char **intercepted_hosts; /* owned patterns, NULL ends; NULL: none */
	void (*on_connect)(void *ctx, int take_fd, const struct sockaddr_storage *from, struct str early);
	void *on_connect_ctx;
	uint64_t head_timeout_ms, idle_timeout_ms;
	unsigned connections_max;
	struct listener *listeners; /* owned */
	unsigned listener_count;
	char *spool_folder; /* owned */
	uint64_t spool_max;
	char **unix_paths; /* owned, NULL ends: removed at the end */
	char address[160];
	struct loop *loops; /* owned */
	unsigned loop_count;
	_Atomic unsigned connections;
	_Atomic unsigned arrivals; /* server_add(): whose turn it is */
	_Atomic bool is_draining;
	_Atomic bool is_stopping;
	int empty_fd; /* owned eventfd: written when the last connection goes while draining */
};

/* What woke a loop's epoll. */
enum event_kind { EVENT_LIBRARY, EVENT_WAKE, EVENT_LISTEN, EVENT_LINGER };
struct event {
	enum event_kind kind;
	int fd;
	bool is_admin; /* of a listener */
};

struct loop {
	struct server *server;
	unsigned index;
	pthread_t thread;
	bool has_thread;
	struct MHD_Daemon *library; /* owned */
	int epoll_fd;
	struct event on_library, on_wake; /* on_wake.fd owned: an eventfd */
	_Atomic bool is_woken;            /* it has been written and not read yet */
	struct event *on_listen;          /* owned, as are their descriptors */
	unsigned listen_count;
	bool is_accepting;             /* listeners are in the epoll */
	uint64_t accept_again_mono_ms; /* after running out of descriptors */
	int spare_fd;                  /* given up to turn a client away when there is no other descriptor */
	struct conn *adding;           /* the one that is just being given to the library */
	struct lock arrivals_lock;     /* rank SERVER */
	struct list arrivals;          /* guarded by it: sockets of server_add(), not admitted yet */
	bool takes_arrivals;           /* guarded by it */
	struct list conns;
	struct list heads; /* conns in a head, oldest first */
	struct list lingers;
	unsigned linger_count;
	uint64_t tick_mono_ms;
	_Atomic uint64_t turned_mono_ms;
	uint64_t id_seed;
};

struct conn {
	struct list node;      /* in loop->conns */
	struct list head_node; /* in loop->heads while a head is incomplete */
	struct loop *loop;
	struct MHD_Connection *library;
	int fd;
	struct head_check check;
	uint64_t head_mono_ms; /* its first byte */
	uint32_t head_number;  /* which head that was */
	uint32_t ended;        /* requests answered, to compare with check.heads */
	bool is_refused;       /* the check found a fault; the answer to what came before it is the last */
	bool is_closing;       /* reads say end of file from now on */
	bool has_unread;       /* the client may still be sending: close gently */
	bool is_left;          /* it had hung up in the middle of its body when it was last looked at */
	bool has_rest;         /* it has hung up, but the rest of its body lies unread before that */
	struct sockaddr_storage from;
	bool is_unix;              /* over a socket file of ours: never one of server_add() */
	bool is_admin;             /* over the administrator's */
	bool is_intercepted;       /* SERVER_INTERCEPTED */
	bool is_broken;            /* its last answer broke off */
	bool is_taken;             /* somebody else has the socket: the library must not shut it down */
	struct str held;           /* owned: bytes that came behind a head which asks for an upgrade */
	bool is_checked;           /* wire.c knows it; else it must not be given to the library */
	struct exchange *exchange; /* owned; NULL between requests */
	char peer[CONN_PEER_MAX];
};

/* A descriptor that the library sends from. */
struct body {
	struct exchange *exchange;
	int fd;
	uint64_t end;          /* offset after the last byte that was promised */
	struct reader *reader; /* NULL: the file is finished */
};

enum park { PARK_RUNNING, PARK_PARKING, PARK_PARKED, PARK_WOKEN };
enum phase {
	PHASE_NEW,     /* the request line has come */
	PHASE_OPENING, /* a streamed body waits until the handler has opened its relay */
	PHASE_BODY,    /* the body is coming, or there is none */
	PHASE_WHOLE,   /* all of it is here: the handler may answer */
};

struct exchange {
	unsigned magic;
	struct conn *conn;
	enum phase phase;
	_Atomic int park;
	struct request request;
	struct reply reply;
	bool has_reply;
	bool is_queued;       /* the library has the answer */
	bool is_body_refused; /* the rest of the body is thrown away */
	struct body body;
	int status;             /* 0: none was sent */
	uint64_t sent;          /* bytes of the body */
	uint64_t first_byte_us; /* from the request's begin to the answer's head */
	enum aborted aborted;
	uint64_t rate_mono_ms, rate_acked; /* begin of the window */
};

/* head of an answer that does not go through the library; also used for what is not a fault of the head */
struct wire_refusal {
	int status;
	const char *reason, *sentence, *word;
	enum rejected rejected;
};

/* wire.c */
int wire_init(void);
/* false: the number is beyond the tables. */
bool wire_add_conn(struct conn *c);
void wire_remove_conn(struct conn *c);
struct conn *wire_find_conn(int fd);
bool wire_add_body(struct body *b);
void wire_remove_body(struct body *b);
/* Calls that came in for descriptors of ours: a test sees whether the library uses them. */
uint64_t wire_recv_calls(void);
uint64_t wire_send_calls(void);
/* Of taken connections only. */
uint64_t wire_shutdown_calls(void);

/* refuse.c */
/* Answers on the bare socket and ends the connection; the line in the log and the count are made here. */
void refuse_conn(struct conn *c, const struct wire_refusal *why);
/* Answers a connection that the library never saw; closes fd. */
void refuse_fd(struct loop *l, int fd, const char *peer, const struct wire_refusal *why);
/* The check found a fault: answers it, unless earlier requests have to be answered first. */
void refuse_fault(struct conn *c);
/* Is the request that is served now the last good one before a fault? Its answer must close the connection.
 * */
bool refuse_is_next(const struct conn *c);
/* That answer has gone out: the fault is noted; there is nobody to tell. */
void refuse_silently(struct conn *c);

/* linger.c */
/* Takes fd: its write side is shut, what still comes in is thrown away for a moment, so that no RST eats
 * the answer. */
/* ends_stream: our own side has said all, and its end is told at once. */
void linger_add(struct loop *l, int fd, bool ends_stream);
void linger_read(struct loop *l, struct event *e);
void linger_tick(struct loop *l, uint64_t now_mono_ms);
void linger_done(struct loop *l);

/* conn.c */
struct conn *conn_new(struct loop *l, int fd, const struct sockaddr_storage *from, unsigned flags);
void conn_on_notify(void *cls, struct MHD_Connection *library, void **socket_context,
		    enum MHD_ConnectionNotificationCode code);
struct conn *conn_of(struct MHD_Connection *library);
/* Called by wire.c when bytes have passed the check. */
void conn_note_head(struct conn *c);
void conn_tick(struct loop *l, uint64_t now_mono_ms);
/* Are both sides over? Whatever it waits for, nobody would read it. With its own side only it may still listen. */
bool conn_is_reset(const struct conn *c);
bool conn_has_said_all(const struct conn *c);
/* Ends it from outside of the library's callbacks: the library sees the socket's end. */
void conn_cut(struct conn *c);
/* Is nothing going on: no request, no part of a head? */
bool conn_is_idle(const struct conn *c);

/* takeover.c */
/*
 * Takes the connection out of the library's hands: from now on it sees the end of the stream, and what it does to the socket does
 * nothing. Returns a duplicate of the descriptor, the caller's; -errno.
 */
int takeover(struct conn *c);
/*
 * The check has refused a request; was it a CONNECT that somebody wants?
 * bytes  the read that it was refused in; before: how many bytes of the method had come earlier
 */
bool takeover_connect(struct conn *c, struct str bytes, size_t before);
/* Bytes that came behind the head of a request for a WebSocket: for whoever it goes to; else its answer closes the connection. */
void takeover_hold(struct conn *c, struct str bytes);
/* x->reply is a dial's: joins the client to it. false: nothing has happened, the client is to be told that there is no room. */
bool takeover_join(struct exchange *x);

/* accept.c */
/* Makes a connection of the library out of fd. */
void accept_admit(struct loop *l, int fd, const struct sockaddr_storage *from, unsigned flags);
int accept_start(struct loop *l);
void accept_stop(struct loop *l);
void accept_ready(struct loop *l, struct event *e);
void accept_tick(struct loop *l, uint64_t now_mono_ms);

/* arrive.c */
void arrive_init(struct loop *l);
/* Admits those who have come by server_add(). */
void arrive_admit(struct loop *l);
/* Closes those that are left; more are refused from now on. */
void arrive_stop(struct loop *l);

/* listen.c */
int listen_open(struct server *s, const struct server_opts *opts, char **ret_reason);
void listen_close(struct server *s);

/* loop.c */
int loop_init(struct loop *l, struct server *s, unsigned index);
int loop_start(struct loop *l);
void loop_wake(struct loop *l);
void loop_join(struct loop *l);
void loop_done(struct loop *l);

/* park.c */
/* Before a waiter is registered. */
void park_prepare(struct exchange *x);
/* It was registered: suspends the connection, or has it go on at once if the news was quicker. */
void park_commit(struct exchange *x);
/* It was not registered, or is not needed any more. */
void park_abandon(struct exchange *x);
void park_wake(struct waiter *w);
/* Ends the waiting of a connection that is to be closed. */
void park_break(struct exchange *x);

/* request_glue.c */
void *glue_on_uri(void *cls, const char *uri, struct MHD_Connection *library);
enum MHD_Result glue_on_access(void *cls, struct MHD_Connection *library, const char *url, const char *method,
			       const char *version, const char *upload, size_t *upload_bytes,
			       void **exchange);
void glue_on_completed(void *cls, struct MHD_Connection *library, void **exchange,
		       enum MHD_RequestTerminationCode why);
void glue_end_exchange(struct exchange *x, enum MHD_RequestTerminationCode why);
size_t glue_keep_escapes(void *cls, struct MHD_Connection *library, char *text);

/* head_glue.c */
/* Fills x->request from the library's view of the head. Returns 0, or 1 with x->reply a refusal. */
int glue_read_head(struct exchange *x, const char *method, const char *version);

/* response.c */
/* Gives x->reply to the library. MHD_NO: close the connection. */
enum MHD_Result response_queue(struct exchange *x);

/* access_log.c */
void access_log_exchange(struct exchange *x);
