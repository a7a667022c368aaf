/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - one request passed to upstream and its answer passed back, in constant memory. Nothing is kept.
 *
 * For what the cache does not understand (any known Hub path, every method), and for blobs that do not fit
 * in the store.
 * Owns      two bounded pipes (256 KiB each way) between a server thread and the fetch thread.
 * Never     retries; stores; follows a redirect that the caller did not ask to be followed.
 * Threads   relay_* from the connection's server thread; the other ends run on the fetch thread.
 * Promises  (1) with `verify`, no byte comes out unless the Hub's own hops name that content (and its size and
 *               commit, where they tell them) and the final answer is what was asked for, not encoded; anything
 *               else is -EBADMSG. Of a whole body, the last held-back bytes come out only after the digest
 *               matched. Of a range, only what was said of it can be checked: 206, exactly that Content-Range,
 *               that many bytes.
 *           (2) the request body is sent upstream once, in order, with its framing (size or chunked) kept.
 *           (3) memory is bounded whatever either side does; a slow reader pauses upstream.
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

struct relay_query {
	const char *method;
	enum fetch_origin origin;
	struct str target;
	struct str location; /* as in struct fetch_request; empty: ask target */
	const struct headers *location_headers;
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
int relay_start(struct relays *r, const struct relay_query *q, struct relay **ret_relay);
void relay_free(struct relay *r); /* cancels */
DEFINE_SCOPE(struct relay *, relay_free);

/* Returns 0: the final head has come; -EAGAIN; or what fetch said. Headers are borrowed for the relay's
 * life. */
int relay_head(struct relay *r, int *ret_status, const struct headers **ret_headers,
	       int64_t *ret_content_length);
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
