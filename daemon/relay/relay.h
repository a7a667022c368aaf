/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - one request passed to upstream and its answer passed back, in constant memory. Nothing is kept.
 *
 * For what the cache does not understand (any known Hub path, every method), and for blobs that do not fit
 * in the store.
 * Owns      two bounded pipes (one each way) between a server thread and the fetch thread.
 * Never     retries; stores; follows a redirect that the caller did not ask to be followed.
 * Threads   relay_* from the connection's server thread; the other ends run on the fetch thread.
 * Promises  (1) with `verify`, no byte comes out unless the Hub's own hops name that content (and its size and
 *               commit, where they tell them) and the final answer is what was asked for, not encoded; anything
 *               else is -EBADMSG. Of a whole body, the last held-back bytes come out only after the digest
 *               matched. Of a range, only what was said of it can be checked: 206, exactly that Content-Range,
 *               that many bytes.
 *           (2) the request body is sent upstream once, in order, with its framing (size or chunked) kept.
 *           (3) memory is bounded whatever either side does: a slow reader pauses upstream. A relay costs at most 256 KiB,
 *               with all that libcurl and the server hold for it (eight of them 1 MiB, for fast lines; with `verify` what is held
 *               back on top). There are RELAYS_MAX at most, so 136 MiB, and of one client its share (common/shares.h): what is
 *               beyond is refused with -EUSERS at once.
 */
#pragma once
#include "common/hash.h"
#include "common/http/range.h"
#include "common/waiter.h"
#include "fetch/fetch.h"

struct relays;
struct relay;

struct relays_opts {
	struct fetch *fetch;
	struct metrics *metrics;
	const struct clock *clock;
};
struct relays *relays_new(const struct relays_opts *opts);
void relays_free(struct relays *r);

#define RELAYS_MAX 512
struct relay_query {
	struct str who; /* the client's address; empty: nobody */
	const char *method;
	enum fetch_origin origin;
	struct str target;
	struct str location; /* as in struct fetch_request; empty: ask target */
	const struct headers *location_headers;
	bool is_space; /* likewise; and its answer may take, or be silent for, ten minutes */
	const struct headers *headers;
	struct secret *token;
	enum fetch_follow follow;
	bool has_body;
	bool expects_continue;           /* as in struct fetch_request */
	int64_t body_bytes;              /* -1: chunked */
	const struct content_id *verify; /* NULL: bytes as they come; else a GET of this content, borrowed */
	/* With verify. end 0: all of it; else these bytes, and `headers` asks for exactly them. */
	struct byte_range range;
	bool is_by_digest; /* with verify: target asks for it by its digest, so that whatever is answered is said to be it */
	struct str commit; /* with verify: of this commit; empty: any */
};
/* Returns 0; -EUSERS there are too many. All else that fails comes through relay_head(). */
int relay_start(struct relays *r, const struct relay_query *q, struct relay **ret_relay);
void relay_free(struct relay *r); /* cancels */
DEFINE_SCOPE(struct relay *, relay_free);

/* Returns 0: the final head has come; -EAGAIN; or what fetch said. Headers are borrowed for the relay's
 * life. */
int relay_head(struct relay *r, int *ret_status, const struct headers **ret_headers,
	       int64_t *ret_content_length);
/*
 * With verify: the status for which relay_head() said -EACCES, -ENOENT or -EBUSY; 0: there was none. From the asked origin, or
 * from one that it redirected to?
 */
int relay_refused_status(struct relay *r, bool *ret_is_hub);
/*
 * What changes the answer's bytes on their way out, or looks at them: relay_read() gives what it makes of them. On the server
 * thread; once the head has come, before the first byte is read. Its length is then not what the head says.
 */
struct relay_filter {
	/* A piece has come: appends what becomes of it. Returns 0; other: the connection is broken off. */
	int (*piece)(void *ctx, struct str piece, struct buf *out);
	/* The answer is over, well (0) or not: appends what was still held back. Returns as piece(). */
	int (*end)(void *ctx, int error, struct buf *out);
	void (*free_ctx)(void *ctx);
	size_t piece_bytes_max; /* of what becomes of 16 KiB */
};
void relay_set_filter(struct relay *r, const struct relay_filter *filter, void *take_ctx);
/* Bytes of the answer: > 0; 0 the end; -EAGAIN; other: break the connection. */
ssize_t relay_read(struct relay *r, void *bytes, size_t len_max);
/* Has upstream asked for the request's body? Who waits for anything is woken when it does. */
bool relay_wants_body(struct relay *r);
/* Bytes of the request body: how many were taken (0..len); -EAGAIN none just now; other: upstream has gone
 * or answered, drop the rest. */
ssize_t relay_write(struct relay *r, const void *bytes, size_t len);
void relay_write_end(struct relay *r);
/* Registers w for news of head, read or write. false: there is some already (want_write: only if write
 * would take bytes). */
bool relay_wait(struct relay *r, bool want_write, struct waiter *w);
