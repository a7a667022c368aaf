/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch - everything that goes upstream. One thread, one curl multi handle.
 *
 * Three origins are asked, by configuration: the Hub, its dataset viewer, and its inference router. The other two are services
 * of the Hub, so they are given the user's token as well; no other origin ever is. Besides them, inference servers of one's own
 * (backends) may be configured: they are given what their caller gives them, and whether they are there is their caller's to know.
 * Owns      the curl handles, redirects, the breakers, the budgets of upstream's rate limits, the address check of
 *           each connection.
 * Never     gives a token to another origin than the one that was asked (design P5), follows a redirect to
 *           a host that is not allowed (design 9), retries by itself, decodes bodies, reads *_proxy variables,
 *           cookies or netrc.
 * Threads   the ops below are called on the fetch thread; they must not wait for anything. All calls here
 *           from any thread.
 * Promises  (1) on_done is called exactly once for each transfer, last, and after it nothing else is.
 *           (2) with the breaker open or offline set, on_done comes at once with -EHOSTUNREACH; but what begins at
 *               another origin (fetch_request.location) is not stopped by the breaker of the one that was asked.
 *           (3) a body that is shorter than its Content-Length ends with an error, never with 0.
 *           (4) at most FETCH_TRANSFERS_MAX transfers to the Hub and its viewer run at once, and FETCH_STREAMS_MAX to all others,
 *               and of one client no more than its share (common/shares.h): alone it has half of them. What is
 *               beyond waits for its turn, oldest first, while its time limits run, and ends with -ENOBUFS; that is no word
 *               about upstream.
 *           (5) after a 429, or when upstream says that nothing is left, nothing more is sent for that bucket and
 *               principal (anonymous, or a token) until the time it named is over, at most ten minutes: on_done comes
 *               at once with -EBUSY. After a 429 one transfer then goes alone and finds out.
 */
#pragma once
#include <sys/socket.h>
#include "common/http/header.h"
#include "common/http/uri.h"
#include "policy/policy.h"

struct fetch;
struct transfer;
struct secret; /* a token; see secret_* below */

struct fetch_opts {
	const char *hub_url;       /* "https://huggingface.co", no trailing slash; borrowed for the call */
	const char *viewer_url;    /* the dataset viewer's; NULL: there is none */
	const char *inference_url; /* the inference router's; NULL: there is none */
	const char *const
		*backend_urls; /* of the origins FETCH_BACKEND_FIRST + i; asked also when is_offline */
	unsigned backend_count;
	const char *const *
		space_urls; /* likewise of FETCH_SPACE_FIRST + i: apps of Spaces that run on machines of one's own */
	unsigned space_count;
	const char *const
		*space_hosts; /* where the Hub runs Spaces; patterns as below, but never followed to */
	const char *const *
		redirect_hosts; /* allowed besides the hub's own origin; "*.hf.co" matches subdomains; NULL ends */
	bool is_offline;        /* hub.offline: every transfer fails at once */
	const char *user_agent; /* when the client sent none */
	const char *mark;       /* sent as X-HF-Cache-Hop, to the origins only; NULL: none */
	/* Is this address one that we listen on for these very names? It is not connected to. On fetch's thread; NULL: none is. */
	bool (*is_own)(void *ctx, const struct sockaddr *address, socklen_t len);
	void *ctx;
	const char *ca_file; /* NULL: the system's */
	uint64_t connect_timeout_ms;
	struct metrics *metrics;
	const struct clock *clock;
};
int fetch_new(const struct fetch_opts *opts, struct fetch **ret_fetch);
/* Ends all transfers (on_done with -ECANCELED), joins the thread. */
void fetch_free(struct fetch *f);
/* Borrowed for the life of f. */
const struct origin *fetch_hub_origin(const struct fetch *f);
/* Far above what one uplink can use, far below the descriptors a service gets. Our own questions to origins do not count. */
#define FETCH_TRANSFERS_MAX 512
/* Of inference servers and apps: an answer takes minutes there, and most of that is waiting. */
#define FETCH_STREAMS_MAX 4096
#define FETCH_BACKENDS_MAX 32
#define FETCH_SPACES_MAX 32
enum fetch_origin {
	FETCH_HUB,
	FETCH_VIEWER,
	FETCH_INFERENCE,
	FETCH_BACKEND_FIRST,
	FETCH_SPACE_FIRST = FETCH_BACKEND_FIRST + FETCH_BACKENDS_MAX,
	FETCH_ORIGIN_COUNT = FETCH_SPACE_FIRST + FETCH_SPACES_MAX,
};
/* Is it configured? The Hub always is. */
bool fetch_has_origin(const struct fetch *f, enum fetch_origin which);
/* May a transfer begin at this absolute URL (fetch_request.location)? Any thread. */
bool fetch_may_begin_at(const struct fetch *f, enum fetch_origin which, struct str url);
/* The same of a transfer with is_space. */
bool fetch_may_begin_at_space(const struct fetch *f, enum fetch_origin which, struct str url);
/* Is it taken to be unreachable just now (offline, or its breaker is open)? Cheap; any thread. */
bool fetch_origin_is_down(const struct fetch *f, enum fetch_origin which);
/* hub.offline: is upstream never to be asked, by nobody? */
bool fetch_is_offline(const struct fetch *f);
/* The same for the Hub. */
bool fetch_is_down(const struct fetch *f);
/* Is it known by now whether the Hub is there? Not yet at first: one connection of our own finds out. Cheap; any thread. */
bool fetch_is_tried(const struct fetch *f);
/* For people: how an origin is, and since when; of a backend or the app of a Space as the last that asked it found it. */
struct fetch_view {
	const char *url;     /* for the life of f; NULL: it is not configured */
	bool is_never_asked; /* hub.offline */
	bool is_tried;       /* else nobody knows */
	int64_t down_since;  /* wall clock; 0: it is up */
	const char *reason;  /* in a few words; static; NULL while it is up */
};
void fetch_look(const struct fetch *f, enum fetch_origin which, struct fetch_view *ret);
/* Since when, wall clock; 0 while it is up. */
int64_t fetch_down_since(const struct fetch *f);

/* A token kept in memory, wiped when the last reference goes. Value: the whole Authorization field value to
 * send. */
struct secret *secret_new(struct str authorization);
struct secret *secret_ref(struct secret *s);
struct secret *secret_unref(struct secret *s);
struct str secret_value(const struct secret *s);
DEFINE_SCOPE(struct secret *, secret_unref);

/* How long until a request of this token to this target would be let through; 0: it may go now. Any thread. */
uint64_t fetch_busy_ms(struct fetch *f, enum fetch_origin which, struct str target,
		       const struct secret *token);
/* What upstream lets us ask, by bucket (policy/policy.h), over all principals. Any thread. */
struct fetch_limit {
	int64_t left, quota;   /* of the principal that has least; -1: not told */
	uint64_t window_ms;    /* until that is counted anew */
	uint64_t closed_ms;    /* the longest that somebody has to wait; 0: nobody */
	unsigned closed_count; /* how many principals */
};
void fetch_limits(struct fetch *f, struct fetch_limit ret_limits[RATE_BUCKET_COUNT]);

enum fetch_follow {
	FETCH_FOLLOW_NONE,
	FETCH_FOLLOW_SAME_ORIGIN, /* a redirect elsewhere is the answer (HEAD of an LFS file) */
	FETCH_FOLLOW_ALLOWED,     /* to the asked origin and allowed hosts; others: on_done(-EACCES) */
	FETCH_FOLLOW_OTHERS,      /* as ALLOWED; but a redirect to the asked origin itself is the answer */
};

struct fetch_request {
	const char *method;       /* GET HEAD POST PUT DELETE PATCH OPTIONS */
	enum fetch_origin origin; /* whom to ask */
	struct str target;        /* path and query there ("/api/models/x"), sent byte for byte */
	/*
	 * Not empty: the absolute URL that the asked origin gave, in an answer of its own, as the address of what is wanted
	 * (an LFS href). The transfer begins as if the origin had just answered `target` with a redirect to it: the same
	 * hosts are allowed, the token stays behind unless it is the origin's own. `target` still names the bucket and the
	 * log's request; it may be empty. `location_headers` are fields that came with it and go only there, also an
	 * Authorization of its own; may be NULL. Copied. Unlike a redirect it takes a body along: nothing was sent before.
	 */
	struct str location;
	const struct headers *location_headers;
	bool is_space; /* the app of a Space: location may be on one of space_hosts as well, and a Cookie may go there */
	const struct headers *
		headers; /* extra fields; Host, Authorization, Accept-Encoding, Connection are ours. Copied. */
	struct secret *token; /* NULL: anonymous. Referenced. */
	/* The client that it is for, of several the one that began it: its share (promise 4). Copied; empty: nobody. */
	struct str who;
	enum fetch_follow follow;
	uint64_t first_byte_timeout_ms; /* until the final answer's head; 0: 30 s */
	uint64_t stall_timeout_ms;      /* without a byte of the body, 0: 30 s; not counted while paused */
	uint64_t total_timeout_ms;      /* 0: none */
	/*
	 * Slower than this over 30 s, without pauses, is as good as a stall: -ETIMEDOUT; 0: any speed will do. Not when
	 * at most 1 MiB is still to come: starting again would take longer (reliability U12).
	 */
	uint64_t min_bytes_per_s;
	size_t receive_bytes; /* how much is read from a socket at once, 0: 64 KiB; held for as long as it runs */
	bool is_background;    /* nobody waits for it: the last tenth of a rate limit is left to others */
	bool is_once;          /* a write: on a connection of its own, on which nobody has to send it again */
	bool expects_continue; /* the body is asked for only when upstream wants it, or is silent for a second */
	bool has_body;         /* on_need_body is asked for it */
	int64_t body_bytes;    /* -1: chunked */
	uint64_t body_bytes_max; /* of the answer; 0: no limit; over it on_done(-E2BIG) */
};

struct fetch_head {
	int status;
	const struct headers *headers; /* borrowed for the call */
	unsigned hop;                  /* 0: the first answer */
	bool is_final;                 /* false: a redirect that will be followed */
	bool is_hub_origin;            /* the asked origin said it, not one that it redirected to */
	int64_t content_length;        /* -1: not said */
};

#define FETCH_PAUSE ((ssize_t)-2)
struct fetch_ops {
	/* Each hop's head. Non-zero ends the transfer with that error. May be NULL. */
	int (*on_head)(void *ctx, const struct fetch_head *head);
	/* Body of the final answer. Returns 0 to go on, FETCH_PAUSE (nothing was taken: comes again after
	 * transfer_resume), or -errno. */
	ssize_t (*on_body)(void *ctx, const void *bytes, size_t len);
	/* The request's body: bytes given (0: end), FETCH_PAUSE, or -errno. NULL without a body. */
	ssize_t (*on_need_body)(void *ctx, void *bytes, size_t len_max);
	/* error: 0; -EHOSTUNREACH (refused, no name, breaker, offline); -EBUSY (fetch_busy_ms() says how long);
	 * -EDESTADDRREQ (that origin is not configured); -ETIMEDOUT; -ECONNRESET (cut, short
	 * body); -EPROTO
	 * (not HTTP, TLS failed); -EMFILE, -ENOBUFS, -EADDRNOTAVAIL, -ENETDOWN (policy_is_own_limit(): no socket, which says
	 * nothing about upstream); -EACCES (redirect not allowed); -ELOOP; -E2BIG; -ECANCELED; or what an op
	 * returned. */
	void (*on_done)(void *ctx, int error);
};

/*
 * Begins a transfer.
 * ret_transfer  the caller's reference; release with transfer_unref() (also before on_done). NULL when not
 *               wanted.
 * Returns 0. Failures, also immediate ones, come through on_done on the fetch thread.
 */
int fetch_start(struct fetch *f, const struct fetch_request *request, const struct fetch_ops *ops, void *ctx,
		struct transfer **ret_transfer);
struct transfer *transfer_unref(struct transfer *t);
/* Continue after FETCH_PAUSE (both directions). */
void transfer_resume(struct transfer *t);
/* on_done(-ECANCELED) follows, unless it has run already. */
void transfer_cancel(struct transfer *t);
/* Runs call(ctx) on the fetch thread after delay_ms (0: as soon as possible). Never dropped: runs at
 * fetch_free() too. */
void fetch_call(struct fetch *f, uint64_t delay_ms, void (*call)(void *ctx), void *ctx);
DEFINE_SCOPE(struct transfer *, transfer_unref);
