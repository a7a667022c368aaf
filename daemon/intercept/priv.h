/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intercept/priv - what the files of this room share: heads are read in head.c, names looked up in names.c, sockets opened in
 * listen.c; callers live in caller.c, and the thread with all of them in intercept.c.
 */
#pragma once
#include "intercept/intercept.h"

#include <pthread.h>
#include <stdatomic.h>
#include "common/buf.h"
#include "common/list.h"
#include "common/lock.h"

#define CALLERS_MAX 256u
#define CALLERS_PER_ADDRESS_MAX 64u
#define HEAD_MAX ((size_t)16 * 1024)
#define HEAD_MS 10000u
/* How long somebody who was refused may take to read why. */
#define LEAVE_MS 1000u
#define LISTEN_NAME_MAX 80

/* The words of the metric. */
enum road { ROAD_SERVED, ROAD_TUNNELLED, ROAD_REFUSED };

/* What woke the epoll; first in a caller. */
enum event_kind { EVENT_WAKE, EVENT_LISTEN, EVENT_CALLER };
struct event {
	enum event_kind kind;
	int fd; /* owned */
};

struct caller {
	struct event event;
	struct list node; /* in intercept->callers, or ->arrivals */
	struct intercept *owner;
	struct sockaddr_storage from;
	uint64_t until_mono_ms;
	bool may_be_tls; /* it came to a listener: nothing was read of it */
	bool is_leaving;
	struct buf
		head; /* what was read; what stands behind the head is the client's first word to whom it wants */
};

struct intercept {
	struct intercept_opts opts;
	struct splice_host host;
	pthread_t thread;
	bool has_thread;
	int epoll_fd;
	struct event on_wake;
	struct event *listeners;        /* owned */
	struct sockaddr_storage *bound; /* owned: where each listens */
	unsigned listener_count;
	char address[LISTEN_NAME_MAX];
	atomic_bool is_stopping;
	struct list callers; /* the thread's own */
	unsigned caller_count;
	struct lock lock;
	struct list arrivals;   /* guarded by lock */
	unsigned arrival_count; /* guarded by lock */
};

/* names.c */
/* is_local: the address itself is listed, so that it may be one of this machine or its networks. */
bool names_tunnel(const char *const *tunnels, struct str name, uint16_t port, bool *ret_is_local);

/* listen.c */
bool listen_is_address(const char *text);
/* Is it bound to that address, or to all of this machine and that is one of them? */
bool listen_is_at(const struct sockaddr_storage *bound, const struct sockaddr *address);
/* A listening socket, or -errno with a sentence. */
int listen_at(const char *text, char **ret_reason);
void listen_name(int fd, char ret_text[LISTEN_NAME_MAX]);

/* caller.c */
/* From any thread; not in any list yet. fd is taken. */
struct caller *caller_new(struct intercept *i, int take_fd, const struct sockaddr_storage *from);
/* Closes what it still has. */
void caller_free(struct caller *c);
/* Reads, decides. All below: on the thread, and c may be gone afterwards. */
void caller_ready(struct caller *c);
void caller_look(struct caller *c);
/* Its time is over. */
void caller_late(struct caller *c);
/* Too many of them: a word and out. */
void caller_turn_away(struct caller *c);

/* intercept.c */
/* It is listened to from now on. Returns 0; -errno. */
int intercept_keep(struct caller *c);
void intercept_forget(struct caller *c);
/* The certificate for a name of ours. See splice_host. */
int intercept_identify(void *ctx, struct str name, struct ca_leaf *ret_leaf);
