/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice/priv - what the files of this room share.
 *
 *   splices.c (thread, epoll, mailbox, clock)
 *      \-- limits.c
 *      \-- join.c (phases) --- flow.c (one direction's bytes) --- end.c (one side, plain or TLS) --- tls.c (contexts, leaves)
 *            \-- connect.c (addresses of a name, in turn) --- lookup.c (names, on threads of their own)
 *            \-- dial.c (a connection that is to be upgraded) --- answer.c (the head that comes; pure)
 *
 * Joins and all they own belong to the splice thread. Others reach it through the mailbox (struct post); what both sides see of
 * a dial or a lookup is guarded by the lock of splices.
 */
#pragma once
#include "splice/answer.h"
#include "splice/splice.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include "common/list.h"
#include "common/lock.h"
#include "common/map.h"
#include "common/scope.h"
#include "common/shares.h"

#define JOINS_MAX 4096u
#define IDLE_MS 600000u
#define SHAKE_MS 10000u
/* For a host that says nothing more when its client has: of a tunnel, and of an upgraded connection, which ends by a word. */
#define TUNNEL_HALF_MS 30000u
#define DIAL_HALF_MS 5000u
#define CONNECT_MS 10000u
#define ANSWER_MS 30000u
#define ADDRESSES_MAX 8u
#define WHO_TEXT 64

struct join;

/* What is in the epoll. */
struct watch {
	int fd; /* owned; -1: none any more */
	void (*ready)(struct watch *w, uint32_t events);
};

/* Something that the splice thread is to do. */
struct post {
	struct list node; /* guarded by splices->lock */
	bool is_queued;   /* likewise */
	void (*run)(struct post *p);
};

struct splices {
	uint64_t idle_ms;
	char *ca_file;
	struct metrics *metrics;
	const struct clock *clock;
	pthread_t thread;
	int epoll_fd;
	struct watch wake; /* an eventfd */
	struct lock lock;
	struct shares places; /* guarded by lock: of clients, in the joins */
	struct list posts;    /* guarded by lock */
	bool is_stopping;     /* guarded by lock, as is: */
	bool is_stopped;      /* nothing is posted any more */
	bool has_thread;      /* main's */
	struct lookups *lookups;
	/* the splice thread's own */
	struct list joins;
	struct list ready; /* those that had to let others have their turn */
	struct list dead;  /* freed when no event of this turn can mean them any more */
	struct list connectors;
	struct list halves; /* sockets that stay half open for a moment, to be noticed */
	uint64_t tick_mono_ms;
	SSL_CTX *server_tls, *client_tls;
	struct map *leaves; /* name -> struct leaf */
};

/* One side of a join. */
struct end {
	struct watch watch;
	struct join *join;
	SSL *tls;    /* owned; NULL: plain */
	char *early; /* owned: what was read before it came to us */
	size_t early_at, early_len;
	bool can_read, can_write; /* as far as is known: until the next EAGAIN */
	bool is_gone;             /* closed in both directions */
	bool half_end_breaks;     /* see splice_host */
	bool is_heard_by_splice;  /* of a pair: whoever has the other side takes half an end for a break */
};

/* One direction of a join. */
struct flow {
	char *bytes; /* owned, SPLICE_BUFFER; NULL: nothing in it */
	size_t at, len;
	bool is_ended;   /* nothing more will be read */
	bool is_passed;  /* and that has been passed on */
	bool is_dropped; /* nobody takes it any more: what comes is thrown away */
};

enum join_kind { JOIN_UNWRAP, JOIN_TUNNEL, JOIN_DIAL };
enum join_phase {
	JOIN_GREETING,   /* unwrap: the greeting goes out in the clear */
	JOIN_SHAKING,    /* TLS, with the client (unwrap) or the host (dial) */
	JOIN_CONNECTING, /* tunnel, dial: name and addresses */
	JOIN_ASKING,     /* dial: its head goes out, the answer's comes in */
	JOIN_HELD,       /* dial: until somebody joins or frees it */
	JOIN_OPEN,
	JOIN_LINGERING, /* all is said; what the client still sends is thrown away for a moment, so that no RST eats it */
	JOIN_DEAD,
};

struct join {
	struct list node;       /* in splices->joins, then ->dead */
	struct list ready_node; /* in splices->ready */
	struct post post;
	struct splices *splices;
	enum join_kind kind;
	enum join_phase phase;
	struct end client, inner;
	struct flow up, down;   /* from client to inner, and back */
	uint64_t until_mono_ms; /* of the phase; 0: none */
	uint64_t moved_mono_ms; /* the last byte */
	uint64_t half_mono_ms;  /* since when its client is known to have ended; 0: it has not */
	uint64_t rate_mono_ms, rate_acked;
	size_t lingered;
	struct sockaddr_storage from;
	char who[WHO_TEXT]; /* whose place it has; empty: nobody's in particular */
	char name[256];     /* SNI, or the host that is connected to */
	uint16_t port;
	bool is_local;            /* any address will do */
	bool is_tls;              /* of the inner end */
	char *greeting, *refusal; /* owned */
	size_t greeting_at;
	const struct splice_host *host;
	void *ctx;
	struct connector *connector; /* owned */
	struct dial *dial;           /* a reference */
};

/* --- splices.c --- */
/* Returns whether it was queued now: it may be already, and nothing is when splices has stopped. */
bool splices_post(struct splices *s, struct post *p);
/* Puts an open socket into the epoll, edge-triggered both ways. */
int splices_watch(struct splices *s, struct watch *w);
/* It is watched already, as another one. */
int splices_rewatch(struct splices *s, struct watch *w);
/* Closes it. */
void splices_unwatch(struct splices *s, struct watch *w);
/* Takes fd, and closes it a second or two later. */
void splices_close_later(struct splices *s, int take_fd);
uint64_t splices_now(const struct splices *s);
/*
 * A place for one more of the client who, as text; copied into the join.
 * NULL with *ret_error: -EMFILE none is free, -EUSERS it has its share, -ESHUTDOWN.
 */
struct join *splices_admit(struct splices *s, enum join_kind kind, struct str who, int *ret_error);
/* Gives the place of this join back. */
void splices_dismiss(struct splices *s, const struct join *j);
/* Has it run once the admitted join is filled; takes it also when everything has stopped. */
void splices_start(struct splices *s, struct join *take_j);

/* --- join.c --- */
struct join *join_new(struct splices *s, enum join_kind kind);
/* On the splice thread, from now on. */
void join_enter(struct join *j);
void join_run(struct join *j);
/* Ends it: cleanly, or with a reset of whatever has not ended well. */
void join_close(struct join *j);
void join_cut(struct join *j);
/* The connector has a socket: it is the inner end. error: 0, or why there is none. */
void join_connected(struct join *j, int take_fd, int error);
/* The time of its phase is over. */
void join_run_out(struct join *j);
void join_free(struct join *j);
void join_set_phase(struct join *j, enum join_phase phase, uint64_t limit_ms);
/* Puts text in front of what comes. It must fit. */
void flow_put(struct flow *f, struct str text);

/* --- limits.c --- */
/* The address as the server writes it for its clients, so that all joins of one client are counted together; empty: none. */
void limits_who(const struct sockaddr_storage *from, char ret_who[WHO_TEXT]);
void limits_tick(struct join *j, uint64_t now_mono_ms);

/* --- flow.c --- */
/* Moves what can be moved, to a limit a turn. Returns whether there is more to do at once; -errno: from has broken. */
int flow_run(struct flow *f, struct end *from, struct end *to, uint64_t now_mono_ms, uint64_t *moved_mono_ms);
void flow_done(struct flow *f);

/* --- end.c --- */
void end_init(struct end *e, struct join *j);
/* Takes fd, and makes it non-blocking. Returns 0; -errno. */
int end_open(struct end *e, int take_fd);
/* > 0; 0: it has said all; -EAGAIN; other errno: it has broken. */
ssize_t end_read(struct end *e, char *bytes, size_t len);
ssize_t end_write(struct end *e, const char *bytes, size_t len);
/* The same below the session. */
ssize_t end_read_socket(struct end *e, char *bytes, size_t len);
ssize_t end_write_socket(struct end *e, const char *bytes, size_t len);
/* Hands. 0; -EAGAIN; -EPROTO. */
int end_shake(struct end *e);
/* We have said all. 0; -EAGAIN; other errno. */
int end_finish(struct end *e);
void end_close(struct end *e);
void end_reset(struct end *e);
void end_early(struct end *e, struct str early);

/* --- tls.c --- */
int tls_init(struct splices *s);
void tls_done(struct splices *s);
/* A session over the end's socket, as server or as client of j->name. Returns 0; -errno. */
int tls_serve(struct end *e);
int tls_ask(struct end *e);
/* Why the last call failed, for the log. Static. */
const char *tls_reason(void);

/* --- lookup.c --- */
struct address_list {
	struct sockaddr_storage items[ADDRESSES_MAX];
	unsigned count;
};
struct lookup; /* one name that is looked for */
struct lookups *lookups_new(struct splices *s);
/* Nothing is posted any more. A thread gets a second to end; one that waits for a name server then is left with what it needs. */
void lookups_stop(struct lookups *l);
void lookups_free(struct lookups *l);
/*
 * Later calls done() on the splice thread, unless it is cancelled first.
 * Returns 0; -EBUSY too many names are looked for.
 */
int lookup_start(struct lookups *l, const char *host, uint16_t port,
		 void (*done)(void *ctx, int error, const struct address_list *found), void *ctx,
		 struct lookup **ret_lookup);
void lookup_cancel(struct lookup *k);

/* --- connect.c --- */
/* j->name, j->port, j->is_local; ends in join_connected(), maybe at once. */
void connector_start(struct join *j);
void connector_tick(struct connector *c, uint64_t now_mono_ms);
struct connector *connector_from(struct list *node);
void connector_cancel(struct connector *c);
/* Frees those that have ended. */
void connector_bury(struct splices *s);

/* --- dial.c --- */
/* Its join ends; unless the answer has come, that is the dial's error. */
void dial_lost(struct dial *d, int error);
void dial_unref(struct dial *d);
/* Reads the answer's head as it comes into j->down. 0: all of it is here; -EAGAIN; other errno. */
int dial_hear(struct join *j);
