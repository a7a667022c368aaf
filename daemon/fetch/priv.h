/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch/priv - the room's inside. Only files of this room include it; easy.c, loop.c and fetch.c call libcurl.
 *
 *   any thread (fetch.c)                fetch thread
 *   fetch_start() transfer_cancel()     loop.c      mail, due calls, libcurl, deadlines
 *   transfer_resume() fetch_call()      health.c    what the breakers hear, and their probes
 *        |                              transfer.c  the life of one transfer; hop.c: while a hop runs
 *        |                              easy.c      one libcurl handle per hop, its callbacks
 *        +--- mailbox, under lock ----> head.c redirect.c address.c breaker.c governor.c   no I/O
 *
 * One multi handle, and two shares for connections and TLS sessions (enum fetch_pool): libcurl looks for a
 * connection to use again only in the share of the easy handle. Each is used by one thread, so it needs no lock.
 */
#pragma once
#include <curl/curl.h>
#include <stdatomic.h>

#include "common/clock.h"
#include "common/list.h"
#include "common/lock.h"
#include "common/shares.h"
#include "fetch/breaker.h"
#include "fetch/fetch.h"
#include "fetch/governor.h"
#include "fetch/head.h"
#include "fetch/redirect.h"

#define URL_BYTES_MAX 65536

/* Two pools of connections, so that nothing bound to a connection passes from one with a token to one
 * without. */
/* Our own questions have a third: they must not wait behind what clients have asked for, each pool has a bound of its own. */
enum fetch_pool { POOL_ANONYMOUS, POOL_TOKEN, POOL_OWN, POOL_COUNT };

/* An origin that is asked by configuration: where it is, where it may redirect to, whether it is there. */
struct home {
	uint64_t told_mono_ms;         /* when a failure was last explained in the log */
	struct fetch *fetch;           /* whose part it is */
	enum fetch_origin which;       /* constant */
	struct redirect_rules rules;   /* constant; .hub is this origin */
	char *url;                     /* owned, constant; without a slash at its end; NULL: not configured */
	bool is_backend;               /* constant: no breaker, no budgets, and no uplink is needed */
	_Atomic int64_t down_since_at; /* 0: up */
	_Atomic(const char *) trouble; /* what went wrong last, in libcurl's words; static, or NULL */
	atomic_bool is_tried;          /* it was heard of, or found not to be there, since the start */
	_Atomic int64_t
		failed_since_at; /* of a backend, which has no breaker: its last answer or failure was this; 0: an answer */

	/* the fetch thread's */
	struct breaker breaker;
	bool has_gone;    /* those who wait for it are to be told */
	int gone_error;   /* of whom found out */
	CURL *connection; /* a probe, or NULL */
	bool is_asking;   /* the other kind of probe is under way */
	int question_status;
	uint64_t question_retry_ms;
};

struct fetch {
	atomic_uint refs; /* the owner, and each transfer: they may outlive fetch_free() */
	pthread_t thread;
	int wake_fd;

	/* constant */
	struct home homes[FETCH_ORIGIN_COUNT];
	char **redirect_hosts;      /* owned; lower case; NULL ends; the rules borrow it */
	char **space_hosts;         /* likewise */
	char *user_agent, *ca_file; /* owned */
	char *mark;                 /* owned, or NULL */
	bool (*is_own)(void *ctx, const struct sockaddr *address, socklen_t len); /* or NULL */
	void *ctx;
	uint64_t connect_timeout_ms;
	bool is_offline;
	struct metrics *metrics;   /* borrowed */
	const struct clock *clock; /* borrowed */

	struct lock lock;
	struct list mail;  /* of transfers; guarded by lock */
	struct list calls; /* by due time; guarded by lock */
	bool is_stopping;  /* guarded by lock */
	bool is_closed;    /* guarded by lock: the thread reads no more mail */

	struct governor governor; /* but for its key, guarded by lock */

	/* the fetch thread's own */
	CURLM *multi;
	CURLSH *pools[POOL_COUNT];
	struct list active;          /* of transfers */
	struct list waiting;         /* those of them that wait for their turn, oldest first */
	struct shares shares;        /* of those that run, to the Hub and its viewer */
	struct shares stream_shares; /* and to all others */
	bool has_room;               /* one has ended since the line was looked at */
	uint64_t now;                /* monotonic, read once a turn */
	uint64_t checked_mono_ms;
};

enum transfer_mail { MAIL_START = 1, MAIL_CANCEL = 2, MAIL_RESUME = 4 };

#define TRANSFER_MAGIC 0x7a4e5f01u

struct transfer {
	unsigned magic;
	atomic_uint refs;
	atomic_bool is_cancelled;
	struct fetch *fetch;   /* shared */
	struct list mail_node; /* guarded by fetch->lock */
	unsigned mail;         /* guarded by fetch->lock; enum transfer_mail */

	/* what was asked; constant */
	struct home *home; /* part of fetch */
	bool is_own;       /* a probe: it passes the breaker and the governor */
	bool is_read;
	struct principal principal;  /* of the token */
	char *method, *first_target; /* owned */
	size_t first_target_len;
	char *location; /* owned; NULL: the first hop is the target */
	bool is_space;
	struct str who; /* owned; empty: nobody */
	struct headers headers, location_headers;
	struct secret *token; /* shared */
	enum fetch_follow follow;
	uint64_t first_byte_timeout_ms, stall_timeout_ms, total_timeout_ms;
	bool has_body, is_once, expects_continue;
	int64_t body_bytes;
	uint64_t body_bytes_max;
	uint64_t min_bytes_per_s;
	size_t receive_bytes;
	bool is_background;
	struct fetch_ops ops;
	void *ctx;

	/* from here on the fetch thread's */
	struct list node;
	struct list wait_node; /* in fetch->waiting until its first hop begins */
	bool is_active, is_done;
	bool has_place;   /* one of its client's share */
	bool has_doubted; /* its silence was noted */
	/* once a hop was elsewhere, the token stays at home, wherever the road leads */
	bool has_left_home;
	bool is_at_location; /* this hop is the address that the caller gave: its fields go there */
	bool is_final;       /* the final head has come */
	bool is_paused_down, is_paused_up, is_body_sent;
	int error; /* why a callback broke it off */
	uint64_t since_mono_ms, began_mono_ms;
	uint64_t pace_mono_ms, pace_bytes; /* since when, and what came until then: its speed */
	uint64_t sent_bytes, received_bytes;
	int64_t content_length;

	/* this hop */
	CURL *easy;
	struct curl_slist *fields;
	unsigned hop;
	struct origin origin;
	struct buf url, next_url;
	struct origin next_origin;
	bool has_next; /* its answer is a redirect that will be followed */
	uint64_t drained_bytes;
	struct head head;
	bool has_head;
	bool is_rate_try; /* the governor let it go alone */
	enum rate_bucket bucket;
	bool is_connected;
	unsigned sockets_opened, sockets_refused;
	int own_error, last_family; /* of the last socket: why this machine did not give it; 0 */
};

/* fetch.c; any thread */
void fetch_unref(struct fetch *f);

/* loop.c */
void *fetch_main(void *p);
void fetch_wake(struct fetch *f);
void fetch_send_mail(struct transfer *t, enum transfer_mail what);

/* fetch.c; the thread's own transfer */
void fetch_start_own(struct fetch *f, const struct fetch_request *request, const struct fetch_ops *ops,
		     void *ctx);

/* health.c; fetch thread */
bool health_is_trouble(int status);
void health_note_answer(struct home *h, int status);
void health_note_words(struct home *h, CURLcode code);
/* A read has waited long for the beginning of its answer. */
void health_note_silence(struct home *h);
/* It could not be reached, by a transfer that began then. */
void health_note_failure(struct home *h, uint64_t began_mono_ms, int error);
/* Was it a probe of ours? Then it has been dealt with. */
bool health_take_connection(struct fetch *f, CURL *easy, CURLcode code);
/* Once a turn, outside of libcurl. */
void health_turn(struct fetch *f);
uint64_t health_due(const struct fetch *f);
void health_stop(struct fetch *f);

/* transfer.c; fetch thread */
struct transfer *transfer_ref(struct transfer *t);
void transfer_begin(struct transfer *t);
/* Those whose turn has come. Once a turn, outside of libcurl. */
void transfers_serve_line(struct fetch *f);
void transfer_continue(struct transfer *t);
/* libcurl is finished with this hop. */
void transfer_hop_ended(struct transfer *t, CURLcode code);
void transfer_end(struct transfer *t, int error);
void transfer_check_deadlines(struct transfer *t);
/* Is the origin that was asked answering now, or one that it redirected to? */
bool transfer_is_home_hop(const struct transfer *t);
/* Never with its query. */
void log_refused_location(struct str location);
/* An answer's head came: what it says of rate limits. */
void transfer_tell_governor(struct transfer *t);

/* hop.c, for easy.c: 0, or -errno to break off; the bodies' side also FETCH_PAUSE. */
void transfer_note_connected(struct transfer *t);
int transfer_take_line(struct transfer *t, struct str line);
ssize_t transfer_take_body(struct transfer *t, const void *bytes, size_t len);
ssize_t transfer_give_body(struct transfer *t, void *bytes, size_t len_max);
int transfer_check_address(struct transfer *t, const struct sockaddr *sa, socklen_t len);

/* easy.c */
int easy_start_hop(struct transfer *t);
void easy_end_hop(struct transfer *t);
/* Delivers what waited; may end the hop. */
void easy_continue(struct transfer *t);
CURL *easy_new_probe(struct home *h);
/* The one place that turns a CURLcode into an errno. */
int easy_error(CURLcode code);
/* Before easy_end_hop(): no connection, for want of something on our own side (policy_is_own_limit()); 0: not so. */
int easy_own_error(const struct transfer *t, CURLcode code);
struct transfer *transfer_from(void *p);
